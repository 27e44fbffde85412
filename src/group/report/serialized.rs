//! The fields of reports that are serialized in a form of their own.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::error::TaskErrorKind;

pub(super) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

pub(super) fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_ref().map(Duration::as_secs_f64).serialize(serializer)
}

pub(super) fn since_epoch<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), serializer)
}

pub(super) fn maybe_text<S: Serializer>(kind: &Option<TaskErrorKind>, serializer: S) -> Result<S::Ok, S::Error> {
    kind.as_ref().map(TaskErrorKind::to_string).serialize(serializer)
}
