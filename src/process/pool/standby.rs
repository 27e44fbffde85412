//! The driver's own thread while others drive: when it is to check that somebody does.

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::process::protocol::alarm::Alarm;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Nothing is expected: 50 ms.
    Late,
    /// Tasks run, which nobody listens to meanwhile: 200 µs, somewhat more than a thread takes to come back and wait
    /// again.
    Soon,
    Now,
}

#[derive(Debug, Default)]
pub(super) struct Standby {
    alarm: OnceLock<Alarm>,
    /// The most urgent call that was not answered yet.
    called: Mutex<Option<Call>>,
}

impl Standby {
    /// Called once there is something to drive.
    pub(super) fn open(&self) -> io::Result<()> {
        if self.alarm.get().is_none() {
            Alarm::new()?.into_iter().for_each(|alarm| _ = self.alarm.set(alarm));
        }
        Ok(())
    }

    /// Without an alarm to call it, the driver's own thread is the only one that drives.
    pub(super) fn is_there(&self) -> bool {
        self.alarm.get().is_some()
    }

    pub(super) fn call(&self, call: Call) {
        let Some(alarm) = self.alarm.get() else { return };
        // Held while the alarm is set, so that no other sets it to a later time.
        let mut called = self.called();
        if *called < Some(call) {
            *called = Some(call);
            alarm.set(call.after());
        }
    }

    /// Waits for a call.
    pub(super) fn wait(&self) -> Option<Call> {
        self.alarm.get().into_iter().for_each(Alarm::wait);
        self.called().take()
    }

    fn called(&self) -> MutexGuard<'_, Option<Call>> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    fn after(self) -> Duration {
        match self {
            Self::Late => Duration::from_millis(50),
            Self::Soon => Duration::from_micros(200),
            // 0 would be never.
            Self::Now => Duration::from_nanos(1),
        }
    }
}
