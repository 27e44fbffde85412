//! The structure in figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::lines::{Function, Lines, functions};
use crate::{GRAPH, SOURCES, circles, violation_of_order};

#[test]
#[ignore = "prints, and tests nothing"]
fn figures() {
    print_graph();
    print_lines();
    print_functions();
}

fn print_graph() {
    let folders: BTreeSet<&str> = GRAPH.files.iter().filter_map(|it| it.rsplit_once('/')).map(|it| it.0).collect();
    let arrows = circles::by_file(&GRAPH.arrows);
    let mut back = BTreeSet::new();
    back.extend(GRAPH.arrows.iter().filter(|it| violation_of_order(it).is_some()).map(|it| (&it.from.file, &it.to)));
    let knots = circles::knots(&arrows);
    println!("files: {}, in {} folders", GRAPH.files.len(), folders.len());
    println!("arrows from file to file: {}", arrows.values().map(BTreeMap::len).sum::<usize>());
    println!("arrows against the order: {}", back.len());
    println!("files in circles: {}, in {} knots", knots.iter().map(BTreeSet::len).sum::<usize>(), knots.len());
    for knot in knots {
        println!("  {}", Vec::from_iter(knot).join(" "));
    }
}

fn print_lines() {
    let mut rows: Vec<(usize, usize, &str)> = Vec::new();
    for file in &GRAPH.files {
        let Lines { code, comments } = Lines::of(file, &SOURCES[file], GRAPH.test_lines.get(file));
        rows.push((code.len(), comments.len(), file));
    }
    rows.sort_by_key(|&(code, _, file)| (std::cmp::Reverse(code), file));
    let (code, comments) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    println!("lines of code: {code}, of comments: {comments}; file by file:");
    for (code, comments, file) in rows {
        println!("  {code:5} {comments:5}  {file}");
    }
}

fn print_functions() {
    let mut all: Vec<(Function, &str)> = Vec::new();
    for file in &GRAPH.files {
        let functions = functions(file, &SOURCES[file], GRAPH.test_lines.get(file));
        all.extend(functions.into_iter().map(|it| (it, file.as_str())));
    }
    all.sort_by_key(|(function, _)| function.length);
    let at = |percent: usize| all[(all.len() - 1) * percent / 100].0.length;
    println!("functions: {}, lines of code: median {}, p90 {}, longest:", all.len(), at(50), at(90));
    for (Function { name, line, length }, file) in all.iter().rev().take(10) {
        println!("  {length:5}  {file}:{line} {name}");
    }
}
