//! What bars write to.

use std::io::Write;

/// A writer, until it fails.
#[derive(Debug)]
pub(super) struct Out<W>(Option<W>);

impl<W: Write> Out<W> {
    pub(super) fn new(out: W) -> Self {
        Self(Some(out))
    }

    /// A writer that discards everything.
    pub(super) fn nowhere() -> Self {
        Self(None)
    }

    /// Writes in one go, so that other users of the writer do not come in between.
    pub(super) fn say(&mut self, text: &str) {
        if let Some(out) = &mut self.0 {
            if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                self.0 = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Out;
    use std::io::{self, Write};
    use std::sync::Arc;

    /// Fails, and shows whether it is still held.
    struct Broken {
        _held: Arc<()>,
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_fails_is_let_go_of() {
        let held = Arc::new(());
        let mut out = Out::new(Broken { _held: held.clone() });
        assert_eq!(Arc::strong_count(&held), 2);
        out.say("first");
        assert_eq!(Arc::strong_count(&held), 1);
        out.say("second");
    }
}
