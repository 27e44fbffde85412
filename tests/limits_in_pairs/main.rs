//! What becomes of a task to which two or three things happen, one after the other: on each executor, alone and within
//! a map, compared with what the documentation says, as [`Documented`](documented::Documented) sums it up.

mod case;
mod course;
mod documented;
mod in_group;
mod in_map;
mod part;
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../it/support.rs"]
mod support;

use std::env;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;

use case::Case;
use documented::Event;
use part::{End, KINDS, Kind, Stage, play};
use support::DEADLINE;

progress_executor::test_worker!(play);

type Play = fn(&Case) -> Result<(), String>;

/// Plays many cases at a time, because most of them wait; but only those of one test, because they take time.
fn check(cases: Vec<Case>, play: Play) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (next, wrong) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    let take = || next.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = take() {
                    if let Err(why) = play_within_deadline(&case, play) {
                        wrong.lock().unwrap().push(format!("{case:?}: {why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of them: {wrong:#?}", wrong.len());
}

/// Each wait within a case lasts for [`DEADLINE`] at most, and then says what it has waited for.
fn play_within_deadline(case: &Case, play: Play) -> Result<(), String> {
    let (done, result) = mpsc::channel();
    let case = case.clone();
    thread::spawn(move || done.send(play(&case)));
    result.recv_timeout(2 * DEADLINE).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => Err(format!("it has not ended within {:?}", 2 * DEADLINE)),
        RecvTimeoutError::Disconnected => Err("it has panicked".to_owned()),
    })
}

/// One case in this many, unless the environment variable `TEST_ONE_OF` says otherwise.
fn sample(cases: Vec<Case>, one_of: usize) -> Vec<Case> {
    let one_of = env::var("TEST_ONE_OF").ok().and_then(|one_of| one_of.parse().ok()).unwrap_or(one_of);
    cases.into_iter().step_by(one_of).collect()
}

#[test]
fn two_things() {
    check(Case::all(&[Kind::Inline, Kind::Threads, Kind::Processes], 2), Case::play);
}

#[test]
fn two_things_behind_a_launcher() {
    check(sample(Case::all(&[Kind::Launched], 2), 5), Case::play);
}

#[test]
fn three_things() {
    check(sample(Case::all(&KINDS, 3), 59), Case::play);
}

#[test]
fn two_things_in_a_map() {
    let mut cases = Case::all(&KINDS, 2);
    cases.retain(Case::can_be_in_map);
    check(sample(cases, 5), |case| case.play_in_map(0));
}

#[test]
fn two_things_in_a_chunk() {
    let mut cases = Case::all(&KINDS, 2);
    cases.retain(Case::can_be_in_chunk);
    check(sample(cases, 5), |case| case.play_in_map(1));
}

/// Behind a launcher, a suspension is a pause that is not shown as one; and a task may not have gone on between two
/// pauses.
#[test]
fn one_pause_after_another_behind_a_launcher() {
    let rows = [
        [Event::Suspend, Event::Pause, Event::ShutDown],
        [Event::Suspend, Event::Resume, Event::Pause],
        [Event::Pause, Event::Resume, Event::Pause],
    ];
    let case = |events: [Event; 3]| Case {
        kind: Kind::Launched,
        stage: Stage::Listens,
        events: events.to_vec(),
        end: End::Returns,
    };
    // Except for the first row, these need some luck to go wrong.
    check(rows.map(case).into_iter().cycle().take(60).collect(), Case::play);
}

#[test]
fn a_task_that_goes_on_in_a_suspended_pool() {
    let rows = [Event::TimeOut, Event::Stall].map(|limit| vec![Event::Pause, Event::Suspend, Event::ResumeTask, limit]);
    let cases = rows.into_iter().flat_map(|events| {
        [Kind::Processes, Kind::Launched].map(|kind| Case {
            kind,
            stage: Stage::Listens,
            events: events.clone(),
            end: End::Returns,
        })
    });
    check(cases.collect(), Case::play);
}
