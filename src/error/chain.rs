//! An error and its sources, any of which may be foreign: where the chain ends, and how it is shown.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::iter;
use std::ptr;

use crate::sync::unwind::quietly;

/// The source of every [`Cancelled`](crate::Cancelled), however wrapped.
#[derive(Debug)]
pub(crate) struct CancellationMark;

impl fmt::Display for CancellationMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was asked to end")
    }
}

impl Error for CancellationMark {}

/// The message of [`Cancelled`](crate::Cancelled).
pub(crate) const CANCELLED: &str = "the task was cancelled";

/// The longest chain of sources that is followed: there may be no end to it.
const DEEPEST_CHAIN: usize = 1024;

/// Whether `error` is [`Cancelled`](crate::Cancelled), or has it as a source.
pub(crate) fn is_cancellation(error: &(dyn Error + 'static)) -> bool {
    chain(Some(error)).any(|error| error.is::<CancellationMark>())
}

/// An error and its sources, up to one that panics when asked for its source, or that is in the chain already.
pub(crate) fn chain<'a>(first: Option<&'a (dyn Error + 'static)>) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut seen: Vec<*const (dyn Error + 'static)> = Vec::new();
    let is_new = move |error: &&'a (dyn Error + 'static)| {
        // Compared with its vtable, as an error and its first field have the same address. One error may have several
        // vtables; then the limit ends the chain.
        let is_new = !seen.iter().any(|&other| ptr::eq(other, *error));
        seen.push(*error);
        is_new
    };
    let errors = iter::successors(first, |&error| quietly(|| error.source()).flatten());
    errors.take_while(is_new).take(DEEPEST_CHAIN)
}

/// Appends the messages of an error's sources, on the same line.
pub(crate) fn fmt_chain(error: &(dyn Error + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = OneLine(f);
    texts(error).skip(1).try_for_each(|text| write!(line, ": {text}"))
}

/// Joins lines with spaces: names, panics and the errors of users may have several.
pub(crate) struct OneLine<'a, W>(pub(crate) &'a mut W);

impl<W: fmt::Write> fmt::Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split(['\n', '\r']);
        self.0.write_str(lines.next().unwrap_or_default())?;
        lines.map(str::trim_start).try_for_each(|line| write!(self.0, " {line}"))
    }
}

/// Appends the messages of an error's sources, one per line.
pub(crate) fn fmt_causes(error: &(dyn Error + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    texts(error).skip(1).enumerate().try_for_each(|(number, text)| {
        let heading = if number == 0 { "\n\nCaused by:" } else { "" };
        write!(f, "{heading}\n    {text}")
    })
}

/// The message of an error, and then of each of its sources. There may be no end to them.
pub(crate) fn texts<'a>(error: impl Into<Option<&'a (dyn Error + 'static)>>) -> impl Iterator<Item = String> {
    // The mark repeats what the error before it says.
    let texts = chain(error.into()).filter(|error| !error.is::<CancellationMark>()).map(text);
    let mut is_told = false;
    texts.filter(move |text| {
        // The error that a cancelled task passes on repeats the message, too.
        let is_told_again = is_told && text == CANCELLED;
        is_told |= text.contains(" was cancelled");
        !is_told_again
    })
}

/// The message of an error, even if its `Display` fails or panics.
fn text(error: &(dyn Error + 'static)) -> String {
    let text = quietly(|| {
        let mut text = String::new();
        // What it said before it failed is kept.
        let _ = write!(text, "{error}");
        text
    });
    text.unwrap_or_else(|| "an error that panics when it is displayed".into())
}

#[cfg(test)]
mod tests {
    use super::texts;
    use std::error::Error;
    use std::fmt;

    #[derive(Debug)]
    enum Odd {
        CannotBeShown,
        PanicsWhenShown,
        HasItself,
        PanicsWhenAsked,
        HasAnother(Box<Odd>),
    }

    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("odd")?;
            match self {
                Self::CannotBeShown => Err(fmt::Error),
                Self::PanicsWhenShown => panic!("shown"),
                _ => Ok(()),
            }
        }
    }

    impl Error for Odd {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::HasItself => Some(self),
                Self::PanicsWhenAsked => panic!("asked"),
                Self::HasAnother(other) => Some(&**other),
                _ => None,
            }
        }
    }

    /// Two errors at the same place, of which one is the other's source.
    #[derive(Debug)]
    struct Around(Odd);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(&self.0, f)
        }
    }

    impl Error for Around {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn told(error: &(dyn Error + 'static)) -> Vec<String> {
        texts(error).collect()
    }

    #[test]
    fn an_error_is_told_whatever_its_code_does() {
        assert_eq!(told(&Odd::CannotBeShown), ["odd"]);
        assert_eq!(told(&Odd::PanicsWhenShown), ["an error that panics when it is displayed"]);
        assert_eq!(told(&Odd::HasItself), ["odd"]);
        assert_eq!(told(&Odd::PanicsWhenAsked), ["odd"]);
        assert_eq!(told(&Odd::HasAnother(Box::new(Odd::HasItself))), ["odd", "odd"]);
        assert_eq!(told(&Around(Odd::CannotBeShown)), ["odd"; 2]);
        assert_eq!(texts(None).count(), 0);
    }
}
