//! What the pages beside the code must say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The folder of the library; the tests have a manifest of their own below it.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_changelog_has_the_version() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();
    let heading = format!("## [{version}]");
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

/// Cargo does not discover the files of `tests`, because their manifest stands beside them.
#[test]
fn every_file_of_tests_is_a_test() {
    let manifest = read("tests/Cargo.toml");
    for name in names_in("tests") {
        let main = format!("{name}/main.rs");
        let is_program = root().join("tests").join(&main).exists();
        let path = if is_program { &main } else { &name };
        let is_run = manifest.contains(&format!("path = \"{path}\""));
        assert!(is_run || !is_program && !name.ends_with(".rs"), "{path} is not run");
        if is_program {
            let program = read(format!("tests/{main}"));
            let modules = names_in(&format!("tests/{name}")).into_iter().filter(|file| file.ends_with(".rs"));
            for module in modules.filter(|file| file != "main.rs") {
                let line = format!("mod {};", module.trim_end_matches(".rs"));
                assert!(program.contains(&line), "{name}/{module} is not run");
            }
        }
    }
}

fn names_in(folder: &str) -> Vec<String> {
    fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Code that is written for one system compiles on the others.
#[test]
fn a_process_pool_has_the_same_functions_on_every_system() {
    let functions = |file: &str| -> BTreeSet<String> {
        let source = read(format!("src/process/{file}.rs"));
        let lines = source.lines().filter_map(|line| line.trim_start().strip_prefix("pub fn "));
        lines.map(|line| line.replace("mut self", "self").replace(", _", ", ")).collect()
    };
    assert_eq!(functions("unsupported"), functions("executor"));
}
