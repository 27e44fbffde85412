//! The page of a report.

use std::fs::File;

use progress_executor::{GroupReport, TaskGroup, ThreadPoolExecutor};
use serde_json::json;

use crate::driver::{Browser, NewDir};

/// A name that would end the script around it.
const NASTY_NAME: &str = "</script><b>bold</b> \u{2028}\"";

/// A report of this many tasks on this many threads. Every eighth task fails; each has as many units as its name says.
fn report(tasks: u64, workers: usize) -> GroupReport {
    let executor = ThreadPoolExecutor::new(workers);
    let mut group = TaskGroup::new();
    let handle = group.handle();
    // The first tasks wait for each other, so that each thread has one.
    let all_are_there = std::sync::Arc::new(std::sync::Barrier::new(workers));
    for n in 0..tasks {
        let all_are_there = all_are_there.clone();
        let task = executor.task(
            move |n: u64, progress| {
                if n < workers as u64 {
                    all_are_there.wait();
                }
                progress.set_counts(n, tasks)?;
                if n % 8 == 3 { Err("out of paper".into()) } else { Ok(n) }
            },
            n,
        );
        let name = if n == 1 { NASTY_NAME.to_owned() } else { format!("walk {n}") };
        group.add(task.name(name).submit());
    }
    smol::block_on(group.join_all());
    handle.report()
}

/// Opens the page of a report, which must load without errors and without anything from elsewhere.
fn open(browser: &Browser, report: &GroupReport) -> NewDir {
    let directory = NewDir::new();
    let path = directory.path().join("run.html");
    report.write_html(File::create(&path).unwrap()).unwrap();
    browser.set_size(1300, 1000);
    browser.open(&format!("file://{}", path.display()));
    assert_eq!(browser.errors(), [""; 0]);
    assert_eq!(browser.run("return performance.getEntriesByType('resource').length"), 0);
    directory
}

/// The texts of a column of the table.
fn column(browser: &Browser, key: &str) -> Vec<String> {
    let script = format!(
        "const columns = [...document.querySelectorAll('#tasks th')].map((th) => th.dataset.key);
         const at = columns.indexOf('{key}');
         return [...document.querySelectorAll('#tasks tbody tr')].map((row) => row.cells[at].textContent);"
    );
    serde_json::from_value(browser.run(&script)).unwrap()
}

/// The least number of pixels with a colour in any lane that is in sight.
const LEAST_PAINTED: &str = "
    const lanes = [...document.querySelectorAll('.lane canvas')];
    const painted = (canvas) => {
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.filter((value, at) => at % 4 === 3 && value > 0).length;
    };
    return lanes.length > 0 && Math.min(...lanes.map(painted));";

#[test]
fn sixteen_tasks() {
    let Some(browser) = Browser::start() else { return };
    let report = report(16, 3);
    let _page = open(&browser, &report);
    assert_eq!(browser.run("return document.getElementById('summary').textContent"), report.to_string());
    let lanes = browser.run("return [...document.querySelectorAll('.lane .label')].map((label) => label.textContent)");
    let workers: std::collections::BTreeSet<_> = report.tasks().iter().filter_map(|task| task.worker.clone()).collect();
    assert_eq!(lanes, json!(workers.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let painted = browser.eventually("the lanes are drawn", LEAST_PAINTED);
    assert!(painted.as_u64() > Some(10), "{painted}");

    let names: Vec<_> = report.tasks().iter().map(|task| task.name.clone()).collect();
    assert_eq!(column(&browser, "name"), names);
    browser.click("th[data-key=n] button");
    assert_eq!(column(&browser, "n"), (0..16).rev().map(|n| n.to_string()).collect::<Vec<_>>(), "the most comes first");
    browser.click("th[data-key=n] button");
    assert_eq!(column(&browser, "n"), (0..16).map(|n| n.to_string()).collect::<Vec<_>>());
    browser.click("th[data-key=name] button");
    let mut sorted = column(&browser, "name");
    assert_eq!(sorted[..2], [NASTY_NAME, "walk 0"]);
    assert_eq!(sorted.pop().unwrap(), "walk 15", "numbers are compared as numbers");
    browser.write("#filter", "failed");
    assert_eq!(column(&browser, "name"), ["walk 3", "walk 11"]);
    assert_eq!(browser.errors(), [""; 0]);
}

#[test]
fn ten_thousand_tasks() {
    let Some(browser) = Browser::start() else { return };
    let report = report(10_000, 40);
    let _page = open(&browser, &report);
    assert_eq!(browser.run("return document.querySelectorAll('.lane').length"), 40);
    browser.eventually("the lanes in sight are drawn", LEAST_PAINTED);
    browser.eventually(
        "the last lane is drawn once it is in sight",
        "const last = [...document.querySelectorAll('.lane')].at(-1);
         last.scrollIntoView();
         return last.querySelector('canvas') !== null;",
    );
    assert_eq!(column(&browser, "id").len(), 500, "the first ones will do");
    browser.click("th[data-key=n] button");
    assert_eq!(column(&browser, "n")[..3], ["9999", "9998", "9997"]);
    browser.click("#all");
    assert_eq!(column(&browser, "n").len(), 10_000);
    assert_eq!(browser.errors(), [""; 0]);
}

#[test]
fn light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    for (tasks, workers) in [(16, 3), (10_000, 8)] {
        let _page = open(&browser, &report(tasks, workers));
        let mut brightness = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            browser.eventually("the lanes are drawn", LEAST_PAINTED);
            // The sum of its red, green and blue.
            let sum =
                "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)";
            brightness.push(browser.run(sum).as_u64().unwrap());
            browser.take_picture(&format!("report-{tasks}-{scheme}.png"));
        }
        assert!(brightness[0] > 700 && brightness[1] < 120, "{brightness:?}");
    }
}
