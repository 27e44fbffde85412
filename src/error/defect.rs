//! What could not be encoded or decoded.

use std::error::Error;
use std::fmt;

use crate::error::BoxError;
use crate::error::chain::{CancellationMark, texts};

/// What went wrong around a task, not in it.
#[derive(Debug)]
pub(crate) enum Defect {
    Input(BoxError),
    Output(BoxError),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input(_) => "its input",
            Self::Output(_) => "its output",
        })
    }
}

impl Error for Defect {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Input(source) | Self::Output(source)) = self;
        Some(&**source)
    }
}

/// What went wrong around a task that was cancelled all the same: that is found in its error as in any other of such a task.
#[derive(Debug)]
pub(crate) struct DefectOfCancelled(String);

impl DefectOfCancelled {
    pub(crate) fn new(defect: &(dyn Error + 'static)) -> Self {
        Self(texts(defect).collect::<Vec<_>>().join(": "))
    }
}

impl fmt::Display for DefectOfCancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for DefectOfCancelled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&CancellationMark)
    }
}
