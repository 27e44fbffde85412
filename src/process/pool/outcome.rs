//! Derives how a task ended from what its worker sent, or from how the worker ended.

use std::time::Duration;

use crate::codec::Encoded;
use crate::error::remote::RemoteError;
use crate::error::{CancelCause, Cancelled, TaskErrorKind};
use crate::process::pool::launch::End;
use crate::process::pool::launch::child::stopped_by;
use crate::process::pool::remote::Loss;
use crate::process::pool::scheduler::events::KillReason;
use crate::process::protocol::wire::{Ending, Outcome, WireError};
use crate::task::{TaskRef, state};

pub(super) fn result_of(task: &TaskRef, outcome: Outcome) -> Result<Encoded, Loss> {
    let (ending, texts, partial) = match outcome {
        Outcome::Value(output) => return Ok(output),
        Outcome::Partial(output) => (Ending::Cancelled, vec![Cancelled.to_string()], Some(output)),
        Outcome::Error(ending, texts) => (ending, texts, None),
    };
    let is_requested = task.core.state.load() & state::CANCEL != 0;
    let kind = if ending == Ending::Cancelled && is_requested { cancelled_kind(task) } else { ending.kind() };
    Err(match ending {
        Ending::Panicked => Loss { panic: texts.into_iter().next(), ..Loss::of(kind) },
        // A task that was cancelled before its function was called has no cause.
        _ if texts.is_empty() => Loss { partial, ..Loss::of(kind) },
        _ => Loss { source: Some(RemoteError::from_chain(texts).of(&kind).into()), partial, ..Loss::of(kind) },
    })
}

pub(super) fn cancelled_kind(task: &TaskRef) -> TaskErrorKind {
    TaskErrorKind::Cancelled(CancelCause::from_bits(state::cause(task.core.state.load())))
}

/// The last words of a worker on standard error, as the source of an error.
fn source_from(last_output: &str) -> Option<RemoteError> {
    (!last_output.is_empty()).then(|| format!("last output: {last_output}").into())
}

pub(super) fn loss(
    task: &TaskRef,
    grace: Duration,
    End { exit, fault, stopped, remains, last_output, .. }: End,
    reason: Option<KillReason>,
) -> Loss {
    let stopped = stopped.map_or(String::new(), |signal| format!("; {}", stopped_by(signal)));
    let lost = TaskErrorKind::WorkerLost(exit);
    let (kind, source) = match (reason, fault) {
        (Some(KillReason::IgnoredCancel), _) => {
            let what = format!("it took no notice for {grace:?}, so the process that ran it was killed{stopped}");
            (cancelled_kind(task), Some(RemoteError::from(what)))
        }
        (Some(KillReason::Stopped), _) => {
            let what = format!("it had noticed, but its process was stopped for {grace:?}, and so was killed{stopped}");
            (cancelled_kind(task), Some(RemoteError::from(what)))
        }
        (Some(KillReason::Unheard), _) => {
            let what = format!("it had ended, but its outcome did not arrive, so its process was killed{stopped}");
            (cancelled_kind(task), Some(RemoteError::from(what)))
        }
        (Some(KillReason::Silent), _) => {
            // If it was asked to end meanwhile, it counts as cancelled.
            let is_requested = task.core.state.load() & state::CANCEL != 0;
            let kind = if is_requested { cancelled_kind(task) } else { lost };
            (kind, Some(format!("its worker was killed, because it said nothing{stopped}").into()))
        }
        (_, Some(fault)) => {
            let what = match &fault {
                silence @ WireError::Silence(_) => format!("its worker was killed, because it has said {silence}"),
                fault => format!("its worker was killed, because of what it had sent: {fault}"),
            };
            let launcher = remains.as_ref().map(|remains| format!("; {}", remains.description_so_far()));
            (lost, Some((what + &launcher.unwrap_or_default()).into()))
        }
        (_, None) => {
            (lost, remains.as_ref().map(|remains| remains.description(exit).into()).or(source_from(&last_output)))
        }
    };
    let place = remains.map(|remains| remains.site.to_string());
    Loss { source: source.map(|source| source.of(&kind).into()), place, ..Loss::of(kind) }
}
