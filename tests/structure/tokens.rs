//! Reads tokens.

use proc_macro2::{Ident, Spacing, TokenStream, TokenTree};
use syn::ItemUse;

pub(crate) fn tokens_of(file: &str, source: &str) -> TokenStream {
    source.parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The path that begins with the first token, and the number of its tokens.
pub(crate) fn path_at(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path = vec![plain(&tokens[0])];
    let mut length = 1;
    while let [first, second, TokenTree::Ident(name), ..] = &tokens[length..] {
        if !is_path_separator(first, second) {
            break;
        }
        path.push(plain(name));
        length += 3;
    }
    (path, length)
}

/// Whether a word after these tokens can be the start of a path: not a field, a lifetime, the argument of a macro, nor
/// what follows `<T>::` or the `::` of another crate.
pub(crate) fn starts_path(before: &[TokenTree], word: &str) -> bool {
    match before {
        [.., first, second] if is_punct(first, '.') && is_punct(second, '.') => true,
        [.., first, second] if is_path_separator(first, second) => false,
        [.., last] if is_punct(last, '$') => word == "crate",
        [.., last] => !is_punct(last, '.') && !is_punct(last, '\''),
        [] => true,
    }
}

fn is_path_separator(first: &TokenTree, second: &TokenTree) -> bool {
    let is_joint = matches!(first, TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint);
    is_joint && is_punct(first, ':') && is_punct(second, ':')
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

pub(crate) fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

/// An import within a function or a macro, and the number of its tokens.
pub(crate) fn parse_use(tokens: &[TokenTree]) -> Option<(ItemUse, usize)> {
    let end = tokens.iter().position(|token| is_punct(token, ';'))?;
    // For `$crate`, the name is enough.
    let tokens = tokens[..=end].iter().filter(|token| !is_punct(token, '$')).cloned();
    Some((syn::parse2(tokens.collect()).ok()?, end + 1))
}

pub(crate) fn plain(name: impl ToString) -> String {
    name.to_string().trim_start_matches("r#").to_owned()
}

fn words_of(tokens: TokenStream) -> Vec<String> {
    idents_of(tokens).iter().map(ToString::to_string).collect()
}

pub(crate) fn idents_of(tokens: TokenStream) -> Vec<Ident> {
    let of = |token| match token {
        TokenTree::Ident(ident) => vec![ident],
        TokenTree::Group(group) => idents_of(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    };
    tokens.into_iter().flat_map(of).collect()
}

/// Finds the attributes that silence lints and give no `reason`.
pub(crate) fn unreasoned(tokens: TokenStream, report: &mut impl FnMut(usize)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let words = if is_attribute(&tokens[..at]) { words_of(group.stream()) } else { Vec::new() };
        if words.iter().any(|it| it == "allow" || it == "expect") && !words.iter().any(|it| it == "reason") {
            report(group.span_open().start().line);
        }
        unreasoned(group.stream(), report);
    }
}

/// Whether the bracket of an attribute can follow these tokens.
fn is_attribute(before: &[TokenTree]) -> bool {
    match before {
        [.., hash, mark] if is_punct(mark, '!') => is_punct(hash, '#'),
        [.., hash] => is_punct(hash, '#'),
        [] => false,
    }
}

#[test]
fn reasons_are_read() {
    let source =
        "#![allow(a)]\n#[expect(b, reason = \"c\")]\nmod d {\n#[cfg_attr(e, allow(f))] fn g() { h!([x.expect(1)]) } }";
    let mut lines = Vec::new();
    unreasoned(source.parse().unwrap(), &mut |line| lines.push(line));
    assert_eq!(lines, [1, 4]);
}
