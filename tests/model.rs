//! A model check of the lock-free files, with [loom](https://docs.rs/loom): every interleaving of a few threads, and
//! every value that a load may see.
//!
//! The files are compiled again here, with the primitives of loom instead of those of the standard library.

#![cfg(target_pointer_width = "64")]
#![allow(dead_code)] // Not every function of the files is part of a model.

#[path = "../src/task/counts.rs"]
mod counts;
#[path = "../src/process/pool/leader.rs"]
mod leader;
#[path = "../src/process/protocol/live.rs"]
mod live;
#[path = "../src/process/protocol/page.rs"]
mod page;
#[path = "../src/task/state.rs"]
mod state;

#[path = "../src/sync"]
mod sync {
    pub(crate) mod clock;
    pub(crate) mod seqlock;
    pub(crate) mod unwind;
    pub(crate) mod waiter;

    pub(crate) mod primitives {
        pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
        pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
        pub(crate) use loom::thread::yield_now as spin_loop;

        /// The part of it that is used here: one place, whose value is swapped as a whole.
        #[derive(Default)]
        pub(crate) struct AtomicCell<T>(Mutex<T>);

        impl<T: Default> AtomicCell<T> {
            pub(crate) fn swap(&self, value: T) -> T {
                std::mem::replace(&mut self.0.lock().unwrap(), value)
            }

            pub(crate) fn take(&self) -> T {
                self.swap(T::default())
            }
        }
    }
}

mod task {
    pub(crate) use crate::counts;
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use counts::{Cells, Counter, Counts};
use leader::{Follower, Leadership};
use live::{Live, Seen};
use page::{Doomed, Place};
use state::{Cancel, State, Unclaimed};
use sync::clock::{Clock, Span};
use sync::seqlock::Sequence;
use sync::waiter::Waiter;

/// Runs `act` on another thread, with what both threads share.
fn beside<T: 'static, R: 'static>(shared: &Arc<T>, act: impl FnOnce(&T) -> R + 'static) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || act(&shared))
}

#[test]
fn a_pending_task_is_claimed_or_sealed_by_exactly_one() {
    loom::model(|| {
        let state = Arc::new(State::new());
        let claim = |state: Arc<State>| move || state.claim().is_ok();
        let worker = thread::spawn(claim(state.clone()));
        let canceller = beside(&state, |state| state.request_cancel(1));
        let sealed = state.seal();
        let (claimed, cancel) = (worker.join().unwrap(), canceller.join().unwrap());
        let owners = [claimed, sealed, cancel == Cancel::Sealed];
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1, "{owners:?}");
        assert!(!state::is_pending(state.load()));
        assert_eq!(state::cause(state.load()), 1);
    });
}

/// A line that a task says while its future is polled for the first time is shown by exactly one of the two threads.
#[test]
fn a_line_is_said_early_and_taken_or_shown_at_once() {
    loom::model(|| {
        let task = Arc::new((State::new(), loom::sync::Mutex::new(0)));
        let say = beside(&task, |task| {
            let (state, early_lines) = task;
            if state.set(state::SAID) & state::ATTENDED == 0 {
                let mut early_lines = early_lines.lock().unwrap();
                if state.load() & state::ATTENDED == 0 {
                    *early_lines += 1;
                    return 0;
                }
            }
            1
        });
        let (state, early_lines) = &*task;
        let taken = if state.attend() {
            0
        } else {
            let mut early_lines = early_lines.lock().unwrap();
            state.set(state::ATTENDED);
            std::mem::take(&mut *early_lines)
        };
        let shown = say.join().unwrap();
        assert_eq!((taken + shown, *early_lines.lock().unwrap()), (1, 0));
    });
}

/// A task that is cancelled while it waits in another process is sealed by exactly one thread: by the one that takes it
/// back, if the request came first, and otherwise by the request.
#[test]
fn a_task_that_is_given_back_is_sealed_once_where_it_was_cancelled() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.lend().unwrap();
        let canceller = beside(&state, |state| state.request_cancel(1));
        let sealed_by_holder = state.take_back();
        let claimed = state.claim().is_ok();
        let cancel = canceller.join().unwrap();
        match cancel {
            // Requested before the task was taken back, or after it was claimed.
            Cancel::Told => assert_ne!(sealed_by_holder, claimed),
            Cancel::Sealed => assert!(!sealed_by_holder && !claimed),
            Cancel::Late => panic!("nobody else cancels it"),
        }
    });
}

/// A task that may be lent to another process runs there or here, and never both.
#[test]
fn a_task_is_lent_or_claimed_by_exactly_one() {
    loom::model(|| {
        let state = Arc::new(State::new());
        let pool = beside(&state, |state| state.lend().is_ok() && state.begin());
        let claimed = state.claim().is_ok();
        assert_ne!(claimed, pool.join().unwrap());
        assert!(state.load() & state::RUNNING != 0 && state.load() & state::LENT == 0);
    });
}

#[test]
fn of_two_requests_the_first_one_decides_the_cause() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.claim().unwrap();
        let other = beside(&state, |state| state.request_cancel(2));
        let here = state.request_cancel(1);
        let (first, cause) = match (here, other.join().unwrap()) {
            (Cancel::Told, Cancel::Late) => (1, state::cause(state.load())),
            (Cancel::Late, Cancel::Told) => (2, state::cause(state.load())),
            both => panic!("{both:?}"),
        };
        assert_eq!(first, cause);
    });
}

#[test]
fn a_paused_task_is_not_claimed_and_stays_pending() {
    loom::model(|| {
        let state = Arc::new(State::new());
        let worker = beside(&state, |state| state.claim());
        let before = state.set(state::PAUSE);
        match worker.join().unwrap() {
            Ok(()) => assert!(state.load() & state::RUNNING != 0),
            Err(Unclaimed::Paused) => assert!(state::is_pending(before) && state::is_pending(state.load())),
            Err(Unclaimed::Taken) => panic!("nobody else wants it"),
        }
    });
}

/// The side that lets go of the outcome last drops it: the future, or the thread that settles the task.
#[test]
fn an_outcome_that_nobody_wants_is_dropped_by_exactly_one() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.claim().unwrap();
        let worker = beside(&state, |state| state.settle(0) & state::ABANDONED != 0);
        let future_drops = state.set(state::ABANDONED) & state::ENDED != 0;
        assert_ne!(future_drops, worker.join().unwrap());
    });
}

#[test]
fn whoever_sees_the_end_sees_the_last_counts() {
    loom::model(|| {
        let task = Arc::new((State::new(), Counts::new(), Clock::default()));
        task.0.claim().unwrap();
        let worker = beside(&task, |task| {
            task.1.counter().advance(3);
            task.2.stop(7);
            task.0.settle(0);
        });
        if task.0.load() & state::ENDED != 0 {
            assert_eq!((task.1.read().n, task.2.read().stopped), (3, 7));
        }
        worker.join().unwrap();
    });
}

/// Reads while another thread makes `changes`; the reading must be one of `pairs` of `n` and `total`.
fn read_during(changes: fn(&Counts), pairs: &'static [(u64, u64)]) {
    loom::model(move || {
        let counts = Arc::new(Counts::new());
        let task = beside(&counts, changes);
        let reading = counts.read();
        let pair = (reading.n, reading.total);
        assert!(pairs.contains(&pair), "{pair:?}");
        task.join().unwrap();
    });
}

#[test]
fn no_reading_shows_n_without_its_total() {
    read_during(|counts| counts.set_both(1, 10), &[(0, counts::UNKNOWN), (1, 10)]);
}

/// The second store is a plain one, outside of any sequence.
#[test]
fn no_reading_shows_n_with_a_total_from_before_it() {
    let changes = |counts: &Counts| {
        counts.set_total(10);
        counts.counter().set(1);
    };
    read_during(changes, &[(0, counts::UNKNOWN), (0, 10), (1, 10)]);
}

/// The words that a worker shares with its program.
#[derive(Default)]
struct Words {
    sequence: loom::sync::atomic::AtomicU32,
    others: [loom::sync::atomic::AtomicU64; 5],
}

impl Words {
    fn live(&self) -> Live<'_> {
        let [task, n, total, spread, request] = &self.others;
        Live { task, cells: Cells { n, total, sequence: Sequence(&self.sequence) }, spread, request }
    }
}

/// Looks at task 1 while its worker makes `changes`: if the task is seen, its count must be one of `counts`.
fn look_during(changes: fn(Live<'_>), counts: &'static [u64]) {
    loom::model(move || {
        let words = Arc::new(Words::default());
        words.live().turn_to(1);
        let worker = beside(&words, move |words| changes(words.live()));
        if let Some(Seen::Counted(reading)) = words.live().see(1) {
            assert!(counts.contains(&reading.n), "{}", reading.n);
        }
        worker.join().unwrap();
    });
}

#[test]
fn what_a_task_has_counted_is_not_taken_for_that_of_another() {
    let changes = |live: Live<'_>| {
        Counter(live.cells.n).advance(3);
        live.turn_to(2);
        Counter(live.cells.n).advance(4);
    };
    look_during(changes, &[0, 3]);
}

#[test]
fn what_a_task_has_handed_out_is_not_taken_for_done() {
    let changes = |live: Live<'_>| {
        live.spread();
        Counter(live.cells.n).set(50);
        Counter(live.cells.n).set(2);
        live.gather();
    };
    look_during(changes, &[0, 2]);
}

/// However late it comes, a request ends only the task that it is for; and a request for a task that has begun is not
/// dropped by the task before it.
#[test]
fn a_request_reaches_the_task_that_it_is_for_and_no_other() {
    loom::model(|| {
        let shared = Arc::new((Words::default(), loom::sync::atomic::AtomicU64::new(0)));
        shared.0.live().turn_to(1);
        Place::new(&shared.1, 2).offer();
        let worker = beside(&shared, |(words, place)| {
            let live = words.live();
            let first = live.take_request(1);
            assert!(Place::new(place, 2).begin());
            live.turn_to(2);
            (first, live.take_request(2))
        });
        let (words, place) = &*shared;
        words.live().request_end(1, 3);
        let is_requested = Place::new(place, 2).has_begun();
        if is_requested {
            words.live().request_end(2, 1);
        }
        let (first, second) = worker.join().unwrap();
        assert!(first.is_none_or(|cause| cause == 3), "{first:?}");
        assert_eq!(second.or_else(|| words.live().take_request(2)), is_requested.then_some(1));
    });
}

#[test]
fn the_clock_is_read_as_one() {
    loom::model(|| {
        let clock = Arc::new(Clock::default());
        clock.start(10);
        clock.stop(15);
        let task = beside(&clock, |clock| clock.start(100));
        let span = clock.read();
        // Stopped after five, or running with a start that leaves the pause out.
        let spans = [Span { started: 10, stopped: 15 }, Span { started: 95, stopped: 0 }];
        assert!(spans.contains(&span), "{span:?}");
        task.join().unwrap();
    });
}

/// Whether the function returns or the limit passes, one of them writes the outcome, and the other leaves it alone.
#[test]
fn a_task_with_a_limit_is_decided_by_exactly_one() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.set(state::LIMITED);
        state.claim().unwrap();
        let limit = beside(&state, |state| {
            let has_decided = state.decide();
            if has_decided {
                state.request_cancel(1);
                state.settle(state::FAILED);
            }
            has_decided
        });
        let has_returned = state.decide();
        if has_returned {
            state.settle(0);
        }
        assert_ne!(has_returned, limit.join().unwrap());
        assert_eq!(state.load() & state::FAILED == 0, has_returned);
        assert!(!state.decide());
    });
}

/// A task that has lost its worker is pending again, and a later request seals it; or the request came first, and the
/// task is not started again.
#[test]
fn a_task_that_was_asked_to_end_is_not_started_again() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.claim().unwrap();
        let canceller = beside(&state, |state| state.request_cancel(1));
        let is_pending = state.retry();
        let word = state.load();
        assert!(!is_pending || word & state::CANCEL == 0 || !state::is_pending(word), "asked before");
        let claimed = is_pending && state.claim().is_ok();
        match canceller.join().unwrap() {
            Cancel::Sealed => assert!(is_pending && !claimed && !state::is_pending(state.load())),
            // Requested before the worker was lost, or when the task ran again.
            Cancel::Told => assert_eq!(is_pending, claimed),
            Cancel::Late => panic!("nobody else cancels it"),
        }
        assert_eq!(state.load() & (state::RUNNING | state::SEALED) == state::RUNNING, !is_pending || claimed);
    });
}

/// A limit that passes when the task has lost its worker either ends the task or comes too late: it never ends a task
/// that waits for another attempt, which another thread may end.
#[test]
fn a_limit_ends_only_a_task_that_runs() {
    loom::model(|| {
        let state = Arc::new(State::new());
        state.set(state::LIMITED);
        state.claim().unwrap();
        let limit = beside(&state, |state| state.decide());
        let is_lent = state.retry() && state.lend().is_ok();
        let has_decided = limit.join().unwrap();
        assert_ne!(is_lent, has_decided);
        assert_eq!(state.load() & state::RUNNING == 0, is_lent);
    });
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Register, then look: either the end is seen, or the waker is woken.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let task = Arc::new((State::new(), Waiter::new()));
        task.0.claim().unwrap();
        let worker = beside(&task, |task| {
            task.0.settle(0);
            task.1.wake();
        });
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        task.1.register(&Waker::from(count.clone()));
        let seen = task.0.load() & state::ENDED != 0;
        worker.join().unwrap();
        assert!(seen || count.0.load(Ordering::SeqCst) == 1);
    });
}

/// A task that was sent to a worker is either taken back, or begun and then doomed or ended, whichever comes first.
#[test]
fn both_ends_of_a_place_agree_on_what_has_become_of_its_task() {
    loom::model(|| {
        let word = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        Place::new(&word, 7).offer();
        let worker = beside(&word, |word| {
            let place = Place::new(word, 7);
            if !place.begin() {
                return (false, false);
            }
            place.notice();
            (true, place.end())
        });
        let place = Place::new(&word, 7);
        let is_taken_back = place.take_back();
        let doomed = if is_taken_back { None } else { Some(place.doom()) };
        let (has_begun, may_end) = worker.join().unwrap();
        assert_ne!(is_taken_back, has_begun, "it is run or taken back");
        assert_eq!(place.has_begun(), has_begun);
        assert_eq!(doomed == Some(Doomed::Yes), has_begun && !may_end, "it is ended or doomed: {doomed:?}");
    });
}

/// Wherever a worker dies, its place tells whether the task had begun.
#[test]
fn what_a_lost_worker_had_begun_is_known() {
    loom::model(|| {
        let (word, has_run) = (Arc::new(loom::sync::atomic::AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        Place::new(&word, 7).offer();
        let worker = {
            let (word, has_run) = (word.clone(), has_run.clone());
            thread::spawn(move || {
                if Place::new(&word, 7).begin() {
                    has_run.fetch_add(1, Ordering::SeqCst);
                }
                // The worker dies here.
            })
        };
        let has_begun = Place::new(&word, 7).has_begun();
        worker.join().unwrap();
        assert!(!has_begun || has_run.load(Ordering::SeqCst) == 1);
        assert!(Place::new(&word, 7).has_begun() && !Place::new(&word, 7).take_back());
        assert!(!Place::new(&word, 8).has_begun() && !Place::new(&word, 8).take_back(), "another task in that place");
    });
}

/// A thread that waits: whether it was woken, and whether it was promoted.
#[derive(Default)]
struct Sleeper {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Sleeper {
    fn set(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wake(&self) {
        self.set(|(is_woken, _)| *is_woken = true);
    }

    /// Sleeps until the state is as wanted, and resets it.
    fn sleep_until(&self, holds: impl Fn((bool, bool)) -> bool) {
        let mut state = self.state.lock().unwrap();
        while !holds(*state) {
            state = self.changed.wait(state).unwrap();
        }
        *state = (false, false);
    }
}

impl Follower for Sleeper {
    fn is_woken(&self) -> bool {
        self.state.lock().unwrap().0
    }

    fn sleep(&self) {
        let mut state = self.state.lock().unwrap();
        while *state == (false, false) {
            state = self.changed.wait(state).unwrap();
        }
        state.1 = false;
    }

    fn promote(&self) {
        self.set(|(_, is_promoted)| *is_promoted = true);
    }
}

/// The threads that the coming events wake, in reverse order.
type Events = Vec<Arc<Sleeper>>;

fn drive(events: &mut Events) {
    events.pop().expect("who leads has not been woken, so there is something to come").wake();
}

/// Two threads wait. The leader first hears the event that the other waits for, or its own: both are woken, and neither
/// waits for a thread that does nothing.
#[test]
fn of_two_who_wait_one_leads_and_the_other_is_woken_or_promoted() {
    for first in [0, 1] {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let sleepers = [Arc::new(Sleeper::default()), Arc::new(Sleeper::default())];
            let leadership = Arc::new(Leadership::<Events, Sleeper>::new());
            leadership.open(vec![sleepers[1 - first].clone(), sleepers[first].clone()]);
            let threads = sleepers.map(|sleeper| {
                let leadership = leadership.clone();
                thread::spawn(move || {
                    leadership.wait(&sleeper, || (), |lead| lead.driven().map(drive).is_some(), || ())
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(!leadership.has_followers() && leadership.is_free());
        });
    }
}

type Three = [Arc<Sleeper>; 3];

/// Three threads wait while another one does something. All three are woken.
fn three_wait<D: Send + 'static>(
    preemptions: usize,
    driven: fn(&Three) -> D,
    drive: fn(&mut D),
    meanwhile: fn(&Three),
) {
    let mut model = loom::model::Builder::new();
    // All interleavings would take hours.
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let sleepers: Three = Default::default();
        let leadership = Arc::new(Leadership::<D, Sleeper>::new());
        leadership.open(driven(&sleepers));
        let wait = |sleeper: &Arc<Sleeper>| {
            let (leadership, sleeper) = (leadership.clone(), sleeper.clone());
            move || leadership.wait(&sleeper, || (), |lead| lead.driven().map(drive).is_some(), || ())
        };
        let threads: Vec<_> = sleepers.iter().map(|sleeper| thread::spawn(wait(sleeper))).collect();
        meanwhile(&sleepers);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!leadership.has_followers() && leadership.is_free());
    });
}

/// A promoted thread may have been woken before: it leaves, and the next one leads.
#[test]
fn of_three_who_wait_none_is_forgotten() {
    three_wait(2, |[first, second, third]| vec![third.clone(), second.clone(), first.clone()], drive, |_| ());
}

/// Another thread wakes one of those that wait, perhaps just when it was promoted: the others are not forgotten.
#[test]
fn who_is_woken_from_outside_passes_the_lead_on() {
    struct Outside {
        events: Events,
        /// Woken from outside; it waits for that also when it leads.
        woken: Arc<Sleeper>,
    }
    let driven =
        |[first, second, third]: &Three| Outside { events: vec![third.clone(), first.clone()], woken: second.clone() };
    let drive = |outside: &mut Outside| match outside.events.pop() {
        Some(next) => next.wake(),
        None => outside.woken.sleep(),
    };
    three_wait(3, driven, drive, |[_, second, _]| second.wake());
}

/// The leader calls code that waits for an event which the other thread, or the next leader, will receive: it steps down
/// first.
#[test]
fn who_is_to_wait_where_it_leads_makes_room_for_another() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let [first, second, inner]: Three = Default::default();
        let leadership = Arc::new(Leadership::<Events, Sleeper>::new());
        leadership.open(vec![first.clone(), second.clone(), inner.clone()]);
        let wait = |sleeper: Arc<Sleeper>| {
            let (leadership, inner) = (leadership.clone(), inner.clone());
            move || {
                let wait_for_inner =
                    || leadership.wait(&inner, || (), |lead| lead.driven().map(drive).is_some(), || ());
                leadership.wait(
                    &sleeper,
                    || (),
                    |lead| {
                        match lead.driven() {
                            Some(events) if events.len() < 3 => drive(events),
                            _ => lead.aside(|| {
                                // The next event is the one that this code waits for.
                                leadership.step_down(&|| ());
                                wait_for_inner();
                                false
                            }),
                        }
                        true
                    },
                    || (),
                );
            }
        };
        let threads = [first, second].map(wait).map(thread::spawn);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!leadership.has_followers() && leadership.is_free());
    });
}

/// Nothing is left to do, and neither thread is woken: each leaves all the same, and the resident is called.
#[test]
fn nobody_leads_for_ever_where_nothing_is_left_to_do() {
    loom::model(|| {
        let leadership = Arc::new(Leadership::<Events, Sleeper>::new());
        leadership.open(Vec::new());
        let resident = Arc::new(Sleeper::default());
        let threads = [(); 2].map(|()| {
            let (leadership, resident) = (leadership.clone(), resident.clone());
            thread::spawn(move || {
                leadership.wait(&Arc::new(Sleeper::default()), || (), |_| false, || resident.promote());
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!leadership.has_followers() && leadership.is_free());
        resident.sleep_until(|(_, is_called)| is_called);
    });
}

/// The resident leads until an event comes or it is disturbed: it makes room for a follower, and is called when no
/// thread leads any more.
#[test]
fn the_resident_makes_room_for_a_guest_and_is_called_back() {
    let mut model = loom::model::Builder::new();
    // All interleavings would take a minute.
    model.preemption_bound = Some(3);
    model.check(|| {
        let sleeper = Arc::new(Sleeper::default());
        let leadership = Arc::new(Leadership::<Events, Sleeper>::new());
        leadership.open(vec![sleeper.clone()]);
        // For the resident, woken means disturbed, and promoted means called back.
        let resident = Arc::new(Sleeper::default());
        let guest = {
            let (leadership, resident, sleeper) = (leadership.clone(), resident.clone(), sleeper.clone());
            thread::spawn(move || {
                let disturb = || resident.wake();
                leadership.wait(&sleeper, disturb, |lead| lead.driven().map(drive).is_some(), || resident.promote());
            })
        };
        loop {
            if let Some(lead) = leadership.lead(|| resident.promote()) {
                let is_last = sleeper.is_woken();
                if !is_last && !leadership.has_followers() {
                    resident.sleep_until(|(is_disturbed, _)| is_disturbed);
                }
                drop(lead);
                if is_last {
                    break;
                }
            }
            resident.sleep_until(|(_, is_called)| is_called);
        }
        guest.join().unwrap();
        assert!(!leadership.has_followers() && leadership.is_free());
    });
}
