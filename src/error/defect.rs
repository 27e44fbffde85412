//! What could not be encoded or decoded.

use std::error::Error;
use std::fmt;

use crate::error::BoxError;

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
