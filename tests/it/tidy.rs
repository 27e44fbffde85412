//! The rules of the house that can be executed.

use std::fs;
use std::path::{Path, PathBuf};

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = [src.clone(), src.join("process")].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "rs")).collect()
}

#[test]
fn the_changelog_has_the_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)), "CHANGELOG.md lacks `{heading}`");
}

#[test]
fn the_readme_is_short_and_opens_with_the_two_commands() {
    let readme = read("README.md");
    assert!(readme.lines().count() < 120);
    let opening: Vec<&str> = readme.lines().take(20).collect();
    for command in ["cargo run --release --example full_example", "cargo test --all-features"] {
        assert!(opening.contains(&command), "`{command}` is not among the first lines");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources() {
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("//! "), "{} does not", path.display());
    }
}

/// The executors are siblings: they know the core, which knows none of them, and not each other.
#[test]
fn imports_go_one_way() {
    for path in sources() {
        let folder = path.parent().unwrap().file_name().unwrap();
        let module = if folder == "src" { path.file_stem().unwrap() } else { folder };
        let name = module.to_str().unwrap();
        if name == "lib" {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let executors = ["SyncExecutor", "ThreadPoolExecutor", "ProcessPoolExecutor"];
        for executor in executors.into_iter().chain(["crate::sync", "crate::thread", "crate::process"]) {
            let is_its_own = matches!(
                (name, executor),
                ("sync", "SyncExecutor") | ("thread", "ThreadPoolExecutor") | ("process", "ProcessPoolExecutor")
            );
            assert!(is_its_own || !code.contains(executor), "src/{name}.rs names {executor}");
        }
    }
}

/// The two ends of the channel meet in what is sent through it, and nowhere else.
#[test]
fn worker_and_supervisor_do_not_know_each_other() {
    for (one, other) in [("worker", "supervisor"), ("worker", "desk"), ("desk", "worker"), ("supervisor", "worker")] {
        let source = read(format!("src/process/{one}.rs"));
        let imports = source.lines().filter(|line| line.starts_with("use "));
        assert!(imports.into_iter().all(|line| !line.contains(other)), "{one} imports {other}");
    }
}

/// Stable since 1.88 only, and no lint knows.
#[test]
fn there_are_no_let_chains() {
    for path in sources() {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let is_chain = line.contains("&& let ") || line.contains("if let") && line.contains(" && ");
            assert!(!is_chain, "{}:{}", path.display(), number + 1);
        }
    }
}
