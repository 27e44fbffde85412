//! The page of `examples/web.rs`.

#[path = "../../examples/web.rs"]
#[allow(dead_code)] // Its `main` is not called.
mod example;

use std::env;
use std::io::{BufRead, BufReader};
use std::iter;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::driver::Browser;

const DEADLINE: Duration = Duration::from_secs(60);
/// Set if this program is the server: the steps of its jobs.
const STEPS: &str = "TEST_STEPS_OF_A_JOB";

/// The example in a process of its own, ended when this is dropped.
struct Server {
    process: Child,
    /// The lines that the server writes.
    said: Receiver<String>,
}

impl Server {
    /// Each of its jobs takes so many tenths of a second.
    fn start(steps: u64) -> Self {
        let mut server = Command::new(env::current_exe().unwrap());
        server.args(["web::the_server", "--exact", "--nocapture"]).env(STEPS, steps.to_string()).stdout(Stdio::piped());
        let mut process = server.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (lines, said) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { process, said }
    }

    fn address(&self) -> String {
        // On a single processor, the name of the test precedes the address.
        let address = |line: String| line.find("http://").map(|at| line[at..].to_owned());
        iter::repeat_with(|| self.next_line()).find_map(address).unwrap()
    }

    /// The next line that the server writes.
    fn next_line(&self) -> String {
        self.said.recv_timeout(DEADLINE).expect("the server says something")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test, but the process that one starts.
#[test]
fn the_server() {
    if let Ok(steps) = env::var(STEPS) {
        smol::block_on(example::serve(0, steps.parse().unwrap())).unwrap();
    }
}

#[test]
fn jobs_are_started_shown_and_cancelled() {
    let Some(browser) = Browser::start() else { return };
    let state = |what: &str, state: &str| {
        let script = format!("return document.querySelector('.job .state')?.textContent.includes('{state}')");
        browser.eventually(what, &script);
    };
    let width = "return parseFloat(document.querySelector('.job .fill').style.width)";

    // A job that goes on to its end.
    let server = Server::start(20);
    browser.open(&server.address());
    browser.click("#start");
    state("it ends", "finished");
    assert_eq!(browser.run(width), 100);
    assert!(server.next_line().ends_with(": finished"));
    assert_eq!(browser.errors(), [""; 0]);

    // A job that is cancelled by a click. It does not end by itself, however slow the browser is.
    let server = Server::start(100_000);
    browser.open(&server.address());
    browser.click("#start");
    state("it runs and says so", "m deep");
    browser.eventually("its progress is seen", &format!("{width} > 0"));
    browser.click(".job .cancel");
    state("it is cancelled", "cancelled");
    let line = server.next_line();
    assert!(line.contains("was cancelled"), "{line}");
    assert_eq!(browser.errors(), [""; 0]);
    browser.take_picture("web.png");

    // A job that is left behind.
    browser.click("#start");
    state("it runs", "m deep");
    browser.open("about:blank");
    let line = server.next_line();
    assert!(line.contains("its page is gone"), "{line}");
}
