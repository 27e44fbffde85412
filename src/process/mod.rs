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
//!   [`memory`](protocol::memory): what outlives a worker; [`page`](protocol::page): who decides what in there;
//!   [`live`](protocol::live): where its task counts.
//! - [`link`](protocol::link): what carries the bytes.
//! - [`scheduler`](pool::scheduler): who does what, without doing it. [`driver`](pool::driver): does it, on one thread
//!   at a time for all workers: on that of whoever waits, see [`leader`](pool::leader), or on its own. [`launch`](pool::launch): how a worker starts and ends.
//! - [`worker`]: the other end; [`forward`](worker::forward): what it tells of a task. [`registry`]: what it can run.
//!
//! # The protocol
//!
//! The program speaks first ([`Hello`](protocol::wire::Hello)); the worker says who it is ([`Ready`](protocol::wire::Ready)).
//! Then tasks are sent, one or many at a time, and the worker runs them in that order. What it had begun when it is lost
//! is lost with it; what it had not moves on.
//!
//! A task that was sent and has not begun can be taken back: in the memory that both ends share, the first one to change
//! the word of its place decides. So a pending task that is cancelled never runs, and a worker is only killed for the task
//! that it runs. Where no memory is shared, a worker has one task at a time and says when it has
//! [begun](protocol::wire::Reply::Started): there is no other that could be hit, and to cancel a task that was sent is a
//! request like that for one that runs.
//!
//! What the task that runs counts and says stands in that memory as well, where [whoever asks](pool::windows) looks it up.
//! So a worker tells of it only where somebody observes the task, and else of what cannot be looked up: that it waits in a
//! pause, knows of its cancellation, has made a progress call that somebody waits for, or has parts with a name. The other
//! way round, a task sees in its progress calls that it [is to end](protocol::live::Live::request_end).
//!
//! # Launchers
//!
//! A [launcher] stands in front of the worker's command, and passes on what goes through its standard input and output.
//! The [trampoline] sees to it that it ends with the program. The worker first sees to the surroundings that it is to have,
//! see [`worker`]. Such a worker shares no memory, and may be out of reach without that anybody is told: both sides let the
//! other hear from them, see [`pulse`](protocol::pulse). What is said on standard error is relayed, see [`pool`].
//!
//! Each side always reads, whatever else it does, so neither can wait for the other to read. Whatever the program waits
//! for has a deadline, see the [`scheduler`](pool::scheduler). The signs of death are the process itself and the channel,
//! in both directions: the channel alone may be held by a process that was forked.
//!
//! Deliberately absent: heartbeats where the system tells of the end of a process, acknowledgements (the channel is
//! reliable), and limits in the worker: the program sees to them, as it does for any task. The worker is told of a time-out only for its task to know, and is asked for the next
//! progress call, where somebody wants to know of that, with one more bit of what is wanted.

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
#[cfg_attr(not(unix), allow(dead_code, reason = "only where there are worker processes"))]
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

// Where there are no worker processes, there are the types all the same.
#[cfg(not(unix))]
pub(crate) mod unsupported;
#[cfg(not(unix))]
pub(crate) mod protocol {
    pub(crate) mod wire;
}
