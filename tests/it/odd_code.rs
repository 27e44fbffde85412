//! Errors, payloads and values of tasks whose own code misbehaves.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::panic::panic_any;
use std::path::PathBuf;
use std::sync::Arc;

use progress_executor::{
    Executor, ExecutorExt, ProcessPoolExecutor, TaskErrorKind, TaskResult, ThreadPoolExecutor, Updater,
};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crashes::{echo_bytes, process_id};
use crate::support::{eventually, within_deadline};

// The tasks.

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Way {
    DisplayFails,
    DisplayPanics,
    SourceIsItself,
    SourcePanics,
    DropPanics,
    DropPanicsAgainAndAgain,
}

const WAYS: [Way; 6] = [
    Way::DisplayFails,
    Way::DisplayPanics,
    Way::SourceIsItself,
    Way::SourcePanics,
    Way::DropPanics,
    Way::DropPanicsAgainAndAgain,
];

#[derive(Debug)]
struct Odd(Way);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Way::DisplayFails => Err(fmt::Error),
            Way::DisplayPanics => panic!("shown"),
            _ => f.write_str("odd"),
        }
    }
}

impl Error for Odd {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.0 {
            Way::SourceIsItself => Some(self),
            Way::SourcePanics => panic!("asked for its source"),
            _ => None,
        }
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        match self.0 {
            Way::DropPanics => panic!("dropped"),
            Way::DropPanicsAgainAndAgain => panic_any(Odd(self.0)),
            _ => {}
        }
    }
}

pub(crate) fn fail_oddly((way, is_cancelled): (Way, bool), progress: &Updater) -> TaskResult<()> {
    while is_cancelled && progress.update(1).is_ok() {}
    Err(Odd(way).into())
}

pub(crate) fn panic_oddly(way: Way, _: &Updater) -> TaskResult<()> {
    panic_any(Odd(way))
}

/// A list of any depth.
#[derive(Debug, Serialize, Deserialize, Default)]
pub(crate) struct List {
    next: Option<Box<List>>,
}

impl List {
    fn new(depth: usize) -> Self {
        (1..depth).fold(Self::default(), |next, _| Self { next: Some(Box::new(next)) })
    }
}

impl Drop for List {
    /// Without recursion.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut list) = next {
            next = list.next.take();
        }
    }
}

pub(crate) fn deepen(depth: usize, _: &Updater) -> TaskResult<List> {
    Ok(List::new(depth))
}

pub(crate) fn name_of(path: PathBuf, _: &Updater) -> TaskResult<String> {
    Ok(path.display().to_string())
}

pub(crate) fn is_list(_: List, _: &Updater) -> TaskResult<bool> {
    Ok(true)
}

/// The step at which a value does not cross.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    EncodeInput,
    DecodeInput,
    EncodeOutput,
    DecodeOutput,
}

/// A value that fails at one of the steps, with an error or a panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traveller {
    stumbles: Option<Step>,
    panics: bool,
    is_output: bool,
}

impl Traveller {
    fn take(&self, step: Step) -> Result<(), &'static str> {
        match self.stumbles == Some(step) {
            true if self.panics => panic!("as intended"),
            true => Err("as intended"),
            false => Ok(()),
        }
    }
}

impl Serialize for Traveller {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let step = if self.is_output { Step::EncodeOutput } else { Step::EncodeInput };
        self.take(step).map_err(S::Error::custom)?;
        (self.stumbles, self.panics, self.is_output).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Traveller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (stumbles, panics, is_output) = Deserialize::deserialize(deserializer)?;
        let traveller = Self { stumbles, panics, is_output };
        let step = if is_output { Step::DecodeOutput } else { Step::DecodeInput };
        traveller.take(step).map_err(D::Error::custom)?;
        Ok(traveller)
    }
}

pub(crate) fn turn_round(traveller: Traveller, _: &Updater) -> TaskResult<Traveller> {
    Ok(Traveller { is_output: true, ..traveller })
}

// The tests.

#[test]
fn what_does_not_cross_is_told_with_what_it_is() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let traveller = |stumbles, panics| Traveller { stumbles, panics, is_output: false };
        for (step, kind, what) in [
            (Step::EncodeInput, TaskErrorKind::Encode, "its input"),
            (Step::DecodeInput, TaskErrorKind::Decode, "its input"),
            (Step::EncodeOutput, TaskErrorKind::Encode, "its output"),
            (Step::DecodeOutput, TaskErrorKind::Decode, "its output"),
        ] {
            let is_here = matches!(step, Step::EncodeInput | Step::DecodeOutput);
            // In the worker, that would be a panic of the task.
            for panics in [false, true].into_iter().filter(|panics| is_here || !panics) {
                let input = traveller(Some(step), panics);
                let single = pool.submit(turn_round, input).wait().map(drop);
                let inputs = [traveller(None, panics), input, traveller(None, panics)];
                let mut outcomes = pool.map(turn_round, inputs).chunks(3).blocking().map(|outcome| outcome.map(drop));
                assert!(outcomes.next().unwrap().is_ok());
                for outcome in [single, outcomes.next().unwrap()] {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), &kind, "{step:?}, {panics}");
                    assert_eq!(error.source().unwrap().to_string(), what, "{step:?}, {panics}");
                    assert!(format!("{error:#}").ends_with("as intended"), "{error:#}");
                }
                assert!(outcomes.next().unwrap().is_ok());
            }
        }
    });
}

#[test]
fn an_error_or_a_payload_with_odd_code_costs_no_worker() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        for way in WAYS {
            let error = pool.submit(fail_oddly, (way, false)).wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::Failed, "{way:?}");
            assert!(error.source().is_some(), "{way:?}");
            let error = pool.submit(panic_oddly, way).wait().unwrap_err();
            assert_eq!(error.kind(), &TaskErrorKind::Panicked, "{way:?}");
            assert_eq!(pool.submit(process_id, ()).wait().unwrap(), worker, "{way:?}");
        }
    });
}

#[test]
fn an_odd_error_of_a_cancelled_task_is_a_failure() {
    within_deadline(|| {
        let executors: [Arc<dyn Executor>; 2] =
            [Arc::new(ThreadPoolExecutor::new(1)), Arc::new(ProcessPoolExecutor::new(1).unwrap())];
        for executor in executors {
            for way in [Way::DisplayFails, Way::DisplayPanics, Way::SourceIsItself, Way::SourcePanics] {
                let task = executor.submit(fail_oddly, (way, true));
                eventually("it runs", || task.progress().n > 0);
                task.cancel();
                let error = task.wait().unwrap_err();
                assert_eq!(error.kind(), &TaskErrorKind::Failed, "{way:?}");
                // Shown with its causes, which have no end.
                assert!(way != Way::SourceIsItself || format!("{error:?}").len() < 1000, "{error:?}");
            }
        }
    });
}

#[test]
fn a_value_that_is_too_deep_is_an_error_of_its_task() {
    within_deadline(|| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        let worker = pool.submit(process_id, ()).wait().unwrap();
        assert!(pool.submit(is_list, List::new(100)).wait().unwrap());
        assert!(pool.submit(deepen, 100).wait().unwrap().next.is_some());
        for depth in [200, 20_000] {
            let input = pool.submit(is_list, List::new(depth)).wait().unwrap_err();
            assert!(input.is_encode_error(), "{input:?}");
            let output = pool.submit(deepen, depth).wait().unwrap_err();
            assert!(output.is_encode_error(), "{output:?}");
        }
        assert_eq!(pool.submit(process_id, ()).wait().unwrap(), worker);
    });
}

#[test]
fn a_path_that_is_not_unicode_is_an_error_that_says_so() {
    use std::os::unix::ffi::OsStringExt;

    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let path = PathBuf::from(OsString::from_vec(vec![b'/', 255]));
        let error = executor.submit(name_of, path).wait().unwrap_err();
        assert!(error.is_encode_error(), "{error}");
        assert!(format!("{error:#}").contains("path contains invalid UTF-8"), "{error:#}");
    });
}

#[test]
fn an_initializer_whose_input_is_too_large_is_an_error_of_build() {
    let pool = |len: usize| {
        let builder = ProcessPoolExecutor::builder().max_frame_bytes(64 * 1024);
        builder.initializer(echo_bytes, vec![0; len]).build()
    };
    assert!(pool(60 * 1024).is_ok());
    let error = pool(64 * 1024).unwrap_err();
    assert!(error.to_string().contains("the initializer could not be encoded"), "{error}");
    assert!(error.source().unwrap().to_string().contains("where 65536 are allowed"), "{error:?}");
}

#[test]
fn a_canceller_of_an_ended_task_keeps_neither_its_input_nor_its_output() {
    within_deadline(|| {
        let kept = Arc::new(());
        let executor = ThreadPoolExecutor::new(1);
        let task = executor.submit(|input: Arc<()>, _: &Updater| Ok(input), kept.clone());
        let canceller = task.canceller();
        drop(task.wait().unwrap());
        let other = executor.submit(|input: Arc<()>, _: &Updater| Ok(input), kept.clone());
        let other_canceller = other.canceller();
        eventually("it has ended", || other.is_done());
        drop(other);
        eventually("nobody keeps it", || Arc::strong_count(&kept) == 1);
        drop((canceller, other_canceller));
    });
}
