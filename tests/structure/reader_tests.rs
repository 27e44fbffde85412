//! The reader sees what it should.

use std::collections::BTreeSet;

use crate::reader::{Arrow, Graph, Sources, read};
use crate::{GRAPH, circles};

/// Reads a crate with a few modules to name, and the given file `src/it.rs`.
fn read_with(it: &str) -> Graph {
    let sources = [
        ("src/lib.rs", "mod a; mod f; mod it; pub use crate::a::A; pub use crate::f::inner::B;"),
        ("src/a.rs", "pub struct A; pub fn a() {} pub(crate) use std::sync::Mutex; pin! { pub struct Pinned; }"),
        ("src/f/mod.rs", "pub mod inner; pub use self::inner::B; pub fn f() {} pub trait T {} pub use self::inner::*;"),
        ("src/f/inner.rs", "pub enum B { Some } pub const C: u8 = 1; #[macro_export] macro_rules! m { () => {} }"),
        ("src/it.rs", it),
    ];
    read_all(&sources)
}

fn read_all(sources: &[(&str, &str)]) -> Graph {
    let sources = sources.iter().map(|(path, source)| ((*path).to_owned(), (*source).to_owned()));
    read(&sources.collect::<Sources>(), "src/lib.rs")
}

/// An arrow: line, path, defining file, and the file through which it was found.
type Row<'a> = (usize, &'a str, &'a str, Option<&'a str>);

/// Checks which arrows the file `src/it.rs` has.
#[track_caller]
fn assert_arrows(it: &str, expected: &[Row<'_>]) {
    let graph = read_with(it);
    assert!(graph.unresolved.is_empty(), "{:?}", graph.unresolved);
    let arrows = graph.arrows.iter().filter(|arrow| arrow.from.file == "src/it.rs");
    let rows = arrows.map(|Arrow { from, to, path, through, .. }| {
        (from.line, path.as_str(), to.as_str(), through.as_ref().map(|it| it.file.as_str()))
    });
    assert_eq!(rows.collect::<BTreeSet<Row<'_>>>(), expected.iter().copied().collect(), "{it}");
}

#[test]
fn nested_imports() {
    assert_arrows(
        "use crate::{\n a::{self, A as Renamed},\n f::{f, inner::{B::Some, C}},\n};",
        &[
            (2, "crate::a", "src/a.rs", None),
            (2, "crate::a::A", "src/a.rs", None),
            (3, "crate::f::f", "src/f/mod.rs", None),
            (3, "crate::f::inner::B::Some", "src/f/inner.rs", None),
            (3, "crate::f::inner::C", "src/f/inner.rs", None),
        ],
    );
}

#[test]
fn relative_imports() {
    assert_arrows("use super::a::A;", &[(1, "super::a::A", "src/a.rs", None)]);
    assert_arrows("mod deeper { use super::super::f; }", &[(1, "super::super::f", "src/f/mod.rs", None)]);
    assert_arrows("use self::own::Own; mod own { pub struct Own; use super::Own as Again; }", &[]);
}

#[test]
fn imports_by_way_of_others() {
    assert_arrows("use crate::A;", &[(1, "crate::A", "src/a.rs", Some("src/lib.rs"))]);
    assert_arrows("use super::{B as _};", &[(1, "super::B", "src/f/inner.rs", Some("src/lib.rs"))]);
    assert_arrows("use crate::f::B;", &[(1, "crate::f::B", "src/f/inner.rs", Some("src/f/mod.rs"))]);
    assert_arrows("use crate::f::C;", &[(1, "crate::f::C", "src/f/inner.rs", Some("src/f/mod.rs"))]);
}

#[test]
fn what_comes_from_another_crate_is_of_the_module_that_exports_it() {
    assert_arrows("use crate::a::Mutex;", &[(1, "crate::a::Mutex", "src/a.rs", None)]);
    assert_arrows("use std::sync::Mutex; use ::f::C; fn f(_: serde::Error, _: Mutex<fmt::Error>) {}", &[]);
}

#[test]
fn globs() {
    assert_arrows("use crate::a::*;", &[(1, "crate::a", "src/a.rs", None)]);
    assert_arrows(
        "use crate::f::*;\nfn g() { f(C) }",
        &[
            (1, "crate::f", "src/f/mod.rs", None),
            (2, "f", "src/f/mod.rs", None),
            (2, "C", "src/f/inner.rs", Some("src/f/mod.rs")),
        ],
    );
    assert_arrows(
        "mod own { use super::*;\n fn g() -> A {} }\n use crate::a::A;",
        &[(2, "A", "src/a.rs", None), (3, "crate::a::A", "src/a.rs", None)],
    );
}

#[test]
fn expressions_types_and_patterns() {
    assert_arrows(
        "fn g(x: Vec<crate::a::A>) -> <u8 as super::f::T>::X {\n let super::a::A = x.super_.a;\n 0..crate::f::inner::C }",
        &[
            (1, "crate::a::A", "src/a.rs", None),
            (2, "super::a::A", "src/a.rs", None),
            (3, "crate::f::inner::C", "src/f/inner.rs", None),
            (1, "super::f::T", "src/f/mod.rs", None),
        ],
    );
}

#[test]
fn paths_that_begin_with_an_import() {
    let import = |line| (line, "crate::f", "src/f/mod.rs", None);
    assert_arrows("use crate::f;\nfn g() { f::f() }", &[import(1), (2, "f::f", "src/f/mod.rs", None)]);
    assert_arrows(
        "fn g() { use crate::f;\n f::inner::B::Some; f::B }",
        &[
            import(1),
            (2, "f::inner::B::Some", "src/f/inner.rs", None),
            (2, "f::B", "src/f/inner.rs", Some("src/f/mod.rs")),
        ],
    );
    assert_arrows(
        "use crate::a::A;\nfn g() { A::new() }",
        &[(1, "crate::a::A", "src/a.rs", None), (2, "A::new", "src/a.rs", None)],
    );
}

#[test]
fn imports_are_private() {
    let sources = [
        ("src/lib.rs", "mod a; mod b; mod it;"),
        ("src/a.rs", "use crate::b; pub fn b() {} mod inner { use super::b; }"),
        ("src/b.rs", ""),
        ("src/it.rs", "use crate::a; fn f() { a::b() }"),
    ];
    let graph = read_all(&sources);
    let arrows: BTreeSet<_> = graph.arrows.iter().map(|arrow| (arrow.from.file.as_str(), arrow.to.as_str())).collect();
    assert_eq!(arrows, BTreeSet::from([("src/a.rs", "src/b.rs"), ("src/it.rs", "src/a.rs")]));
}

#[test]
fn what_only_looks_like_a_path_into_the_crate() {
    assert_arrows("fn g<'a>(a: &'a u8) { self.a; a.a(); <u8>::a::A; ::a::A; a::A }", &[]);
    assert_arrows("/// [`A`](crate::a::A)\npub(in crate::f) fn g() { \"crate::a::A\" } // crate::a::A", &[]);
}

#[test]
fn macros_and_attributes() {
    assert_arrows("fn g() { assert!(x, \"\", [crate::a::A]) }", &[(1, "crate::a::A", "src/a.rs", None)]);
    assert_arrows("macro_rules! x { ($a:ident) => { $crate::a::$a } }", &[(1, "crate::a", "src/a.rs", None)]);
    assert_arrows("#[given(crate::a::A)] struct S;", &[(1, "crate::a::A", "src/a.rs", None)]);
    assert_arrows("use crate::a::Pinned;", &[(1, "crate::a::Pinned", "src/a.rs", None)]);
    assert_arrows("fn g() { crate::m!() }", &[(1, "crate::m", "src/f/inner.rs", None)]);
    assert_arrows(
        "macro_rules! x { () => { use $crate::f::{f,\n inner::C}; } }",
        &[(1, "crate::f::f", "src/f/mod.rs", None), (2, "crate::f::inner::C", "src/f/inner.rs", None)],
    );
}

#[test]
fn macros_for_other_crates_are_told_apart() {
    let is_exported = |it| read_with(it).arrows.iter().any(|arrow| arrow.path == "crate::B" && arrow.is_exported);
    assert!(is_exported("#[macro_export] macro_rules! x { () => { $crate::B } }"));
    assert!(!is_exported("macro_rules! x { () => { $crate::B } }"));
}

#[test]
fn tests_are_left_out() {
    assert_arrows("#[cfg(test)] mod tests { use crate::A; }\n#[cfg(all(test, unix))] use crate::f;", &[]);
    assert_arrows("#[cfg(not(test))] use crate::f;", &[(1, "crate::f", "src/f/mod.rs", None)]);
    let graph = read_with("\n#[cfg(test)]\nmod tests {\n}\n#[cfg(test)] #[path = \"x.rs\"] mod more;");
    assert_eq!(graph.test_lines["src/it.rs"], BTreeSet::from([2, 3, 4, 5]));
    assert_eq!(graph.test_files, BTreeSet::from(["src/x.rs".to_owned()]));
}

#[test]
fn one_name_for_two_modules() {
    let sources = [
        ("src/lib.rs", "#[cfg(a)] mod a; #[cfg(not(a))] #[path = \"no_a.rs\"] mod a; mod it;"),
        ("src/a.rs", "pub struct A;"),
        ("src/no_a.rs", "pub struct A;"),
        ("src/it.rs", "use crate::a::A;"),
    ];
    let graph = read_all(&sources);
    let to: BTreeSet<&str> = graph.arrows.iter().map(|arrow| arrow.to.as_str()).collect();
    assert_eq!(to, BTreeSet::from(["src/a.rs", "src/no_a.rs"]));
}

#[test]
fn a_path_that_leads_nowhere_is_told() {
    for it in ["use crate::nothing;", "use super::a::Nothing;", "use crate::f; fn g() { f::nothing() }"] {
        let unresolved = read_with(it).unresolved;
        assert!(matches!(&unresolved[..], [(place, _)] if place.line == 1), "{it}: {unresolved:?}");
    }
}

#[test]
fn circles_are_found() {
    let sources = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d; pub use crate::c::C;"),
        ("src/a.rs", "use crate::b::B;\nuse crate::d::D; pub struct A;"),
        ("src/b.rs", "\nuse crate::C; pub struct B;"),
        ("src/c.rs", "\n\nfn c(_: super::a::A) {} pub struct C;"),
        ("src/d.rs", "pub struct D;"),
    ];
    let graph = read_all(&sources);
    let arrows = circles::by_file(&graph.arrows);
    let circles: Vec<String> = circles::circles(&arrows).iter().map(|circle| circles::told(circle)).collect();
    assert_eq!(circles, ["src/a.rs:1 -> src/b.rs:2 -> src/c.rs:3 -> src/a.rs:1"]);
    assert_eq!(circles::knots(&arrows), [BTreeSet::from(["src/a.rs", "src/b.rs", "src/c.rs"])]);
}

/// A made-up import that points upwards, in the library itself.
#[test]
fn a_wrong_import_is_found() {
    let mut sources = crate::SOURCES.clone();
    let first = sources.get_mut("src/progress.rs").unwrap();
    first.push_str("\nfn wrong() { crate::inline::SyncExecutor::new; }\n");
    let line = first.lines().count();
    let graph = read(&sources, crate::ROOT);
    let violations: Vec<String> = graph.arrows.iter().filter_map(crate::violation_of_order).collect();
    let begin = format!("src/progress.rs:{line}: `crate::inline::SyncExecutor::new` ");
    assert!(violations.iter().any(|it| it.starts_with(&begin)), "{begin}: {violations:#?}");
}

/// Arrows that are known to everyone who knows the library.
#[test]
fn the_known_arrows_are_found() {
    let known = [
        ("src/codec/mod.rs", "src/error/mod.rs"),
        ("src/error/mod.rs", "src/progress.rs"),
        ("src/group/mod.rs", "src/future/mod.rs"),
        ("src/inline.rs", "src/executor/mod.rs"),
        ("src/lib.rs", "src/inline.rs"),
        ("src/process/pool/launch/mod.rs", "src/process/protocol/wire/mod.rs"),
        ("src/process/protocol/wire/mod.rs", "src/codec/mod.rs"),
        ("src/task/state.rs", "src/sync/primitives.rs"),
        ("src/thread/executor.rs", "src/executor/mod.rs"),
        ("src/updater/mod.rs", "src/task/mod.rs"),
    ];
    let arrows = circles::by_file(&GRAPH.arrows);
    for (from, to) in known {
        assert!(arrows.get(from).is_some_and(|targets| targets.contains_key(to)), "{from} -> {to}");
    }
}
