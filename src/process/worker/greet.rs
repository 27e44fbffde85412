//! How a worker obtains its channel, and exchanges introductions with its program.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{io, process};

use rustix::io::Errno;

use crate::id::TaskId;
use crate::process::protocol::alarm::Alarm;
use crate::process::protocol::channel::{Channel, Received};
use crate::process::protocol::link::Link;
use crate::process::protocol::wake_pipe::WakePipe;
use crate::process::protocol::wire::decoder::Decoder;
use crate::process::protocol::wire::{Fingerprint, Hello, Ready, Reply, Request, VERSION, WireError};
use crate::process::registry::TaskRegistry;
use crate::process::this_process::ThisProcess;
#[cfg(feature = "cluster")]
use crate::process::worker::connect;
use crate::process::worker::forward::Outlet;
#[cfg(feature = "log")]
use crate::process::worker::logger;
use crate::process::worker::parent::Parent;
use crate::process::worker::reader::die;
use crate::process::worker::reading::Reading;
use crate::process::worker::{MISUSED, Worker, environment, said};
use crate::process::worker_args::{Role, Transport};
use crate::process::{registry, worker_args};

impl Worker {
    /// Takes over the channel, and exchanges introductions.
    pub(super) fn connect(registry: &'static TaskRegistry, role: &Role) -> Result<Arc<Self>, Box<dyn Error>> {
        let mut parent = Parent::of_this_process();
        let link = link(registry, role, &mut parent)?;
        let mut channel = Channel::over(link);
        let mut decoder = Decoder::new(1024);
        let hello = hello(&mut channel, &mut decoder, role.transport)?;
        let ready = ready(registry, role);
        let wakers = WakePipe::new().and_then(|wake| Ok((wake, Alarm::new()?)));
        let (wake, alarm) = wakers.unwrap_or_else(|error| decline(&channel, &parent, ready.clone(), &error));
        decoder.set_max_frame(hello.max_frame);
        let heartbeat = (hello.heartbeat > 0).then(|| Duration::from_nanos(hello.heartbeat));
        let worker = Arc::new(Self {
            process: ThisProcess::new(),
            registry,
            report_interval: Duration::from_nanos(hello.report_interval),
            max_frame: hello.max_frame,
            outlet: Arc::new(Outlet::new(channel, wake)),
            parent,
            reading: Mutex::new(Reading::new(decoder, heartbeat)),
            alarm,
            is_watched: AtomicBool::new(false),
            is_to_send: AtomicBool::new(false),
            store: Arc::default(),
            inbox: Mutex::default(),
            changed: Condvar::new(),
        });
        let started = worker.start_runner();
        started.unwrap_or_else(|error| decline(worker.channel(), &worker.parent, ready.clone(), &error));
        introduce(worker.channel(), &worker.parent, ready);
        // Checked only after the answer was sent, so that the program learns of a mismatch as well.
        let Hello { depth, log_level, .. } = check(hello, worker.channel(), &worker.parent)?;
        worker_args::set_depth(depth.saturating_add(1));
        TaskId::set_depth(worker_args::depth());
        #[cfg(feature = "log")]
        logger::install(log_level, worker.outlet.clone());
        #[cfg(not(feature = "log"))]
        let _ = log_level;
        Ok(worker)
    }
}

/// Answers the program.
fn introduce(channel: &Channel, parent: &Parent, ready: Ready) {
    channel.outbox().reply(Reply::Ready(ready));
    parent.send_all(channel);
}

/// Ends this process, which the system keeps from serving. The program tells why, if it is not tried again with success.
fn decline(channel: &Channel, parent: &Parent, ready: Ready, error: &io::Error) -> ! {
    let defect = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    introduce(channel, parent, Ready { defect, ..ready });
    process::exit(MISUSED)
}

/// The link to the program that the arguments of this process specify.
#[cfg_attr(not(feature = "cluster"), allow(unused_variables, reason = "only who connects has a lifeline"))]
fn link(registry: &'static TaskRegistry, role: &Role, parent: &mut Parent) -> Result<Link, Box<dyn Error>> {
    let by_hand = |error| worker_args::by_hand(registry, &error);
    role.check_input().map_err(by_hand)?;
    let is_settled = match role.transport {
        Transport::Inherited => true,
        Transport::Launched { is_settled } => is_settled,
        #[cfg(feature = "cluster")]
        Transport::Connecting { left_in } => return connect::join(registry, role, left_in, parent),
    };
    if !is_settled {
        environment::adopt(None, || Ok((worker_args::SETTLED.into(), None)))?;
    }
    Ok(role.take_channel().map_err(by_hand)?)
}

/// Waits for the program to introduce itself.
fn hello(channel: &mut Channel, decoder: &mut Decoder, transport: Transport) -> Result<Hello, Box<dyn Error>> {
    loop {
        match channel.receive_first(decoder) {
            Some(Received::Some | Received::Nothing) => {}
            // It has ended, as any program may: there is nobody to tell.
            Some(Received::End) if transport == Transport::Inherited => die(),
            // The launcher may have ended the stream, and passes this on.
            Some(Received::End | Received::Broken(_)) | None => {
                return Err("the program that started this worker is gone, or has not said hello".into());
            }
        }
        match decoder.next_request().map_err(|error| said(&error))? {
            Some(Request::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(said(&WireError::NoHello).into()),
            None => {}
        }
    }
}

/// Returns the introduction, if this worker can serve the program.
fn check(hello: Hello, channel: &Channel, parent: &Parent) -> Result<Hello, Box<dyn Error>> {
    if hello.version != VERSION {
        return Err(said(&WireError::Version(hello.version)).into());
    }
    if parent.is_other_than(hello.parent) {
        // The program has ended. The channel does not show that: another process may hold the program's end.
        die();
    }
    if hello.shares_memory && channel.memory().is_none() {
        return Err("the memory that it shares with the program that started it could not be mapped".into());
    }
    Ok(hello)
}

fn ready(registry: &'static TaskRegistry, role: &Role) -> Ready {
    let fingerprint = match role.transport {
        Transport::Inherited => registry::fingerprint(Some(registry)),
        // The program can say which machine this is.
        _ => registry::portable_fingerprint(Some(registry)).unwrap_or(Fingerprint { binary: 0, tasks: 0 }),
    };
    Ready { version: VERSION, fingerprint, origin: environment::origin(), defect: 0 }
}
