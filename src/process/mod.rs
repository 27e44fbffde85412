//! Worker processes.
//!
//! ```text
//!            the program                    │ a socket pair, the    │               a worker
//!                                           │ worker's stdin        │
//!  submit ──► desk ──► outbox ──────────────┼──► Run, Want, .. ─────┼──► watcher ──► inbox ──► main: Updater ─► task
//!               ▲                           │                       │     or main                │
//!  future ◄── supervisor ◄── decoder ◄──────┼──── Started, ..  ◄────┼──── outbox ◄───────────────┴─ what it shows
//! ```
//!
//! - [`wire`](protocol::wire): frames and messages. `line`: how they are sent and received. `journal`: what outlives a worker.
//! - `desk`: who does what. `supervisor`: one thread for each worker. `launch`: its start and its end.
//! - `worker`: the other end; `forward`: what it tells of a task; `alarm`: when its watcher wakes; `role`: that it is one. `registry`: what it can run. `image`: what program that is.
//!
//! # The protocol
//!
//! The program speaks first ([`Hello`](protocol::wire::Hello)); the worker says who it is ([`Ready`](protocol::wire::Ready)). Then tasks are
//! sent, one or many at a time. The worker runs them in that order and says when each has
//! [started](protocol::wire::Reply::Started), before it does, and how it has [ended](protocol::wire::Reply::Ended). What it has started when
//! its channel closes is lost; what it has not, moves on.
//!
//! A task that was sent is *lent*: only the worker knows whether it is about to start. So what is
//! [wanted](protocol::wire::Request::Want) of it is sent there. If it has not started, it is [returned](protocol::wire::Reply::Returned), and
//! then nobody runs it who was not meant to. If it has, the worker has [heard](protocol::wire::Reply::Heard) of it, and starts no
//! other task before it is told to [proceed](protocol::wire::Request::Proceed). So the program may kill the worker, after the grace
//! and after it has asked once more, and can only hit the task that it means to.
//!
//! Each side always reads, whatever else it does, so neither can wait for the other to read.
//!
//! Deliberately absent: heartbeats (a closed channel is the sign of death in both directions), acknowledgements (the
//! channel is reliable), shared memory (it gains nothing without spinning), and limits in the worker: the program sees to
//! them, as it does for any task. The worker is told of a time-out only for its task to know, and is asked for the next
//! progress call, where somebody wants to know of that, with one more bit of what is wanted.

#[cfg(unix)]
pub(crate) mod builder;
pub(crate) mod error;
#[cfg(unix)]
pub(crate) mod executor;
pub(crate) mod init;
#[cfg(unix)]
pub(crate) mod pool;
pub(crate) mod program;
#[cfg(unix)]
pub(crate) mod protocol;
pub(crate) mod registry;
mod test_worker;
#[cfg(unix)]
pub(crate) mod worker;
#[cfg(unix)]
pub(crate) mod worker_args;

// Where there are no worker processes, there are the types all the same.
#[cfg(not(unix))]
pub(crate) mod unsupported;
#[cfg(not(unix))]
pub(crate) mod protocol {
    pub(crate) mod wire;
}
