//! The rules of the house that can be executed.

use std::fs;
use std::path::{Path, PathBuf};

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                sources.push(path);
            }
        }
    }
    sources
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
