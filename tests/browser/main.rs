//! What people look at in a browser, looked at in a browser: the page of a report, and the page of `examples/web.rs`.
//!
//! It takes Chromium and its driver (`apt-get install chromium chromium-driver`). Where they are missing, the tests say so
//! and pass; with the environment variable `TEST_BROWSER=required` they fail.

mod driver;
mod report;
mod web;
