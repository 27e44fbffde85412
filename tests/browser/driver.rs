//! A browser without a window, driven by [WebDriver](https://www.w3.org/TR/webdriver2/).

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

/// Far longer than anything takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Nothing is loaded from elsewhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

/// A browser with a profile of its own, ended when this is dropped.
pub(crate) struct Browser {
    agent: Agent,
    session: String,
    // In this order: the driver must be gone before the files of its browser.
    _driver: Driver,
    _profile: NewDir,
}

struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with a unique name, removed on drop.
pub(crate) struct NewDir(PathBuf);

impl NewDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("progress-executor-browser-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Browser {
    /// `None` if there is no browser, and none is required.
    pub(crate) fn start() -> Option<Self> {
        let child = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = match child {
            Ok(child) => Driver(child),
            Err(error) if env::var_os("TEST_BROWSER").is_none_or(|it| it != "required") => {
                // Not `eprintln!`, which the harness hides where a test passes.
                let _ = writeln!(
                    io::stderr(),
                    "LEFT OUT: cannot start `chromedriver`, {error}; apt-get install chromium chromium-driver"
                );
                return None;
            }
            Err(error) => panic!("cannot start `chromedriver`: {error}"),
        };
        let port = port_of(&mut driver.0);
        let config = Agent::config_builder().timeout_global(Some(DEADLINE)).http_status_as_error(false);
        let agent: Agent = config.build().into();
        let profile = NewDir::new();
        let flags: Vec<String> = FLAGS
            .into_iter()
            .map(String::from)
            .chain([format!("--user-data-dir={}", profile.path().display())])
            .collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let sessions = format!("http://localhost:{port}/session");
        let session = request(&agent, &sessions, Some(&wanted));
        let session = format!("{sessions}/{}", session["sessionId"].as_str().unwrap());
        Some(Self { agent, session, _driver: driver, _profile: profile })
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        request(&self.agent, &format!("{}/{command}", self.session), Some(body))
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    pub(crate) fn set_size(&self, width: u32, height: u32) {
        self.post("window/rect", &json!({ "width": width, "height": height }));
    }

    /// Prefers a `light` or a `dark` screen.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.post("goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": features }));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script until it returns something other than `false` or `null`.
    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, script: &str) -> Value {
        let start = Instant::now();
        loop {
            let value = self.run(script);
            if value != json!(false) && !value.is_null() {
                return value;
            }
            assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
            thread::yield_now();
        }
    }

    /// Clicks where a person would.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = element.as_object().and_then(|element| element.values().next()).and_then(Value::as_str).unwrap();
        self.post(&format!("element/{id}/click"), &json!({}));
    }

    pub(crate) fn write(&self, selector: &str, text: &str) {
        let element = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = element.as_object().and_then(|element| element.values().next()).and_then(Value::as_str).unwrap();
        self.post(&format!("element/{id}/value"), &json!({ "text": text }));
    }

    /// The errors on the browser's console since the last call.
    pub(crate) fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" }));
        let errors = log.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        errors.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Leaves a picture for people to look at, where the target directory has its files for tests.
    pub(crate) fn take_picture(&self, name: &str) {
        let picture = request(&self.agent, &format!("{}/screenshot", self.session), None);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(path, decode_base64(picture.as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser. If that fails, the driver is killed all the same.
        let _ = self.agent.delete(&self.session).call();
    }
}

fn port_of(driver: &mut Child) -> u16 {
    let output = BufReader::new(driver.stdout.take().unwrap());
    let mut said = Vec::new();
    for line in output.lines() {
        let line = line.unwrap();
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
        said.push(line);
    }
    panic!("chromedriver has ended: {said:?}")
}

/// The `value` of the answer.
fn request(agent: &Agent, url: &str, body: Option<&Value>) -> Value {
    let answer = match body {
        Some(body) => agent.post(url).header("content-type", "application/json").send(body.to_string()),
        None => agent.get(url).call(),
    };
    let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"));
    assert!(answer.status().is_success(), "{url}: {text}");
    value["value"].clone()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
