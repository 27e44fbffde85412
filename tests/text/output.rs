//! What workers write to their standard output and error, and what they log.

use std::error::Error as _;
use std::future::ready;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use futures::StreamExt;
use log::{LevelFilter, Log, Metadata, Record};
use progress_executor::{
    ExecutorExt, Launcher, OutputLine, OutputStream, ProcessPoolExecutor, TaskEvent, TaskResult, Updater, WorkerId,
    WorkerOutput,
};

use crate::support::{Gate, NewFile, count, eventually, gate, within_deadline};

/// Writes this many lines to each stream, and returns the id of its process.
pub(crate) fn write_lines(lines: u32, _: &Updater) -> TaskResult<u32> {
    for line in 0..lines {
        println!("out {line}");
        eprintln!("err {line}");
    }
    print!("no newline");
    Ok(std::process::id())
}

pub(crate) fn write_for_ever((): (), progress: &Updater) -> TaskResult<()> {
    let line = "x".repeat(1000);
    loop {
        progress.update(1)?;
        println!("{line}");
    }
}

/// Leaves a thread behind that says more than is ever taken.
pub(crate) fn leave_a_talker((): (), progress: &Updater) -> TaskResult<()> {
    let shared = progress.shared();
    std::thread::spawn(move || {
        while shared.check().is_ok() {
            std::thread::yield_now();
        }
        let line = "x".repeat(1000);
        loop {
            shared.println(&line);
        }
    });
    Ok(())
}

pub(crate) fn complain_and_die((): (), _: &Updater) -> TaskResult<()> {
    (0..10_000).for_each(|line| eprintln!("complaint {line}"));
    std::process::exit(3)
}

pub(crate) fn log_levels(text: String, _: &Updater) -> TaskResult<()> {
    log::error!(target: "levels", "{text} error");
    log::info!(target: "levels", "{text} info");
    log::debug!(target: "levels", "{text} debug");
    Ok(())
}

/// Says and logs this many bytes at once.
pub(crate) fn say_at_length(bytes: usize, progress: &Updater) -> TaskResult<()> {
    let text = "x".repeat(bytes);
    progress.println(&text);
    log::info!(target: &text, "{text}");
    Ok(())
}

/// A pool, and the receiver of the lines that its workers write.
fn pool(launcher: Launcher) -> (ProcessPoolExecutor, Receiver<OutputLine>) {
    let (send, lines) = mpsc::channel();
    let output = WorkerOutput::lines(move |line| _ = send.send(line.clone()));
    (ProcessPoolExecutor::builder().max_workers(1).output(output).launcher(launcher).build().unwrap(), lines)
}

/// No launcher, and some other command, which stands for workers on other machines.
fn launchers() -> [Launcher; 2] {
    [Launcher::default(), "env".parse().unwrap()]
}

fn next(lines: &Receiver<OutputLine>) -> OutputLine {
    lines.recv_timeout(Duration::from_secs(60)).expect("there is another line")
}

#[test]
fn each_line_is_passed_on_with_its_worker_and_its_task() {
    within_deadline(|| {
        let (executor, lines) = pool(Launcher::default());
        for name in ["first", "second"] {
            let task = executor.task(write_lines, 20).name(name).submit();
            let id = task.id();
            let process = task.wait().unwrap();
            let said: Vec<OutputLine> = (0..41).map(|_| next(&lines)).collect();
            for stream in [OutputStream::Stdout, OutputStream::Stderr] {
                let (what, more) = if stream == OutputStream::Stdout { ("out", 1) } else { ("err", 0) };
                let expected = (0..20).map(|line| format!("{what} {line}"));
                let expected: Vec<_> = expected.chain(["no newline".to_owned()].into_iter().take(more)).collect();
                let texts: Vec<_> = said.iter().filter(|line| line.stream == stream).map(|line| &line.text).collect();
                assert_eq!(texts, expected.iter().collect::<Vec<_>>());
            }
            for line in said {
                assert!(matches!(line.worker, WorkerId::Process { id, .. } if id == process), "{line:?}");
                assert_eq!((line.task, line.name.as_deref()), (Some(id), Some(name)), "{line:?}");
            }
        }
        assert!(lines.try_recv().is_err());
    });
}

/// Writes the number to both streams, without a newline to standard error.
pub(crate) fn write_number(number: u32, _: &Updater) -> TaskResult<()> {
    println!("{number}");
    eprint!("{number}");
    Ok(())
}

#[test]
fn what_short_tasks_write_one_after_the_other_is_of_each_of_them() {
    within_deadline(|| {
        let (executor, lines) = pool(Launcher::default());
        let tasks: Vec<_> = (0..300).map(|number| executor.submit(write_number, number)).collect();
        let ids: Vec<_> = tasks.iter().map(|task| Some(task.id())).collect();
        tasks.into_iter().for_each(|task| task.wait().unwrap());
        executor.shutdown().wait();
        let said: Vec<OutputLine> = lines.try_iter().collect();
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let of_stream = said.iter().filter(|line| line.stream == stream);
            let (texts, tasks): (Vec<_>, Vec<_>) = of_stream.map(|line| (line.text.clone(), line.task)).unzip();
            assert_eq!(texts, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
            assert_eq!(tasks, ids);
        }
    });
}

/// Writes to both streams once it must end.
pub(crate) fn write_when_it_is_to_end((): (), progress: &Updater) -> TaskResult<()> {
    let end = progress.sleep(Duration::MAX);
    println!("out");
    eprintln!("err");
    Ok(end?)
}

#[test]
fn what_a_task_writes_that_has_timed_out_is_its_own() {
    within_deadline(|| {
        let (executor, lines) = pool(Launcher::default());
        let task = executor.task(write_when_it_is_to_end, ()).timeout(Duration::from_millis(10)).submit();
        let id = task.id();
        assert!(task.wait().unwrap_err().is_timed_out());
        for _ in 0..2 {
            let line = next(&lines);
            assert_eq!(line.task, Some(id), "{line:?}");
        }
        executor.submit(write_number, 7).wait().unwrap();
        assert_ne!(next(&lines).task, Some(id));
    });
}

/// Writes this many lines of a kilobyte to both streams, the last one without a newline.
pub(crate) fn write_kilobytes(count: usize, _: &Updater) -> TaskResult<()> {
    let text = vec!["x".repeat(999); count].join("\n");
    print!("{text}");
    eprint!("{text}");
    Ok(())
}

#[test]
fn what_a_task_has_written_is_its_own_also_if_it_is_taken_when_others_run() {
    within_deadline(|| {
        let (gate, barrier) = gate();
        let mut barrier = Some(barrier);
        let (send, lines) = mpsc::channel();
        let output = WorkerOutput::lines(move |line| {
            barrier.take().into_iter().for_each(|barrier| barrier.pass());
            send.send((line.stream, line.task)).unwrap();
        });
        let executor = ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap();
        // More than the program reads while nothing is taken, and less than there is room for.
        let counts = [1, 50, 10, 0, 15, 30, 1];
        let tasks: Vec<_> = counts.iter().map(|&count| executor.submit(write_kilobytes, count)).collect();
        let mut expected = Vec::new();
        for (task, count) in tasks.iter().zip(counts) {
            expected.extend(vec![Some(task.id()); count]);
        }
        gate.wait();
        tasks.into_iter().for_each(|task| task.wait().unwrap());
        gate.open();
        executor.shutdown().wait();
        let said: Vec<_> = lines.try_iter().collect();
        for wanted in [OutputStream::Stdout, OutputStream::Stderr] {
            let tasks: Vec<_> = said.iter().filter(|(stream, _)| *stream == wanted).map(|(_, task)| *task).collect();
            assert_eq!(tasks, expected, "{wanted:?}");
        }
    });
}

/// Launchers forward both streams as one, and know nothing of tasks.
#[test]
fn each_line_of_a_launched_worker_is_passed_on_with_the_worker() {
    within_deadline(|| {
        let (executor, lines) = pool("env".parse().unwrap());
        let process = executor.submit(write_lines, 20).wait().unwrap();
        let mut said: Vec<OutputLine> = (0..40).map(|_| next(&lines)).collect();
        for line in &said {
            assert!(matches!(line.worker, WorkerId::Process { id, .. } if id == process), "{line:?}");
            assert_eq!((line.stream, line.task), (OutputStream::Stderr, None), "{line:?}");
        }
        executor.shutdown().wait();
        said.extend(lines.try_iter());
        for what in ["out", "err"] {
            let expected = (0..20).map(|line| format!("{what} {line}"));
            let texts = said.iter().map(|line| line.text.clone()).filter(|text| text.starts_with(what));
            assert_eq!(texts.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        assert_eq!(said.last().unwrap().text, "no newline");
    });
}

pub(crate) fn say_hello(name: String, _: &Updater) -> TaskResult<()> {
    println!("hello {name}");
    Ok(())
}

/// Also where the harness of a test program has written before.
#[test]
fn what_an_initializer_writes_is_passed_on() {
    within_deadline(|| {
        for launcher in launchers() {
            for _ in 0..10 {
                let (send, lines) = mpsc::channel();
                let output = WorkerOutput::lines(move |line| _ = send.send(line.clone()));
                let builder = ProcessPoolExecutor::builder().max_workers(1).output(output).launcher(launcher.clone());
                let executor = builder.initializer(say_hello, "worker".into()).build().unwrap();
                executor.submit(write_number, 7).wait().unwrap();
                let line = next(&lines);
                assert_eq!((&*line.text, line.task), ("hello worker", None));
            }
        }
    });
}

#[test]
fn what_a_launcher_writes_before_its_worker_has_started_is_its_own() {
    within_deadline(|| {
        let is_queued = NewFile::new();
        let queue = "echo $$ >&2; while [ -e \"$0\" ]; do sleep .01; done; \"$@\"";
        let (executor, lines) = pool(Launcher::command(["sh", "-c", queue, is_queued.path().to_str().unwrap()]));
        let task = executor.submit(write_number, 7);
        let line = next(&lines);
        let launcher: u32 = line.text.parse().unwrap();
        assert!(matches!(line.worker, WorkerId::Process { id, host: None, .. } if id == launcher), "{line:?}");
        is_queued.remove();
        task.wait().unwrap();
        let line = next(&lines);
        assert!(matches!(line.worker, WorkerId::Process { id, host: Some(_), .. } if id != launcher), "{line:?}");
    });
}

/// Output of which nothing is taken from the first line on, until the gate is opened.
fn held_up() -> (Gate, WorkerOutput) {
    let (gate, barrier) = gate();
    let mut barrier = Some(barrier);
    let output = WorkerOutput::lines(move |_| {
        if let Some(barrier) = barrier.take() {
            barrier.pass();
        }
    });
    (gate, output)
}

#[test]
fn a_callback_that_takes_no_more_holds_up_nobody_but_those_who_write() {
    within_deadline(|| {
        let (gate, output) = held_up();
        let executor = ProcessPoolExecutor::builder().max_workers(2).output(output).build().unwrap();
        let writer = executor.submit(write_for_ever, ());
        gate.wait();
        // The pipe is full now, or will be.
        eventually("it cannot write any more", || writer.silent_for() > Some(Duration::from_millis(500)));
        let before = writer.progress().n;
        assert!(before < 10_000, "{before} lines of a kilobyte were written that nobody has taken");
        assert_eq!(executor.submit(count, 10).wait().unwrap(), 10);
        gate.open();
        eventually("it goes on", || writer.progress().n > before);
        writer.cancel();
        assert!(writer.wait().unwrap_err().is_cancelled());
    });
}

#[test]
fn what_a_task_has_left_behind_holds_up_no_other_task() {
    within_deadline(|| {
        let (gate, output) = held_up();
        let executor = ProcessPoolExecutor::builder().max_workers(1).output(output).build().unwrap();
        executor.submit(leave_a_talker, ()).wait().unwrap();
        // From now on the thread is heard on standard error only.
        executor.submit(count, 10).wait().unwrap();
        gate.wait();
        // By now the pipe is full, and stays full.
        for _ in 0..5000 {
            assert_eq!(executor.submit(count, 10).wait().unwrap(), 10);
        }
        gate.open();
    });
}

#[test]
fn the_error_of_a_lost_worker_says_what_it_has_said_last() {
    within_deadline(|| {
        for launcher in launchers() {
            let (executor, lines) = pool(launcher);
            let error = executor.submit(complain_and_die, ()).wait().unwrap_err();
            assert!(error.is_worker_lost());
            let source = error.source().unwrap().to_string();
            assert!(source.ends_with("complaint 9999") && source.contains("complaint 9900"), "{source}");
            assert!(source.len() < 4500 && !source.contains("complaint 1\n"), "{}", source.len());
            assert!((0..10_000).all(|_| next(&lines).stream == OutputStream::Stderr), "all was passed on");
        }
    });
}

#[test]
fn what_is_dropped_is_nobodys() {
    within_deadline(|| {
        let executor = ProcessPoolExecutor::builder().max_workers(1).output(WorkerOutput::Null).build().unwrap();
        executor.submit(write_lines, 3).wait().unwrap();
        let error = executor.submit(complain_and_die, ()).wait().unwrap_err();
        assert!(error.is_worker_lost() && error.source().is_none());
    });
}

/// What was logged in this process, each with its task.
static LOGGED: Mutex<Vec<(String, Option<u64>)>> = Mutex::new(Vec::new());

struct Keep;

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() == "levels" {
            let id = record.key_values().get("task_id".into()).and_then(|id| id.to_u64());
            LOGGED.lock().unwrap().push((format!("{} {}", record.level(), record.args()), id));
        }
    }

    fn flush(&self) {}
}

#[test]
fn however_long_a_line_or_a_record_is_it_costs_no_worker() {
    within_deadline(|| {
        let builder = ProcessPoolExecutor::builder().max_workers(1).relay_logs(LevelFilter::Info);
        let executor = builder.max_frame_bytes(0).build().unwrap();
        for bytes in [60_000, 65_536, 100_000] {
            let said = Arc::new(Mutex::new(Vec::new()));
            let heard = said.clone();
            let events = executor.submit(say_at_length, bytes).events();
            smol::block_on(events.for_each(|event| {
                match event {
                    TaskEvent::Line(line) => heard.lock().unwrap().push(line.len()),
                    TaskEvent::Done(outcome) => outcome.unwrap(),
                    _ => {}
                }
                ready(())
            }));
            assert_eq!(*said.lock().unwrap(), [bytes.min(64 * 1024)]);
        }
    });
}

#[test]
fn what_a_worker_logs_reaches_the_logger_of_the_program() {
    static LOGGER: Once = Once::new();
    within_deadline(|| {
        LOGGER.call_once(|| {
            log::set_logger(&Keep).unwrap();
            log::set_max_level(LevelFilter::Trace);
        });
        for launcher in launchers() {
            let builder = ProcessPoolExecutor::builder().max_workers(1).relay_logs(LevelFilter::Info);
            let executor = builder.launcher(launcher).build().unwrap();
            let task = executor.task(log_levels, "relayed".into()).name("walk 04").submit();
            let id = task.id();
            let number: u64 = id.to_string().parse().unwrap();
            task.wait().unwrap();
            let logged = || {
                let logged = LOGGED.lock().unwrap();
                logged.iter().filter(|(_, of)| *of == Some(number)).cloned().collect::<Vec<_>>()
            };
            eventually("it is logged", || logged().len() >= 2);
            let text = |level: &str, what: &str| format!("{level} [walk 04, task {id}] relayed {what}");
            assert_eq!(logged(), [(text("ERROR", "error"), Some(number)), (text("INFO", "info"), Some(number))]);
        }
        // Nothing is relayed unless the pool was told to.
        ProcessPoolExecutor::new(1).unwrap().submit(log_levels, "silent".into()).wait().unwrap();
        assert!(LOGGED.lock().unwrap().iter().all(|(text, _)| !text.contains("silent")));
    });
}
