//! Worker processes.
//!
//! ```text
//!            the program                     │ a socket pair, the     │            a worker
//!                                            │ worker's stdin         │
//!  submit ──► scheduler ──► outbox ──────────┼──► Run, Want, Quit ────┼──► reader ──► inbox ──► runner: Updater ─► task
//!                 ▲                          │                        │      └─ cancel, pause, observe ──────────▲
//!  future ◄── driver ◄── decoder ◄───────────┼──── Progress, Ended ◄──┼──── outbox ◄───────────── what it shows ──┘
//!                 └─ places, counts, notes ◄─┼─ memory that is shared ┼──── what has begun, and was not sent
//! ```
//!
//! - [`wire`](protocol::wire): frames and messages. [`channel`](protocol::channel): how they are sent and received.
//!   [`memory`](protocol::memory): what outlives a worker; [`page`](protocol::page): which end decides what in there;
//!   [`live`](protocol::live): where the running task counts.
//! - [`link`](protocol::link): what carries the bytes.
//! - [`scheduler`](pool::scheduler): decides what to do, without I/O. [`driver`](pool::driver): does it, on one thread at a time
//!   for all workers: that of a caller that waits, see [`leader`](pool::leader), or its own. [`launch`](pool::launch): how a
//!   worker starts and ends.
//! - [`worker`]: the other end; [`forward`](worker::forward): what it tells about a task. [`registry`]: what it can run.
//!
//! # The protocol
//!
//! The program speaks first ([`Hello`](protocol::wire::Hello)); the worker says who it is ([`Ready`](protocol::wire::Ready)).
//! Then tasks are sent, one or many at a time, and the worker runs them in that order. When a worker is lost, the task that it
//! has begun is lost with it; those that it has not begun move on.
//!
//! A task that was sent and has not begun can be taken back: in the memory that both ends share, the first one to change
//! the word of the task's place decides. So a pending task that is cancelled never runs, and a worker is killed only because of
//! the task that it runs. Without shared memory, a worker has one task at a time and reports when that has
//! [begun](protocol::wire::Reply::Started): a kill can hit no other task, and cancelling a task that was sent is a request, as
//! for one that runs.
//!
//! The count and the message of the running task are in that memory as well, where the program [reads](pool::memories)
//! them when a caller asks. So a worker sends them only if the task is observed, and otherwise only what cannot be read there: that the
//! task waits in a pause, knows of its cancellation, has made a progress call that is waited for, or has named parts. In the
//! other direction, a task sees in its progress calls that it [must end](protocol::live::Live::request_end).
//!
//! # Launchers
//!
//! A [launcher] stands in front of the worker's command, and forwards its standard input and output. The [trampoline] makes sure
//! that the launcher ends with the program. The worker first takes on the surroundings that the program wants, see [`worker`].
//! Such a worker shares no memory, and may become unreachable without any sign of that: so both sides send heartbeats, see
//! [`heartbeat`](protocol::heartbeat). What is written to standard error is relayed, see [`pool`].
//!
//! Each side always reads, whatever else it does, so neither can wait for the other to read. Everything that the program waits
//! for has a deadline, see the [`scheduler`](pool::scheduler). The signs of death are the process itself and the channel, in
//! both directions: the channel alone is not enough, since a forked process may hold it open.
//!
//! Deliberately absent: heartbeats where the system reports the end of a process, acknowledgements (the channel is reliable),
//! and limits in the worker: the program enforces them, as for any task. The worker is told of a timeout only so that its task
//! knows it. To learn of the next progress call, the program sets one more bit of what it wants.

pub(crate) mod build_id;
pub(crate) mod builder;
pub(crate) mod error;
#[cfg(unix)]
pub(crate) mod executor;
pub(crate) mod init;
pub(crate) mod launcher;
pub(crate) mod output;
#[cfg(unix)]
pub(crate) mod pool;
pub(crate) mod program;
#[cfg(unix)]
pub(crate) mod protocol;
pub(crate) mod registry;
pub(crate) mod settings;
#[cfg(unix)]
mod setup;
mod test_worker;
#[cfg(unix)]
mod this_process;
#[cfg(unix)]
mod trampoline;
#[cfg(unix)]
pub(crate) mod worker;
#[cfg(unix)]
pub(crate) mod worker_args;
pub(crate) mod workers;

// On systems without worker processes, the types exist all the same.
#[cfg(not(unix))]
pub(crate) mod unsupported;
#[cfg(not(unix))]
pub(crate) mod protocol {
    pub(crate) mod wire;
}
