//! The pages that people look at, tested in a browser: that of a report, and that of `examples/web.rs`.
//!
//! This takes Chromium and its driver (`apt-get install chromium chromium-driver`). If they are missing, the tests say
//! so and pass; with the environment variable `TEST_BROWSER=required` they fail.

mod driver;
mod report;
mod web;
