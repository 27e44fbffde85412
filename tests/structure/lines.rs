//! Counts lines of code and of comments.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{ImplItem, Item, TraitItem};

use crate::reader::items_of;
use crate::tokens::tokens_of;

/// The lines of a file, without those for tests.
pub(crate) struct Lines {
    pub(crate) code: BTreeSet<usize>,
    /// The lines that hold nothing but comments.
    pub(crate) comments: BTreeSet<usize>,
}

impl Lines {
    pub(crate) fn of(file: &str, source: &str, tests: Option<&BTreeSet<usize>>) -> Self {
        let text: Vec<&str> = source.lines().collect();
        let mut code = BTreeSet::new();
        collect(tokens_of(file, source), &text, &mut code);
        let filled = (1..).zip(&text).filter(|(_, line)| !line.trim().is_empty()).map(|(number, _)| number);
        let mut comments: BTreeSet<usize> = filled.filter(|line| !code.contains(line)).collect();
        for lines in [&mut code, &mut comments] {
            lines.retain(|line| !tests.is_some_and(|tests| tests.contains(line)));
        }
        Self { code, comments }
    }
}

fn collect(tokens: TokenStream, text: &[&str], lines: &mut BTreeSet<usize>) {
    for token in tokens {
        if is_doc_comment(&token, text) {
            continue;
        }
        match token {
            TokenTree::Group(group) => {
                lines.extend([group.span_open().start().line, group.span_close().start().line]);
                collect(group.stream(), text, lines);
            }
            token => lines.extend(token.span().start().line..=token.span().end().line),
        }
    }
}

/// Whether a token is part of the attribute that a doc comment becomes.
fn is_doc_comment(token: &TokenTree, text: &[&str]) -> bool {
    let start = token.span().start();
    let is_slash = matches!(token, TokenTree::Punct(punct) if punct.as_char() == '/');
    !is_slash && text[start.line - 1].chars().nth(start.column) == Some('/')
}

/// A function that has a body.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Lines of code, from its signature to its closing brace.
    pub(crate) length: usize,
}

/// The functions of a file, without those within functions and for tests.
pub(crate) fn functions(file: &str, source: &str, tests: Option<&BTreeSet<usize>>) -> Vec<Function> {
    let code = Lines::of(file, source, tests).code;
    let mut functions = Vec::new();
    for item in items_of(file, source) {
        collect_functions(&item, &code, &mut functions);
    }
    functions.retain(|it| code.contains(&it.line));
    functions
}

fn collect_functions(item: &Item, code: &BTreeSet<usize>, functions: &mut Vec<Function>) {
    let mut add = |signature: &syn::Signature, block: &syn::Block| {
        let (line, end) = (signature.span().start().line, block.span().end().line);
        functions.push(Function { name: signature.ident.to_string(), line, length: code.range(line..=end).count() });
    };
    match item {
        Item::Fn(it) => add(&it.sig, &it.block),
        Item::Impl(it) => it.items.iter().for_each(|item| {
            if let ImplItem::Fn(it) = item {
                add(&it.sig, &it.block);
            }
        }),
        Item::Trait(it) => it.items.iter().for_each(|item| {
            if let TraitItem::Fn(it) = item {
                it.default.iter().for_each(|block| add(&it.sig, block));
            }
        }),
        Item::Mod(it) => {
            it.content.iter().flat_map(|content| &content.1).for_each(|item| collect_functions(item, code, functions));
        }
        _ => {}
    }
}

#[test]
fn code_and_comments_are_told_apart() {
    let source = "//! doc\n\nfn f() { // says\n    // more\n    let x = 4 / 2; /* and\n more */ let y = \"\n//\n\";\n    /// doc\n}\n";
    let Lines { code, comments } = Lines::of("", source, Some(&BTreeSet::from([8])));
    assert_eq!(Vec::from_iter(code), [3, 5, 6, 7, 10]);
    assert_eq!(Vec::from_iter(comments), [1, 4, 9]);
    let functions =
        functions("", "fn a() {\n    // says\n    b();\n\n}\ntrait T {\n    fn c();\n    fn d() {}\n}", None);
    let functions: Vec<_> = functions.iter().map(|it| (it.name.as_str(), it.line, it.length)).collect();
    assert_eq!(functions, [("a", 1, 3), ("d", 8, 1)]);
}
