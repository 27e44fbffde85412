//! The structure of the library, as far as it can be executed: who may import whom, and what a file may look like.
//!
//! [`reader`] finds out from the sources which file names what of which other file. The figures are printed by
//! `cargo test --test structure -- --ignored --nocapture figures`.

mod circles;
mod figures;
mod lines;
mod names;
mod order;
mod reader;
mod reader_tests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::lines::Lines;
use crate::order::Order;
use crate::reader::{Arrow, Graph, Place, Sources};
use crate::tokens::{idents_of, tokens_of, unreasoned};

/// Who may import whom: in each of these folders, a module only what stands below it. In `a | b < c < d`, `d` stands
/// above all others, and neither `a` nor `b` above the other. In folders that are not listed any order will do.
const ORDER: &[(&str, &[&str])] = &[
    (
        "src",
        &[
            "id < progress < error < codec",
            "sync < error",
            "codec < task < updater < run < future",
            "future < group < executor < inline | thread | process",
            "future | json < bars",
            "json < group",
            "compile_fail | guide",
        ],
    ),
    ("src/thread", &["pool < executor < builder < mod"]),
    (
        "src/process",
        &[
            "protocol < error",
            "program < build_id",
            "build_id | protocol < registry < worker_args",
            "error < launcher",
            "launcher | output < settings",
            "settings | this_process | trampoline | worker_args | workers < pool",
            "error | this_process | worker_args < worker",
            "pool < executor < builder | setup",
            "trampoline | worker < init < test_worker",
            "settings | workers < unsupported < builder",
            "builder | setup | test_worker < mod",
        ],
    ),
];

/// The most lines of code that a file may have.
const MAX_LINES: usize = 450;

/// What only some platforms have, and the only places that may know of it: processes, the job control of a terminal, and
/// `src/lib.rs`.
const PLATFORM_WORDS: &[&str] =
    &["libc", "os", "rustix", "target_env", "target_family", "target_os", "unix", "vm_memory", "windows"];
const PLATFORM_PLACES: &[&str] = &["src/process/", "src/group/bars/job.rs", ROOT];

const ROOT: &str = "src/lib.rs";

static SOURCES: LazyLock<Sources> = LazyLock::new(|| sources_in(&["src"]));
static ORDERS: LazyLock<BTreeMap<&str, Order>> =
    LazyLock::new(|| ORDER.iter().map(|(folder, chains)| (*folder, Order::parse(chains))).collect());
static GRAPH: LazyLock<Graph> = LazyLock::new(|| reader::read(&SOURCES, ROOT));

fn sources_in(folders: &[&str]) -> Sources {
    let mut sources = Sources::new();
    for folder in folders {
        collect_sources(folder, &mut sources);
    }
    sources
}

fn collect_sources(folder: &str, sources: &mut Sources) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for entry in fs::read_dir(package.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect_sources(&path, sources);
        } else if path.ends_with(".rs") {
            sources.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[track_caller]
fn assert_none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}; but\n  {}\n", violations.join("\n  "));
}

#[test]
fn every_file_is_read_and_every_path_understood() {
    let read: BTreeSet<&String> = GRAPH.files.union(&GRAPH.test_files).collect();
    let unread = SOURCES.keys().filter(|file| !read.contains(file));
    let unread = unread.map(|file| format!("{file} is no module of {ROOT}"));
    let unresolved = GRAPH.unresolved.iter().map(|(place, path)| format!("{place}: what is `{path}`?"));
    assert_none("each file is a module, and each path leads to one", unread.chain(unresolved).collect());
}

#[test]
fn imports_point_downwards() {
    // One line for each pair of files is enough.
    let arrows = GRAPH.arrows.iter().map(|arrow| ((&arrow.from.file, &arrow.to), arrow)).rev();
    let violations = arrows.collect::<BTreeMap<_, _>>().into_values().filter_map(violation_of_order);
    assert_none(
        "a module imports only from what stands below it in `ORDER` of tests/structure/rules.rs",
        violations.collect(),
    );
}

fn violation_of_order(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, path, .. } = arrow;
    let (folder, upper, lower) = where_they_part(&from.file, to);
    let complaint = || format!("{from}: `{path}` is of {to}, and in {folder}/ `{upper}` is not above `{lower}`");
    (!may_import(&from.file, to)).then(complaint)
}

fn may_import(from: &str, to: &str) -> bool {
    let (folder, upper, lower) = where_they_part(from, to);
    from == ROOT || ORDERS.get(folder).is_none_or(|order| order.is_above(upper, lower))
}

/// The innermost folder that two files have in common, and the modules of it that they belong to.
fn where_they_part<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str, &'a str) {
    let module = |rest: &'a str| rest.split('/').next().map_or(rest, |it| it.trim_end_matches(".rs"));
    let mut slashes = one.rmatch_indices('/').map(|(at, _)| at);
    let at = slashes.find(|&at| other.get(..=at) == one.get(..=at)).expect("all sources are in one folder");
    (&one[..at], module(&one[at + 1..]), module(&other[at + 1..]))
}

#[test]
fn the_order_is_that_of_the_house() {
    let upwards = [
        ("src/sync/timer.rs", "src/task/core.rs"),
        ("src/error/mod.rs", "src/codec/mod.rs"),
        ("src/task/parts.rs", "src/updater/mod.rs"),
        ("src/task/mod.rs", "src/run.rs"),
        ("src/future/mod.rs", "src/executor/job.rs"),
        ("src/group/state.rs", "src/executor/map.rs"),
        ("src/group/mod.rs", "src/thread.rs"),
        ("src/executor/map.rs", "src/inline.rs"),
        ("src/process/error.rs", "src/process/executor.rs"),
        ("src/process/pool/launch/mod.rs", "src/process/executor.rs"),
        ("src/process/protocol/wire/mod.rs", "src/process/worker/mod.rs"),
        ("src/process/registry.rs", "src/process/init.rs"),
    ];
    let beside = [
        ("src/inline.rs", "src/thread.rs"),
        ("src/process/executor.rs", "src/thread.rs"),
        ("src/process/pool/launch/mod.rs", "src/process/worker/mod.rs"),
        ("src/compile_fail.rs", "src/error/mod.rs"),
    ];
    for (one, other) in upwards.into_iter().chain(beside) {
        assert!(!may_import(one, other), "{one} from {other}");
    }
    for (lower, upper) in upwards {
        assert!(may_import(upper, lower), "{upper} from {lower}");
    }
    for (one, other) in beside {
        assert!(!may_import(other, one), "{other} from {one}");
    }
    for (one, other) in [("src/lib.rs", "src/thread.rs"), ("src/task/core.rs", "src/task/state.rs")] {
        assert!(may_import(one, other), "{one} from {other}");
    }
}

#[test]
fn order_names_what_there_is() {
    let mut violations = Vec::new();
    for (folder, order) in &*ORDERS {
        let modules: BTreeSet<&str> = GRAPH.files.iter().filter_map(|file| module_in(folder, file)).collect();
        violations
            .extend(modules.iter().filter(|it| !order.contains(it)).map(|it| format!("{folder}/{it} is missing")));
        violations.extend(order.names().filter(|it| !modules.contains(it)).map(|it| format!("{folder}/{it} is gone")));
        violations
            .extend(order.names().filter(|it| order.is_above(it, it)).map(|it| format!("`{it}` is above itself")));
    }
    assert_none("`ORDER` of tests/structure/rules.rs names each module of its folders", violations);
}

fn module_in<'a>(folder: &str, file: &'a str) -> Option<&'a str> {
    let rest = file.strip_prefix(folder)?.strip_prefix('/')?;
    let module = rest.split('/').next()?;
    (file != ROOT).then(|| module.trim_end_matches(".rs"))
}

#[test]
fn there_are_no_circles() {
    let arrows = circles::by_file(&GRAPH.arrows);
    let circles = circles::circles(&arrows);
    let circles = circles.iter().map(|circle| circles::told(circle));
    assert_none("no file imports, by way of others, itself", circles.collect());
}

#[test]
fn imports_name_the_defining_module() {
    let violations = GRAPH.arrows.iter().filter(|arrow| arrow.from.file != ROOT && !arrow.is_exported);
    let violations = violations.filter_map(|Arrow { from, to, path, through, .. }| {
        let through = through.as_ref()?;
        Some(format!("{from}: `{path}` is of {to}, but named by way of {through}"))
    });
    assert_none("a path names the module that defines something, not one that exports it again", violations.collect());
}

#[test]
fn files_are_short() {
    let mut violations = Vec::new();
    for file in &GRAPH.files {
        let count = Lines::of(file, &SOURCES[file], GRAPH.test_lines.get(file)).code.len();
        if count > MAX_LINES {
            violations.push(format!("{file} has {count}"));
        }
    }
    assert_none(&format!("a file has at most {MAX_LINES} lines of code"), violations);
}

#[test]
fn lints_are_silenced_for_a_reason() {
    let mut violations = Vec::new();
    for (file, source) in sources_in(&["src", "tests", "examples"]) {
        unreasoned(tokens_of(&file, &source), &mut |line| {
            let has_comment = source.lines().nth(line - 1).is_some_and(|line| line.contains("// "));
            if !has_comment {
                violations.push(Place { file: file.clone(), line }.to_string());
            }
        });
    }
    assert_none("`allow` and `expect` say why, in a `reason` or in a comment on the line", violations);
}

/// Let chains are stable only since 1.88, and no lint finds them.
#[test]
fn there_are_no_let_chains() {
    let mut violations = Vec::new();
    for (file, source) in &*SOURCES {
        for (number, line) in (1..).zip(source.lines()) {
            if line.contains("&& let ") || line.contains("if let") && line.contains(" && ") {
                violations.push(format!("{file}:{number}"));
            }
        }
    }
    assert_none("no condition has a `let` beside another condition", violations);
}

#[test]
fn every_file_says_what_it_is_for() {
    let violations = SOURCES.iter().filter(|(_, source)| !source.starts_with("//! ")).map(|(file, _)| file.clone());
    assert_none("a file begins with what it is for", violations.collect());
}

#[test]
fn only_processes_and_job_control_know_the_platform() {
    let mut violations = Vec::new();
    let is_allowed = |file: &str| PLATFORM_PLACES.iter().any(|place| file.starts_with(place));
    for (file, source) in SOURCES.iter().filter(|(file, _)| !is_allowed(file)) {
        let idents = idents_of(tokens_of(file, source));
        let idents = idents.into_iter().filter(|it| PLATFORM_WORDS.iter().any(|word| it == word));
        violations.extend(idents.map(|it| format!("{file}:{}: `{it}`", it.span().start().line)));
    }
    assert_none("no file outside of src/process/ and job control knows the platform", violations);
}
