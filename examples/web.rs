//! A page that starts jobs, shows their progress, and cancels them: on a click, or when the page is closed.
//!
//! ```text
//! cargo run --example web -- [--port 8080]
//! ```
//!
//! The page has a connection for each job, over which it receives the [events](progress_executor::TaskEvents) of the job as
//! [server-sent events]. Closing the page closes its connections, which drops the streams of events, and that cancels the
//! jobs. The server does not have to track which pages are still open.
//!
//! It serves this machine only. The HTTP is hyper's, on smol.
//!
//! [server-sent events]: https://developer.mozilla.org/docs/Web/API/Server-sent_events

mod cli;

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use progress_executor::{BoxError, Canceller, TaskEvent, TaskResult, ThreadPoolExecutor, Updater};
use smol::Async;
use smol_hyper::rt::{FuturesIo, SmolTimer};

const USAGE: &str = "\
Usage: web [--port PORT]

  --port PORT  serve this port of this machine, 8080 if not said otherwise; 0 for any that is free
  --help       show this";

const PAGE: &str = include_str!("web.html");
const WORKERS: usize = 3;
const STEPS: u64 = 50;
const STEP: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn main() -> ExitCode {
    cli::run(USAGE, parse, |port| smol::block_on(serve(port, STEPS)))
}

fn parse(arguments: Vec<OsString>) -> Result<u16, String> {
    match &arguments[..] {
        [] => Ok(8080),
        [option, port] if option == "--port" => {
            port.to_str().and_then(|port| port.parse().ok()).ok_or_else(|| format!("{port:?} is no port"))
        }
        [option] if option == "--port" => Err("`--port` needs a value: a number".into()),
        others => Err(format!("unknown arguments {others:?}")),
    }
}

pub(crate) async fn serve(port: u16, steps: u64) -> Result<ExitCode, BoxError> {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("cannot listen to port {port}: {error}"))?;
    say(format_args!("http://{}", listener.get_ref().local_addr()?));
    let jobs = Arc::new(Jobs { executor: ThreadPoolExecutor::new(WORKERS), steps, cancellers: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        let jobs = jobs.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let response = jobs.respond(request.method(), request.uri().path());
            async { Ok::<_, Infallible>(response) }
        });
        let connection =
            http1::Builder::new().timer(SmolTimer::new()).serve_connection(FuturesIo::new(stream), service);
        // A page that is closed in the middle of its events is no error.
        smol::spawn(async { drop(connection.await) }).detach();
    }
}

/// The task of a job.
fn dig(steps: u64, progress: &Updater) -> TaskResult<()> {
    for step in progress.iter(0..steps) {
        progress.set_message(format!("{} m deep", step?));
        progress.sleep(STEP)?;
    }
    Ok(())
}

struct Jobs {
    executor: ThreadPoolExecutor,
    /// Of each job.
    steps: u64,
    /// By job number, for the jobs whose events a page receives.
    cancellers: Mutex<HashMap<String, Canceller>>,
}

impl Jobs {
    fn respond(self: &Arc<Self>, method: &Method, path: &str) -> Response<Body> {
        match (method, path.strip_prefix("/cancel/")) {
            (&Method::GET, None) if path == "/" => respond(StatusCode::OK, "text/html; charset=utf-8", text(PAGE)),
            (&Method::GET, None) if path == "/run" => {
                let events = StreamBody::new(self.start().map(|event| Ok(Frame::data(event))));
                respond(StatusCode::OK, "text/event-stream", events.boxed_unsync())
            }
            (&Method::POST, Some(job)) => {
                let canceller = self.cancellers().get(job).cloned();
                canceller.iter().for_each(Canceller::cancel);
                let status = if canceller.is_some() { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND };
                respond(status, "text/plain", text(""))
            }
            _ => respond(StatusCode::NOT_FOUND, "text/plain", text("there is nothing here")),
        }
    }

    /// Starts a job. It is cancelled when its events are dropped.
    fn start(self: &Arc<Self>) -> impl Stream<Item = Bytes> + Send + 'static {
        let task = self.executor.submit(dig, self.steps);
        let job = task.id().to_string();
        self.cancellers().insert(job.clone(), task.canceller());
        let mut listing = Listing { jobs: self.clone(), job, has_ended: false };
        task.events().map(move |event| {
            if let TaskEvent::Done(outcome) = &event {
                listing.has_ended = true;
                match outcome {
                    Ok(()) => say(format_args!("job {}: finished", listing.job)),
                    Err(error) => say(format_args!("job {}: {error:#}", listing.job)),
                }
            }
            server_sent(&event).unwrap_or_default()
        })
    }

    fn cancellers(&self) -> MutexGuard<'_, HashMap<String, Canceller>> {
        self.cancellers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of a job in `Jobs::cancellers`, which is removed when this is dropped.
struct Listing {
    jobs: Arc<Jobs>,
    job: String,
    has_ended: bool,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.jobs.cancellers().remove(&self.job);
        if !self.has_ended {
            say(format_args!("job {}: its page is gone, so it is cancelled", self.job));
        }
    }
}

/// Writes a line to standard output. Failures are ignored: pages are served even if nothing reads the output.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// An event as it is sent to a page: a line of JSON.
fn server_sent(event: &TaskEvent<()>) -> io::Result<Bytes> {
    Ok(format!("data: {}\n\n", serde_json::to_string(event)?).into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync()
}
