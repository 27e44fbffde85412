//! Values that many inputs share.

#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "it/support.rs"]
mod support;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use progress_executor::{
    Executor, ExecutorExt, ProcessPoolExecutor, Shared, SyncExecutor, TaskError, TaskResult, ThreadPoolExecutor,
    Updater, WorkerOutput,
};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{NewFile, eventually, within_deadline};

progress_executor::test_worker!(
    look_at,
    sum,
    end_at,
    hand_back,
    look_up,
    keep,
    answer,
    look_within,
    take_apart,
    look_behind,
    hold_on_to,
    await_forgotten
);

/// What happens to tables, counted in each process.
static ENCODED: AtomicUsize = AtomicUsize::new(0);
static DECODED: AtomicUsize = AtomicUsize::new(0);
static ALIVE: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, PartialEq)]
struct Table(String);

impl Table {
    fn new(text: &str) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(text.into())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        match self.0.as_str() {
            "unfit to be encoded" => Err(S::Error::custom("as intended")),
            text => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        let text = String::deserialize(deserializer)?;
        if text == "unfit to be decoded" { Err(D::Error::custom("as intended")) } else { Ok(Self::new(&text)) }
    }
}

/// Only one test at a time counts.
fn counting() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    [&ENCODED, &DECODED, &ALIVE].iter().for_each(|count| count.store(0, Ordering::SeqCst));
    guard
}

/// What a task has seen: the text, its process, and how many tables were decoded there.
type Seen = (String, u32, usize);

fn look_at((table, _): (Shared<Table>, u64), _: &Updater) -> TaskResult<Seen> {
    Ok(seen(&table))
}

fn seen(table: &Table) -> Seen {
    (table.0.clone(), process::id(), DECODED.load(Ordering::SeqCst))
}

/// Shared values may occur anywhere in an input.
#[derive(Clone, Serialize, Deserialize)]
struct Input {
    numbers: Shared<Vec<f64>>,
    #[serde(flatten)]
    more: BTreeMap<String, Shared<Vec<u8>>>,
    picked: Option<Picked>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Picked {
    One { of: Shared<String> },
}

fn sum(input: Input, _: &Updater) -> TaskResult<f64> {
    let bytes: f64 = input.more.values().flat_map(|bytes| bytes.iter().copied()).map(f64::from).sum();
    let text = input.picked.map_or(0, |Picked::One { of }| of.len());
    Ok(input.numbers.iter().sum::<f64>() + bytes + text as f64)
}

/// A shared value may merge with the fields around it, or be one of several candidates.
#[derive(Clone, Serialize, Deserialize)]
struct Woven {
    number: u8,
    #[serde(flatten)]
    place: Shared<Place>,
    #[serde(flatten)]
    time: Shared<Time>,
    #[serde(flatten)]
    nothing: Option<Shared<Place>>,
    tagged: Tagged,
    any: Vec<Any>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    x: i32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Time {
    hour: u8,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Place(Shared<Place>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(u64),
    Counts(BTreeMap<String, u64>),
    // What is sent as it is could be taken for any of these.
    Singles(Shared<Vec<f32>>),
    Doubles(Shared<Vec<f64>>),
    Texts(Shared<Vec<String>>),
    Text(Shared<String>),
}

fn take_apart(input: Woven, _: &Updater) -> TaskResult<String> {
    let Woven { number, place, time, nothing, tagged: Tagged::Place(tagged), any } = input;
    Ok(format!("{number} {} {} {nothing:?} {} {any:?}", place.x, time.hour, tagged.x))
}

/// Ends its process at the number `end`.
fn end_at((table, n, end): (Shared<Table>, u64, u64), _: &Updater) -> TaskResult<Seen> {
    if n == end {
        process::exit(7);
    }
    Ok(seen(&table))
}

/// Returns its input, and how a shared value looks to other crates.
fn hand_back(table: Shared<Table>, _: &Updater) -> TaskResult<(Shared<Table>, String)> {
    let text = serde_json::to_string(&table)?;
    let again: Shared<Table> = serde_json::from_str(&text)?;
    Ok((again, text))
}

/// Looks at a shared value within another one.
fn look_within(outer: Shared<(u8, Shared<Table>)>, _: &Updater) -> TaskResult<String> {
    Ok(outer.1.0.clone())
}

/// An input that waits for other tasks while it is encoded, and again while it is decoded.
struct Errands(Shared<Table>);

impl Errands {
    /// What tasks make of the table on a thread that encodes or decodes this.
    fn run(table: &Shared<Table>) -> Result<(), TaskError> {
        let in_process =
            ProcessPoolExecutor::builder().max_workers(1).initializer(keep, table.clone()).build().unwrap();
        let (again, _) = in_process.submit(hand_back, table.clone()).wait()?;
        assert_eq!(again, *table);
        assert_eq!(in_process.submit(look_up, ()).wait()?, table.0);
        let here = SyncExecutor::new().submit(hand_back, table.clone());
        assert_eq!(here.wait()?.1, format!("{:?}", table.0), "as it looks to other crates");
        Ok(())
    }
}

impl Serialize for Errands {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::run(&self.0).map_err(S::Error::custom)?;
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Errands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Shared::deserialize(deserializer)?;
        Self::run(&table).map_err(D::Error::custom)?;
        Ok(Self(table))
    }
}

fn look_behind(errands: Errands, _: &Updater) -> TaskResult<String> {
    Ok(errands.0.0.clone())
}

static KEPT: Mutex<Option<Shared<Table>>> = Mutex::new(None);

/// The initializer.
fn keep(table: Shared<Table>, _: &Updater) -> TaskResult<()> {
    *KEPT.lock().unwrap() = Some(table);
    Ok(())
}

fn look_up((): (), _: &Updater) -> TaskResult<String> {
    Ok(KEPT.lock().unwrap().as_ref().ok_or("nothing was kept")?.0.clone())
}

/// How many tables there are in the worker, and how many were decoded there.
fn answer((): (), _: &Updater) -> TaskResult<(usize, usize)> {
    Ok((ALIVE.load(Ordering::SeqCst), DECODED.load(Ordering::SeqCst)))
}

/// Returns once there are no tables in the worker.
fn await_forgotten((): (), progress: &Updater) -> TaskResult<()> {
    while ALIVE.load(Ordering::SeqCst) > 0 {
        progress.check()?;
        thread::yield_now();
    }
    Ok(())
}

fn inputs(table: &Shared<Table>, count: u64) -> impl Iterator<Item = (Shared<Table>, u64)> {
    (0..count).map(|n| (table.clone(), n))
}

#[test]
fn a_value_is_encoded_once_and_decoded_once_in_each_worker() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::new(2).unwrap();
        let table = Shared::new(Table::new("one"));
        let tasks: Vec<_> = inputs(&table, 100).map(|input| executor.submit(look_at, input)).collect();
        let singles = tasks.into_iter().map(|task| task.wait().unwrap());
        let chunks = executor.map(look_at, inputs(&table, 100)).chunks(7).blocking().map(Result::unwrap);
        for (text, worker, decoded) in singles.chain(chunks) {
            assert_eq!((text.as_str(), decoded), ("one", 1));
            assert_ne!(worker, process::id());
        }
        assert_eq!((ENCODED.load(Ordering::SeqCst), DECODED.load(Ordering::SeqCst)), (1, 0));
        let other = ProcessPoolExecutor::new(1).unwrap();
        assert_eq!(other.submit(look_at, (table.clone(), 0)).wait().unwrap().2, 1);
        assert_eq!(ENCODED.load(Ordering::SeqCst), 1, "the same for another pool");
    });
}

#[test]
fn in_this_process_it_is_the_very_value() {
    let _counting = counting();
    let table = Shared::new(Table::new("one"));
    let address = move |(table, _): (Shared<Table>, u64), _: &Updater| Ok(std::ptr::from_ref(&*table) as usize);
    let here = std::ptr::from_ref(&*table) as usize;
    let executors: [&dyn Executor; 2] = [&ThreadPoolExecutor::new(2), &SyncExecutor::new()];
    for executor in executors {
        let addresses: Vec<_> = executor.map(address, inputs(&table, 10)).chunks(3).blocking().collect();
        assert!(addresses.into_iter().all(|it| it.unwrap() == here));
    }
    assert_eq!((ENCODED.load(Ordering::SeqCst), ALIVE.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn it_may_stand_anywhere_within_an_input() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let numbers = Shared::new(vec![1.5, 2.5]);
        let bytes = Shared::new(vec![1_u8, 2]);
        let picked = Some(Picked::One { of: Shared::new("abc".to_owned()) });
        let more = [("a".to_owned(), bytes.clone()), ("b".to_owned(), bytes)].into();
        let input = Input { numbers, more, picked };
        for _ in 0..3 {
            assert_eq!(executor.submit(sum, input.clone()).wait().unwrap(), 4.0 + 6.0 + 3.0);
        }
    });
}

#[test]
fn it_may_be_flattened_tagged_and_untagged_as_the_value_may() {
    within_deadline(|| {
        let place = |x| Shared::new(Place { x });
        let any = vec![
            Any::Number(7),
            Any::Doubles(vec![0.5].into()),
            Any::Texts(vec!["ab".to_owned()].into()),
            Any::Text("abcd".to_owned().into()),
        ];
        let input = Woven {
            number: 1,
            place: place(2),
            time: Time { hour: 3 }.into(),
            nothing: None,
            tagged: Tagged::Place(place(4)),
            any,
        };
        let executors: [&dyn Executor; 2] = [&SyncExecutor::new(), &ProcessPoolExecutor::new(1).unwrap()];
        for executor in executors {
            let seen = executor.submit(take_apart, input.clone()).wait().unwrap();
            let any = "[Number(7), Doubles([0.5]), Texts([\"ab\"]), Text(\"abcd\")]";
            assert_eq!(seen, format!("1 2 3 None 4 {any}"));
        }
    });
}

#[test]
fn a_new_worker_receives_it_again() {
    within_deadline(|| {
        let _counting = counting();
        for is_launched in [false, true] {
            let executor = ProcessPoolExecutor::builder().max_workers(1);
            let executor = if is_launched { executor.without_shared_memory() } else { executor }.build().unwrap();
            let table = Shared::new(Table::new("one"));
            let tasks: Vec<_> = (0..4).map(|n| executor.submit(end_at, (table.clone(), n, 1))).collect();
            let outcomes: Vec<_> = tasks.into_iter().map(|task| task.wait().map(|seen| seen.0)).collect();
            assert!(outcomes[1].as_ref().is_err_and(TaskError::is_worker_lost));
            assert!(
                [0, 2, 3].into_iter().all(|n| outcomes[n].as_ref().is_ok_and(|text| text == "one")),
                "{outcomes:?}"
            );
            let map = executor.map(end_at, (0..4).map(|n| (table.clone(), n, 1))).chunks(4).retries(1);
            let outcomes: Vec<_> = map.blocking().map(|it| it.is_ok()).collect();
            assert_eq!(outcomes, [true, false, true, true]);
        }
    });
}

#[test]
fn a_worker_forgets_what_nobody_needs_and_nothing_else() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let (table, other) = (Shared::new(Table::new("one")), Shared::new(Table::new("other")));
        let alive = || executor.submit(answer, ()).wait().unwrap().0;
        for (table, text) in [(&table, "one"), (&other, "other")] {
            assert_eq!(executor.submit(look_at, (table.clone(), 0)).wait().unwrap().0, text);
        }
        assert_eq!(alive(), 2);
        let clone = table.clone();
        drop(table);
        assert_eq!(alive(), 2, "there is a clone");
        drop(clone);
        eventually("it is forgotten", || alive() == 1);
        let (text, _, decoded) = executor.submit(look_at, (other.clone(), 0)).wait().unwrap();
        assert_eq!((text.as_str(), decoded), ("other", 2), "that was kept");
    });
}

#[test]
fn what_waits_for_a_worker_needs_it_still() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let table = Shared::new(Table::new("one"));
        let tasks: Vec<_> = inputs(&table, 50).map(|input| executor.submit(look_at, input)).collect();
        drop(table);
        assert!(tasks.into_iter().all(|task| task.wait().unwrap().0 == "one"));
    });
}

#[test]
fn a_task_that_is_cancelled_while_it_waits_needs_it_no_more() {
    within_deadline(|| {
        let _counting = counting();
        // So that tasks wait here, and not in the worker.
        let output = WorkerOutput::lines(|_| ());
        let executor = ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap();
        let table = Shared::new(Table::new("one"));
        executor.submit(look_at, (table.clone(), 0)).wait().unwrap();
        let busy = executor.task(await_forgotten, ()).timeout(Duration::from_secs(20)).submit();
        let next = executor.submit(answer, ());
        let cancelled = executor.submit(look_at, (table, 1));
        cancelled.cancel();
        busy.wait().expect("the table is forgotten although the cancelled task was not the next one");
        assert_eq!(next.wait().unwrap().0, 0);
    });
}

#[test]
fn in_outputs_and_elsewhere_it_is_the_value_itself() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let (table, text) = executor.submit(hand_back, Shared::new(Table::new("one"))).wait().unwrap();
        assert_eq!((table.0.as_str(), text.as_str()), ("one", "\"one\""));
        assert_eq!(serde_json::to_string(&table).unwrap(), "\"one\"");
        let outer = Shared::new((7, table));
        assert_eq!(executor.submit(look_within, outer).wait().unwrap(), "one");
        let executor = ProcessPoolExecutor::builder().max_workers(1).initializer(keep, Shared::new(Table::new("kept")));
        assert_eq!(executor.build().unwrap().submit(look_up, ()).wait().unwrap(), "kept");
    });
}

#[test]
fn it_is_the_value_itself_in_what_is_run_while_an_input_that_has_it_is_on_its_way() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let errands = || Errands(Shared::new(Table::new("one")));
        let single = executor.submit(look_behind, errands()).wait();
        let chunk = executor.map(look_behind, [errands(), errands()]).chunks(2);
        for text in chunk.blocking().chain([single]) {
            assert_eq!(text.unwrap(), "one");
        }
    });
}

#[test]
fn what_cannot_cross_fails_the_tasks_that_need_it() {
    within_deadline(|| {
        let _counting = counting();
        let executor = ProcessPoolExecutor::builder().max_workers(1).max_frame_bytes(100_000).build().unwrap();
        let unfit = Shared::new(Table::new("unfit to be encoded"));
        for _ in 0..2 {
            let error = executor.submit(look_at, (unfit.clone(), 0)).wait().unwrap_err();
            assert!(error.is_encode_error() && format!("{error:#}").contains("as intended"), "{error:#}");
        }
        let large = Shared::new(Table::new(&"x".repeat(100_000)));
        assert!(executor.submit(look_at, (large.clone(), 0)).wait().unwrap_err().is_encode_error());
        let small = Shared::new(Table::new("small"));
        let mixed = || (0..300).map(|n| (if n == 150 { large.clone() } else { small.clone() }, n));
        for map in [executor.map(look_at, mixed()), executor.map(look_at, mixed()).chunks(300)] {
            for (n, outcome) in map.blocking().enumerate() {
                match outcome {
                    Ok((text, ..)) => assert!(text == "small" && n != 150, "{n}"),
                    Err(error) => assert!(error.is_encode_error() && n == 150, "{n}: {error:#}"),
                }
            }
        }
        let unfit = Shared::new(Table::new("unfit to be decoded"));
        for _ in 0..2 {
            let error = executor.submit(look_at, (unfit.clone(), 0)).wait().unwrap_err();
            assert!(error.is_decode_error() && format!("{error:#}").contains("as intended"), "{error:#}");
        }
        assert_eq!(executor.submit(look_at, (Shared::new(Table::new("fit")), 0)).wait().unwrap().0, "fit");
    });
}

#[test]
fn it_looks_like_its_value() {
    let text: Shared<String> = "one".to_owned().into();
    assert_eq!((format!("{text} {text:?}"), text.len()), ("one \"one\"".into(), 3));
    assert_eq!(text, text.clone());
    assert_eq!(text, Shared::new("one".to_owned()));
    assert_ne!(text, Shared::default());
    let counted = Shared::new(Arc::new(7));
    let clone = counted.clone();
    assert_eq!(Arc::strong_count(&counted), 1, "the value is not cloned");
    drop((counted, clone));
}

/// Submits a value when its thread ends, also as an input of a map and within another value, and sends what the tasks
/// saw.
struct Last(ProcessPoolExecutor, Sender<[String; 3]>);

impl Drop for Last {
    fn drop(&mut self) {
        let Self(executor, told) = self;
        let table = || Shared::new(Table::new("late"));
        let one = executor.submit(look_at, (table(), 0)).wait().unwrap().0;
        let many = executor.map(look_at, inputs(&table(), 2)).chunks(2).blocking().last().unwrap().unwrap().0;
        let within = executor.submit(look_within, Shared::new((0, table()))).wait().unwrap();
        told.send([one, many, within]).unwrap();
    }
}

#[test]
fn values_are_shared_also_by_a_thread_that_is_about_to_end() {
    thread_local! {
        static LAST: OnceCell<Last> = const { OnceCell::new() };
    }
    within_deadline(|| {
        let _counting = counting();
        let (told, late) = channel();
        let executor = ProcessPoolExecutor::new(1).unwrap();
        let ends = move || {
            LAST.with(|last| assert!(last.set(Last(executor, told)).is_ok()));
            // The library's own values for this thread are made after `LAST`, and so dropped before it.
            LAST.with(|last| {
                last.get().unwrap().0.submit(look_at, (Shared::new(Table::new("first")), 0)).wait().unwrap()
            });
        };
        thread::spawn(ends).join().unwrap();
        assert_eq!(late.recv().unwrap(), ["late"; 3]);
    });
}

/// A value that is slow to be dropped in a worker: as long as the file exists.
#[derive(Deserialize)]
struct Slow(PathBuf);

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Slow", &self.0)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        while IS_WORKER.load(Ordering::SeqCst) && self.0.exists() {
            // The other process cannot wake this one.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

static IS_WORKER: AtomicBool = AtomicBool::new(false);

fn hold_on_to(slow: Shared<Slow>, _: &Updater) -> TaskResult<u32> {
    IS_WORKER.store(true, Ordering::SeqCst);
    slow.0.exists().then(process::id).ok_or("it is gone").map_err(Into::into)
}

#[test]
fn a_worker_goes_on_while_it_drops_what_was_shared() {
    within_deadline(|| {
        let (pool, file) = (ProcessPoolExecutor::new(1).unwrap(), NewFile::new());
        let slow = Shared::new(Slow(file.path()));
        let worker = pool.submit(hold_on_to, slow.clone()).wait().unwrap();
        drop(slow);
        // The worker is told to drop it, which takes as long as there is the file.
        let other = Shared::new(Slow(file.path()));
        for _ in 0..3 {
            assert_eq!(pool.submit(hold_on_to, other.clone()).wait().unwrap(), worker);
        }
        assert_eq!(pool.workers().lost, 0);
        drop(file);
    });
}
