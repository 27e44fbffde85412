//! What a worker on this machine writes, if that is captured.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;

use crate::id::WorkerId;
use crate::process::output::OutputStream;
use crate::process::pool::output::line_stream::{LineStream, Writers};
use crate::process::protocol::descriptor::above_standard;

/// Its standard output and error.
pub(crate) struct CapturedOutput {
    pub(crate) streams: [Arc<LineStream>; 2],
    pub(crate) writers: Arc<Writers>,
}

impl CapturedOutput {
    /// Captures the output of `child`, if it is piped.
    pub(crate) fn of(child: &mut Child, is_muted: bool) -> io::Result<Option<Self>> {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else { return Ok(None) };
        let (worker, writers) = (WorkerId::Process { id: child.id(), host: None }, Writers::new());
        let stream = |fd: OwnedFd, stream| {
            LineStream::new(above_standard(fd)?, stream, worker.clone(), String::new(), Some(writers.clone()))
        };
        let stdout = stream(stdout.into(), OutputStream::Stdout)?;
        stdout.mute(is_muted);
        Ok(Some(Self { streams: [stdout, stream(stderr.into(), OutputStream::Stderr)?], writers }))
    }

    /// Notes that the worker is ready: its output counts from now on.
    pub(crate) fn listen(&self) {
        self.streams[0].mute(false);
    }

    /// Notes that a task ends: what was written so far belongs to it.
    pub(crate) fn end_task(&self, id: u64) {
        self.streams.iter().for_each(|stream| stream.end_task());
        self.writers.end(id);
    }

    /// Notes that the process is gone.
    pub(crate) fn leave(&self) {
        self.streams.iter().for_each(|stream| stream.leave());
    }

    /// The end of what it has written to standard error.
    pub(crate) fn last_output(&self) -> String {
        self.streams[1].last_output()
    }
}
