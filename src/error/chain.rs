//! An error and its sources, of which one may be anything: where that ends, and how it is shown.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::iter;
use std::ptr;

use crate::sync::unwind::quietly;

/// The source of every [`Cancelled`](crate::Cancelled), however that is wrapped.
#[derive(Debug)]
pub(crate) struct CancellationMark;

impl fmt::Display for CancellationMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was asked to end")
    }
}

impl Error for CancellationMark {}

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

/// Appends what the sources of an error say, on the same line.
pub(crate) fn fmt_chain(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = OneLine(f);
    sources(error).try_for_each(|source| write!(line, ": {source}"))
}

/// Joins lines by spaces: names, panics and the errors of users may have several.
pub(crate) struct OneLine<'a, 'b>(pub(crate) &'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.split(['\n', '\r']);
        self.0.write_str(lines.next().unwrap_or_default())?;
        lines.map(str::trim_start).try_for_each(|line| write!(self.0, " {line}"))
    }
}

/// Appends what the sources of an error say, one a line.
pub(crate) fn fmt_causes(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    sources(error).enumerate().try_for_each(|(number, source)| {
        let heading = if number == 0 { "\n\nCaused by:" } else { "" };
        write!(f, "{heading}\n    {source}")
    })
}

fn sources(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    // The mark repeats what the error above it says.
    chain(error.source()).filter(|source| !source.is::<CancellationMark>())
}
