//! The resident while other threads drive: when it must check that one does.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::process::protocol::alarm::Alarm;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Nothing is expected: 50 ms.
    Late,
    /// Tasks run to which no thread listens: 200 µs, somewhat more than a thread takes to come back and wait again.
    Soon,
    Now,
}

#[derive(Debug, Default)]
pub(super) struct Standby(Mutex<Called>);

#[derive(Debug, Default)]
struct Called {
    alarm: Option<Arc<Alarm>>,
    /// The most urgent call that was not answered yet.
    call: Option<Call>,
}

impl Standby {
    /// Called once there is something to drive.
    pub(super) fn open(&self) -> io::Result<()> {
        *self.called() = Called { alarm: Alarm::new()?.map(Arc::new), call: None };
        Ok(())
    }

    /// Makes later calls do nothing.
    pub(super) fn close(&self) {
        *self.called() = Called::default();
    }

    /// Whether the resident can be called. Without an alarm for that, it is the only thread that drives.
    pub(super) fn is_there(&self) -> bool {
        Alarm::EXISTS
    }

    pub(super) fn call(&self, call: Call) {
        // Locked while the alarm is set, so that no other sets it to a later time.
        let mut called = self.called();
        let Some(alarm) = called.alarm.as_ref().filter(|_| called.call < Some(call)) else { return };
        alarm.set(call.after());
        called.call = Some(call);
    }

    /// Waits for a call.
    pub(super) fn wait(&self) -> Option<Call> {
        let alarm = self.called().alarm.clone();
        alarm.iter().for_each(|alarm| alarm.wait());
        self.called().call.take()
    }

    fn called(&self) -> MutexGuard<'_, Called> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    fn after(self) -> Duration {
        match self {
            Self::Late => Duration::from_millis(50),
            Self::Soon => Duration::from_micros(200),
            // 0 would disarm the alarm.
            Self::Now => Duration::from_nanos(1),
        }
    }
}
