//! The port where workers connect, and who else connects there; and what may lie between a worker and its program.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use std::{fs, iter};

use progress_executor::{ExecutorExt, Launcher, TaskErrorKind};

use crate::support::{
    Gate, alone, assert_lost_and_told, double, echo_bytes, eventually, leave_line, nodes_of, on_slurm, pool, skip, spin,
};

/// A free port of this machine that the system gives only to those who ask for it.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = iter::repeat_with(|| first + TAKEN.fetch_add(1, Ordering::SeqCst));
    ports.take(1_000).find(is_free).expect("one of a thousand ports is free")
}

/// Workers on this machine, which connect to the program at one of the advertised addresses.
fn local(port: u16, advertised: &[String]) -> Launcher {
    Launcher::bulk(["env"]).listen([format!("127.0.0.1:{port}")]).advertise(advertised)
}

#[test]
fn strangers_are_not_heard_and_workers_come_all_the_same() {
    on_slurm(|_| {
        let (port, gate) = (free_port(), Gate::new());
        // The workers come once the strangers are there.
        let script = "while [ -e \"$0\" ]; do sleep 0.05; done; exec \"$@\"";
        let srun = ["srun", "-n{count}", "--overcommit", "-Q"];
        let launcher = Launcher::bulk(["sh", "-c", script, gate.path().to_str().unwrap()].into_iter().chain(srun));
        let pool = pool(launcher.listen([format!("127.0.0.1:{port}")]), 2);
        let first = pool.submit(double, 1);
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        eventually("it listens", || TcpStream::connect(address).is_ok());
        let there = Arc::new(AtomicUsize::new(0));
        let strangers = (0..100).map(|number| {
            let there = there.clone();
            thread::spawn(move || be_strange(address, number, &there))
        });
        let strangers: Vec<_> = strangers.collect();
        eventually("all of them are there", || there.load(Ordering::SeqCst) == 100);
        gate.open();
        assert_eq!(first.wait().unwrap(), 2);
        for stranger in strangers {
            assert_eq!(stranger.join().unwrap(), 0, "a stranger was told something");
        }
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
    });
}

#[test]
fn strangers_who_hold_connections_open_do_not_keep_workers_from_coming() {
    alone(|| {
        let (port, gate) = (free_port(), Gate::new());
        // The worker comes once the strangers are there.
        let script = "while [ -e \"$0\" ]; do sleep 0.05; done; exec \"$@\"";
        let launcher = Launcher::bulk(["sh", "-c", script, gate.path().to_str().unwrap()]);
        let pool = pool(launcher.listen([format!("127.0.0.1:{port}")]), 1);
        let task = pool.submit(double, 4);
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        eventually("it listens", || TcpStream::connect(address).is_ok());
        let there = Arc::new(AtomicUsize::new(0));
        let strangers = (0..200).map(|_| {
            let there = there.clone();
            // Says nothing, and comes again whenever it is closed, as long as the program listens.
            thread::spawn(move || {
                while let Ok(mut stream) = TcpStream::connect(address) {
                    there.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read(&mut [0]);
                }
            })
        });
        let strangers: Vec<_> = strangers.collect();
        eventually("all of them are there", || there.load(Ordering::SeqCst) >= 200);
        gate.open();
        assert_eq!(task.wait().unwrap(), 8);
        drop(pool);
        strangers.into_iter().for_each(|stranger| stranger.join().unwrap());
    });
}

/// Returns the number of bytes that the program answered.
fn be_strange(address: SocketAddr, number: usize, there: &AtomicUsize) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    there.fetch_add(1, Ordering::SeqCst);
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let said: &[u8] = match number % 5 {
        0 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        1 => b"progexec\x01\0\0\0\0\0\0\0\0\x30 a key that is not the one which it should be ....",
        2 => b"progexec",
        3 => b"",
        _ => &[b'x'; 100_000],
    };
    // The program may close the connection meanwhile.
    let _ = stream.write_all(said);
    if number % 10 == 3 {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.len()
}

/// A file that launchers write to, removed on drop.
struct NewFile(String);

impl NewFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("progress-executor-{name}-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        Self(path.to_str().unwrap().to_owned())
    }

    fn path(&self) -> &str {
        &self.0
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The number of messages that a worker sends before it is given anything, each on its own: it opens the handshake,
/// confirms it, and greets.
const INTRODUCTION: usize = 3;

/// Carries bytes between workers and their program, and disturbs them as it is told to.
#[derive(Default)]
struct Proxy {
    /// How long each piece is held up, in milliseconds.
    delay: AtomicU64,
    /// Flips a bit of what a worker says next.
    flips: AtomicBool,
    stalls: AtomicBool,
    /// How many workers to cut off when they have just introduced themselves.
    cuts: AtomicUsize,
    /// How many confirmations to lose.
    losses: AtomicUsize,
    /// How many workers to mute from their greeting on; not even the end of their connections gets through.
    mutes: AtomicUsize,
    is_over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// Everything that workers have said.
    recorded: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Returns the port where workers find the proxy.
    fn start(program: u16) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Self::default());
        let shared = proxy.clone();
        thread::spawn(move || {
            for worker in listener.incoming().take_while(|_| !shared.is_over.load(Ordering::SeqCst)) {
                let (worker, program) = (worker.unwrap(), TcpStream::connect(("127.0.0.1", program)).unwrap());
                shared.streams.lock().unwrap().extend([worker.try_clone().unwrap(), program.try_clone().unwrap()]);
                shared.clone().carry(worker.try_clone().unwrap(), program.try_clone().unwrap(), true);
                shared.clone().carry(program, worker, false);
            }
        });
        (proxy, port)
    }

    fn carry(self: Arc<Self>, mut from: TcpStream, mut to: TcpStream, is_worker: bool) {
        thread::spawn(move || {
            let (mut bytes, mut pieces) = (vec![0; 64 * 1024], 0);
            while let Ok(len @ 1..) = from.read(&mut bytes) {
                if is_worker {
                    self.recorded.lock().unwrap().extend(&bytes[..len]);
                    pieces += 1;
                }
                let has_confirmed = is_worker && pieces == INTRODUCTION - 1;
                if has_confirmed && self.losses.load(Ordering::SeqCst) > 0 {
                    self.losses.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let is_muted = is_worker && pieces == INTRODUCTION && self.mutes.load(Ordering::SeqCst) > 0;
                if is_muted {
                    self.mutes.fetch_sub(1, Ordering::SeqCst);
                    while let Ok(1..) = from.read(&mut bytes) {}
                    while !self.is_over.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(10));
                    }
                    break;
                }
                let is_cut = pieces == INTRODUCTION && self.cuts.load(Ordering::SeqCst) > 0;
                if is_cut {
                    // Before the worker can be sent anything.
                    let _ = from.shutdown(Shutdown::Both);
                    self.cuts.fetch_sub(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
                while self.stalls.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(10));
                }
                if is_worker && self.flips.swap(false, Ordering::SeqCst) {
                    bytes[len - 1] ^= 1;
                }
                if to.write_all(&bytes[..len]).is_err() || is_cut {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    }

    /// Stops listening.
    fn stop(&self, port: u16) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", port));
    }

    fn cut(&self) {
        self.streams.lock().unwrap().drain(..).for_each(|stream| {
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

#[test]
fn dead_addresses_that_are_advertised_first_do_no_harm() {
    alone(|| {
        let port = free_port();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        // Addresses without a host, without a listener, and with a listener that says nothing: one after the other,
        // they would take longer than this test may.
        let silent = iter::repeat_n(silent.local_addr().unwrap().to_string(), 50);
        let dead = ["192.0.2.1:9".into(), format!("127.0.0.1:{}", free_port())].into_iter().chain(silent);
        let advertised: Vec<String> = dead.chain([format!("127.0.0.1:{port}")]).collect();
        assert_eq!(pool(local(port, &advertised), 1).submit(double, 4).wait().unwrap(), 8);
    });
}

#[test]
fn a_program_listens_on_all_addresses_that_it_is_to_listen_on() {
    alone(|| {
        if TcpListener::bind("[::1]:0").is_err() {
            return skip("IPv6", "start-slurm");
        }
        for listen in [&["0.0.0.0", "::"][..], &["::", "127.0.0.1"], &["127.0.0.1", "::1", "127.0.0.1"]] {
            for advertised in ["127.0.0.1", "::1"] {
                let pool = pool(Launcher::bulk(["env"]).listen(listen).advertise([advertised]), 1);
                assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "{listen:?} by way of {advertised}");
            }
        }
    });
}

#[test]
fn a_slow_line_delays_and_a_cut_one_costs_the_task() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        let launcher = local(port, &[format!("127.0.0.1:{by_way_of}")]);
        let pool = pool(launcher.heartbeat(Duration::from_secs(10)), 1);
        assert_eq!(pool.submit(double, 1).wait().unwrap(), 2);
        // A megabyte in a second.
        proxy.delay.store(50, Ordering::SeqCst);
        let bytes: Vec<u8> = (0..2 << 20).map(|n| n as u8).collect();
        assert!(pool.submit(echo_bytes, bytes.clone()).wait().unwrap() == bytes);
        proxy.delay.store(0, Ordering::SeqCst);
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        proxy.stalls.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_secs(10));
        proxy.stalls.store(false, Ordering::SeqCst);
        assert!(!task.progress().status.is_terminal(), "three heartbeats are longer than that");
        proxy.cut();
        assert_lost_and_told(&task.wait().unwrap_err());
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "another worker comes");
        proxy.stop(by_way_of);
    });
}

#[test]
fn workers_that_are_gone_right_after_their_greeting_cost_no_task() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        proxy.cuts.store(5, Ordering::SeqCst);
        let pool = pool(local(port, &[format!("127.0.0.1:{by_way_of}")]), 1);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "the sixth one serves");
        assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0);
        assert_eq!(pool.workers().lost, 5);
        proxy.stop(by_way_of);
    });
}

#[test]
fn a_worker_that_falls_silent_before_its_greeting_costs_no_task_and_is_replaced() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        proxy.mutes.store(1, Ordering::SeqCst);
        let pool = pool(local(port, &[format!("127.0.0.1:{by_way_of}")]), 1);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        assert_eq!(proxy.mutes.load(Ordering::SeqCst), 0);
        proxy.stop(by_way_of);
    });
}

#[test]
fn a_worker_that_is_turned_away_because_it_was_slow_tries_again() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        proxy.losses.store(1, Ordering::SeqCst);
        let launches = NewFile::new("launches");
        let launcher = Launcher::bulk(["sh", "-c", "echo >> \"$0\"; exec \"$@\"", launches.path()]);
        let addresses = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{by_way_of}"));
        let pool = pool(launcher.listen([addresses.0]).advertise([addresses.1]), 1);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        assert_eq!(proxy.losses.load(Ordering::SeqCst), 0);
        assert_eq!(launches.text(), "\n", "no other one was started");
        proxy.stop(by_way_of);
    });
}

#[test]
fn workers_that_are_lost_together_are_replaced_by_one_command() {
    on_slurm(|_| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        let launches = NewFile::new("launches");
        let script = "echo {count} >> \"$0\"; exec \"$@\"";
        let srun = ["srun", "-n{count}", "--overcommit", "-K0", "-Q"];
        let launcher = Launcher::bulk(["sh", "-c", script, launches.path()].into_iter().chain(srun));
        let addresses = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{by_way_of}"));
        let pool = pool(launcher.listen([addresses.0]).advertise([addresses.1]), 8);
        let tasks: Vec<_> = (0..8).map(|_| pool.submit(spin, ())).collect();
        eventually("all spin", || tasks.iter().all(|task| task.progress().message.is_some()));
        let waiting: Vec<_> = (0..8).map(|_| pool.submit(double, 4)).collect();
        proxy.cut();
        assert!(waiting.into_iter().all(|task| task.wait().unwrap() == 8));
        nodes_of(&pool, 8);
        assert_eq!(launches.text(), "8\n8\n");
        proxy.stop(by_way_of);
    });
}

#[test]
fn a_flipped_bit_costs_the_worker_and_a_recorded_worker_is_not_let_in() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        let pool = pool(local(port, &[format!("127.0.0.1:{by_way_of}")]), 1);
        let task = pool.submit(spin, ());
        eventually("it spins", || task.progress().message.is_some());
        let recorded = proxy.recorded.lock().unwrap().clone();
        let mut again = TcpStream::connect(("127.0.0.1", port)).unwrap();
        again.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = again.write_all(&recorded);
        let mut answer = Vec::new();
        let _ = again.read_to_end(&mut answer);
        assert!(answer.is_empty(), "a recorded worker was answered");
        assert!(!task.progress().status.is_terminal(), "the real one serves on");
        proxy.flips.store(true, Ordering::SeqCst);
        // The worker's next message, a heartbeat, is changed.
        let error = task.wait().unwrap_err();
        assert!(matches!(error.kind(), TaskErrorKind::WorkerLost(_)), "{error:#}");
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8, "another worker comes");
        proxy.stop(by_way_of);
    });
}

#[test]
fn a_task_whose_start_is_lost_on_the_way_is_not_run_again() {
    alone(|| {
        let port = free_port();
        let (proxy, by_way_of) = Proxy::start(port);
        let pool = pool(local(port, &[format!("127.0.0.1:{by_way_of}")]), 1);
        assert_eq!(pool.submit(double, 4).wait().unwrap(), 8);
        let runs = NewFile::new("runs");
        // What the worker says next is that it has begun, unless a heartbeat is due just now: then the task has not been run.
        proxy.flips.store(true, Ordering::SeqCst);
        let outcome = pool.submit(leave_line, runs.path().into()).wait();
        assert_eq!(runs.text(), "run\n", "{outcome:?}");
        if let Err(error) = outcome {
            assert!(error.is_worker_lost() && format!("{error:#}").contains("changed on their way"), "{error:#}");
        }
        assert_eq!(pool.submit(double, 5).wait().unwrap(), 10);
        proxy.stop(by_way_of);
    });
}
