//! A worker to which no descriptor can be sent. A program of its own, because the limit is that of the whole process.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use progress_executor::{ExecutorExt, ProcessPoolExecutor};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{capabilities, set_capabilities};

use crate::support::{count, within_deadline};

progress_executor::test_worker!(count);

/// Sends a descriptor, which nobody receives.
fn send_descriptor(to: &UnixStream) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [to.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())
}

#[test]
fn a_worker_serves_although_no_descriptor_can_be_sent_to_it() {
    /// How many descriptors may be open, and also on their way to other processes.
    const LIMIT: u64 = 60;
    within_deadline(|| {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        (0..2 * LIMIT).for_each(|_| _ = send_descriptor(&ours).unwrap());
        // The limit does not hold for an administrator. The threads of the pool inherit this from this one.
        let mut allowed = capabilities(None).unwrap();
        allowed.effective = allowed.effective.difference(allowed.effective);
        set_capabilities(None, allowed).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..getrlimit(Resource::Nofile) }).unwrap();
        send_descriptor(&ours).unwrap_err();
        let pool = ProcessPoolExecutor::new(1).unwrap();
        assert_eq!(pool.submit(count, 2).wait().unwrap(), 2);
    });
}
