//! Finds out from the sources which files of a crate name something that another file defines.
//!
//! Items, modules and `use` come from the syntax tree. All other paths are found among the tokens, so that those within
//! macros and attributes are seen like any other. Every `#[cfg]` branch is read, except `#[cfg(test)]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Meta, UseTree, Visibility};

use crate::names::{Entry, Found, Import, Module, ModuleId, Names, is_rooted};
use crate::tokens::{is_word, parse_use, path_at, plain, starts_path, tokens_of};

/// The text of each file, by its path within the package.
pub(crate) type Sources = BTreeMap<String, String>;

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A file names something that another one defines.
#[derive(Clone, Debug)]
pub(crate) struct Arrow {
    pub(crate) from: Place,
    /// The defining file.
    pub(crate) to: String,
    /// As it is written.
    pub(crate) path: String,
    /// The import in a third file through which the name is found.
    pub(crate) through: Option<Place>,
    /// The path stands in a macro for other crates, which can name only public paths.
    pub(crate) is_exported: bool,
}

/// What is known of a crate.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) arrows: Vec<Arrow>,
    /// The files that modules are in, without those for tests.
    pub(crate) files: BTreeSet<String>,
    /// The files of modules for tests.
    pub(crate) test_files: BTreeSet<String>,
    /// The lines for tests, by file.
    pub(crate) test_lines: BTreeMap<String, BTreeSet<usize>>,
    /// Paths into this crate that lead nowhere, as far as the reader can see.
    pub(crate) unresolved: Vec<(Place, String)>,
}

/// Reads a crate from its root file.
pub(crate) fn read(sources: &Sources, root: &str) -> Graph {
    let mut reader = Reader { sources, names: Names::default(), mentions: Vec::new(), graph: Graph::default() };
    reader.read_file(root, None);
    reader.resolve_mentions();
    reader.graph
}

pub(crate) fn items_of(file: &str, source: &str) -> Vec<Item> {
    let parsed: syn::Result<syn::File> = syn::parse2(tokens_of(file, source));
    parsed.unwrap_or_else(|error| panic!("{file}:{}: {error}", error.span().start().line)).items
}

struct Reader<'a> {
    sources: &'a Sources,
    names: Names,
    mentions: Vec<Mention>,
    graph: Graph,
}

/// A path somewhere in the sources.
struct Mention {
    module: ModuleId,
    path: Vec<String>,
    line: usize,
    is_exported: bool,
}

impl Reader<'_> {
    fn read_file(&mut self, file: &str, parent: Option<ModuleId>) -> ModuleId {
        let source = self.sources.get(file).unwrap_or_else(|| panic!("there is no {file}"));
        let (folder, name) = file.rsplit_once('/').expect("a source file is in a folder");
        let folder = match name {
            "lib.rs" | "mod.rs" => folder.to_owned(),
            _ => file.trim_end_matches(".rs").to_owned(),
        };
        self.graph.files.insert(file.to_owned());
        let items = items_of(file, source);
        self.read_module(file, folder, parent, &items)
    }

    fn read_module(&mut self, file: &str, folder: String, parent: Option<ModuleId>, items: &[Item]) -> ModuleId {
        let module = self.names.modules.len();
        self.names.modules.push(Module {
            file: file.to_owned(),
            folder,
            parent,
            names: BTreeMap::new(),
            globs: Vec::new(),
        });
        for item in items {
            self.read_item(item, module);
        }
        module
    }

    fn read_item(&mut self, item: &Item, module: ModuleId) {
        if attributes(item).iter().any(is_test) {
            return self.read_test(item, module);
        }
        match item {
            Item::Mod(child) => self.read_child(child, module),
            Item::Use(import) => self.read_use(import, module, false),
            Item::Macro(it) => {
                let is_exported = it.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
                match &it.ident {
                    Some(name) => self.define(name, if is_exported { 0 } else { module }, module),
                    None => self.define_within(it.mac.tokens.clone(), module),
                }
                self.scan(item.to_token_stream(), module, is_exported);
            }
            _ => {
                if let Some(name) = name_of(item) {
                    self.define(name, module, module);
                }
                self.scan(item.to_token_stream(), module, false);
            }
        }
    }

    fn read_test(&mut self, item: &Item, module: ModuleId) {
        let lines = item.span().start().line..=item.span().end().line;
        let file = self.names.modules[module].file.clone();
        self.graph.test_lines.entry(file).or_default().extend(lines);
        match item {
            Item::Mod(child) if child.content.is_none() => {
                let file = self.file_of(child, module);
                self.graph.test_files.insert(file);
            }
            _ => {}
        }
    }

    fn read_child(&mut self, child: &ItemMod, module: ModuleId) {
        let id = match &child.content {
            Some((_, items)) => {
                let Module { file, folder, .. } = &self.names.modules[module];
                let (file, folder) = (file.clone(), format!("{folder}/{}", child.ident));
                self.read_module(&file, folder, Some(module), items)
            }
            None => {
                let file = self.file_of(child, module);
                self.read_file(&file, Some(module))
            }
        };
        self.add(module, &child.ident, Entry::Module(id));
        for attribute in &child.attrs {
            self.scan(attribute.to_token_stream(), module, false);
        }
    }

    fn file_of(&self, child: &ItemMod, module: ModuleId) -> String {
        let Module { file, folder, .. } = &self.names.modules[module];
        if let Some(path) = child.attrs.iter().find_map(path_attribute) {
            return format!("{}/{path}", file.rsplit_once('/').expect("a source file is in a folder").0);
        }
        let [flat, nested] = [format!("{folder}/{}.rs", child.ident), format!("{folder}/{}/mod.rs", child.ident)];
        if self.sources.contains_key(&flat) { flat } else { nested }
    }

    /// Reads an import. One `within` a function names nothing for other modules, but seldom hides anything either.
    fn read_use(&mut self, import: &ItemUse, module: ModuleId, is_exported: bool) {
        let mut leaves = Vec::new();
        let root = if import.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
        flatten(&import.tree, &root, &mut leaves);
        let is_private = matches!(import.vis, Visibility::Inherited);
        for Leaf { path, name, line } in leaves {
            let import = Import { path: path.clone(), line, is_private };
            match name {
                Name::Glob => self.names.modules[module].globs.push(import),
                Name::Is(name) => self.add(module, name, Entry::Import(import)),
                Name::None => {}
            }
            // A single name stands for itself, whether it is of this module or of another crate.
            if path.len() > 1 || is_rooted(&path) {
                self.mentions.push(Mention { module, path, line, is_exported });
            }
        }
    }

    /// Notes the items that a macro call contains, such as those in `pin_project!` and `thread_local!`.
    fn define_within(&mut self, tokens: TokenStream, module: ModuleId) {
        const KEYWORDS: [&str; 8] = ["struct", "enum", "union", "trait", "type", "static", "const", "fn"];
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for pair in tokens.windows(2) {
            if let [TokenTree::Ident(keyword), TokenTree::Ident(name)] = pair {
                if KEYWORDS.iter().any(|it| keyword == it) {
                    self.define(name, module, module);
                }
            }
        }
    }

    fn define(&mut self, name: &syn::Ident, scope: ModuleId, module: ModuleId) {
        let file = self.names.modules[module].file.clone();
        self.add(scope, name, Entry::Item { file });
    }

    fn add(&mut self, module: ModuleId, name: impl ToString, entry: Entry) {
        self.names.modules[module].names.entry(plain(name)).or_default().push(entry);
    }

    /// Finds the paths among tokens.
    fn scan(&mut self, tokens: TokenStream, module: ModuleId, is_exported: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    let is_visibility =
                        group.delimiter() == Delimiter::Parenthesis && is_word(tokens[..at].last(), "pub");
                    if !is_visibility {
                        self.scan(group.stream(), module, is_exported);
                    }
                }
                TokenTree::Ident(word) if word == "use" => {
                    if let Some((import, length)) = parse_use(&tokens[at..]) {
                        self.read_use(&import, module, is_exported);
                        at += length;
                        continue;
                    }
                }
                TokenTree::Ident(word) => {
                    let (path, length) = path_at(&tokens[at..]);
                    if starts_path(&tokens[..at], &path[0]) {
                        let line = word.span().start().line;
                        self.mentions.push(Mention { module, path, line, is_exported });
                    }
                    at += length;
                    continue;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn resolve_mentions(&mut self) {
        for mention in std::mem::take(&mut self.mentions) {
            let Mention { module, path, line, is_exported } = mention;
            let from = Place { file: self.names.modules[module].file.clone(), line };
            let found = self.names.find(module, &path);
            let written = path.join("::");
            if found.is_empty() && self.names.is_of_this_crate(module, &path) {
                self.graph.unresolved.push((from.clone(), written.clone()));
            }
            for Found { file, through, .. } in found {
                if file != from.file {
                    let through = through.filter(|place| place.file != from.file);
                    let (from, path) = (from.clone(), written.clone());
                    self.graph.arrows.push(Arrow { from, to: file, path, through, is_exported });
                }
            }
        }
    }
}

/// One name of an import.
struct Leaf {
    path: Vec<String>,
    name: Name,
    line: usize,
}

enum Name {
    Is(String),
    Glob,
    None,
}

fn flatten(tree: &UseTree, prefix: &[String], leaves: &mut Vec<Leaf>) {
    let join = |name: &syn::Ident| [prefix, &[plain(name)]].concat();
    let line = tree.span().start().line;
    match tree {
        UseTree::Path(it) => flatten(&it.tree, &join(&it.ident), leaves),
        UseTree::Group(it) => it.items.iter().for_each(|tree| flatten(tree, prefix, leaves)),
        UseTree::Glob(_) => leaves.push(Leaf { path: prefix.to_vec(), name: Name::Glob, line }),
        UseTree::Name(it) if it.ident == "self" => {
            let name = prefix.last().expect("`self` is in a group").clone();
            leaves.push(Leaf { path: prefix.to_vec(), name: Name::Is(name), line });
        }
        UseTree::Name(it) => leaves.push(Leaf { path: join(&it.ident), name: Name::Is(plain(&it.ident)), line }),
        UseTree::Rename(it) => {
            let path = if it.ident == "self" { prefix.to_vec() } else { join(&it.ident) };
            let name = if it.rename == "_" { Name::None } else { Name::Is(plain(&it.rename)) };
            leaves.push(Leaf { path, name, line });
        }
    }
}

fn is_test(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    let first = list.tokens.clone().into_iter().next();
    let is_all = is_word(first.as_ref(), "all") && list.tokens.to_string().contains("test");
    list.path.is_ident("cfg") && (is_word(first.as_ref(), "test") || is_all)
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(it) => Some(&it.ident),
        Item::Enum(it) => Some(&it.ident),
        Item::Fn(it) => Some(&it.sig.ident),
        Item::Static(it) => Some(&it.ident),
        Item::Struct(it) => Some(&it.ident),
        Item::Trait(it) => Some(&it.ident),
        Item::Type(it) => Some(&it.ident),
        Item::Union(it) => Some(&it.ident),
        _ => None,
    }
}
