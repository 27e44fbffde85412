//! The names of modules, and what paths made of them stand for.

use std::collections::BTreeMap;

use crate::reader::Place;

pub(crate) type ModuleId = usize;

pub(crate) struct Module {
    pub(crate) file: String,
    /// Where the files of its child modules are.
    pub(crate) folder: String,
    pub(crate) parent: Option<ModuleId>,
    /// One name can stand for several things: a module and a function, or a module for each platform.
    pub(crate) names: BTreeMap<String, Vec<Entry>>,
    pub(crate) globs: Vec<Import>,
}

#[derive(Clone)]
pub(crate) enum Entry {
    Module(ModuleId),
    Item { file: String },
    Import(Import),
}

/// A `use` of one name, or of all names of a module.
#[derive(Clone)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    /// Only its module, and what is within that, sees it.
    pub(crate) is_private: bool,
}

/// The modules of a crate. The first one is the root.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) modules: Vec<Module>,
}

/// What a path stands for.
#[derive(Clone)]
pub(crate) struct Found {
    /// The defining file.
    pub(crate) file: String,
    pub(crate) module: Option<ModuleId>,
    pub(crate) through: Option<Place>,
}

/// What is being looked up.
struct Search {
    /// The module whose names and imports are in scope.
    viewer: ModuleId,
    /// The imports that are being followed.
    trail: Vec<(ModuleId, String)>,
}

impl Names {
    /// What a path in a module stands for within this crate.
    pub(crate) fn find(&self, viewer: ModuleId, path: &[String]) -> Vec<Found> {
        let search = &mut Search { viewer, trail: Vec::new() };
        match path {
            // The import of a single name has been seen already, unless it comes from a glob.
            [name] if !is_rooted(path) => self.look_up_globs(viewer, name, search),
            _ => self.resolve(path, search),
        }
    }

    /// Whether a path begins within this crate, wherever it leads.
    pub(crate) fn is_of_this_crate(&self, viewer: ModuleId, path: &[String]) -> bool {
        let is_module = |name| {
            let found = self.look_up(viewer, name, &mut Search { viewer, trail: Vec::new() });
            found.iter().any(|it| it.module.is_some())
        };
        is_rooted(path) || path.len() > 1 && is_module(&path[0])
    }

    fn resolve(&self, path: &[String], search: &mut Search) -> Vec<Found> {
        let mut found = match path[0].as_str() {
            "crate" => vec![self.module(0)],
            "self" => vec![self.module(search.viewer)],
            "super" => vec![self.module(self.parent(search.viewer))],
            name => {
                let found = self.look_up(search.viewer, name, search);
                // The import of the name tells how it has come into scope.
                found.into_iter().map(|it| Found { through: None, ..it }).collect()
            }
        };
        for segment in &path[1..] {
            // Only a module or a type can have something inside, so a function of the same name is not meant.
            if found.iter().any(|it| it.module.is_some()) {
                found.retain(|it| it.module.is_some());
            }
            found = found.into_iter().flat_map(|outer| self.step_into(outer, segment, search)).collect();
        }
        found
    }

    fn step_into(&self, outer: Found, segment: &str, search: &mut Search) -> Vec<Found> {
        match outer.module {
            Some(module) if segment == "super" => vec![self.module(self.parent(module))],
            Some(module) => {
                let found = self.look_up(module, segment, search);
                found.into_iter().map(|it| Found { through: outer.through.clone().or(it.through), ..it }).collect()
            }
            // A variant or an associated item is where its type is.
            None => vec![outer],
        }
    }

    fn look_up(&self, module: ModuleId, name: &str, search: &mut Search) -> Vec<Found> {
        let entries = self.modules[module].names.get(name).map_or(&[][..], |entries| entries);
        let mut found = Vec::new();
        for entry in entries {
            match entry {
                Entry::Module(id) => found.push(self.module(*id)),
                Entry::Item { file } => found.push(Found { file: file.clone(), module: None, through: None }),
                Entry::Import(import) => found.extend(self.follow(module, name, import, search)),
            }
        }
        if found.is_empty() { self.look_up_globs(module, name, search) } else { found }
    }

    /// What an import stands for. A name of another crate counts as defined by the import.
    fn follow(&self, module: ModuleId, name: &str, import: &Import, search: &mut Search) -> Vec<Found> {
        if import.is_private && !self.is_within(search.viewer, module) {
            return Vec::new();
        }
        let Some(found) = self.search_from(module, name, search, |search| self.resolve(&import.path, search)) else {
            return Vec::new();
        };
        let file = &self.modules[module].file;
        if found.is_empty() {
            return vec![Found { file: file.clone(), module: None, through: None }];
        }
        let here = Place { file: file.clone(), line: import.line };
        let through = |it: &Found| (it.file != *file).then(|| here.clone());
        found.into_iter().map(|it| Found { through: through(&it), ..it }).collect()
    }

    fn look_up_globs(&self, module: ModuleId, name: &str, search: &mut Search) -> Vec<Found> {
        let globs = self.modules[module].globs.iter();
        let globs = globs.filter(|it| !it.is_private || self.is_within(search.viewer, module)).collect::<Vec<_>>();
        let mut found = Vec::new();
        for Import { path, line, .. } in globs {
            let inner = self.search_from(module, "*", search, |search| {
                let modules: Vec<ModuleId> =
                    self.resolve(path, search).into_iter().filter_map(|it| it.module).collect();
                modules.into_iter().flat_map(|it| self.look_up(it, name, search)).collect()
            });
            let here = Place { file: self.modules[module].file.clone(), line: *line };
            let through = |it: &Found| it.through.clone().or_else(|| Some(here.clone()));
            found.extend(inner.into_iter().flatten().map(|it| Found { through: through(&it), ..it }));
        }
        found
    }

    /// Goes on as an import of `module` sees it, unless that would go round in a circle.
    fn search_from(
        &self,
        module: ModuleId,
        name: &str,
        search: &mut Search,
        go_on: impl FnOnce(&mut Search) -> Vec<Found>,
    ) -> Option<Vec<Found>> {
        let step = (module, name.to_owned());
        if search.trail.contains(&step) {
            return None;
        }
        search.trail.push(step);
        let viewer = std::mem::replace(&mut search.viewer, module);
        let found = go_on(search);
        search.viewer = viewer;
        search.trail.pop();
        Some(found)
    }

    fn is_within(&self, inner: ModuleId, outer: ModuleId) -> bool {
        inner == outer || self.modules[inner].parent.is_some_and(|parent| self.is_within(parent, outer))
    }

    fn module(&self, id: ModuleId) -> Found {
        Found { file: self.modules[id].file.clone(), module: Some(id), through: None }
    }

    fn parent(&self, module: ModuleId) -> ModuleId {
        self.modules[module].parent.expect("there is nothing above the root")
    }
}

/// Whether a path says where it begins.
pub(crate) fn is_rooted(path: &[String]) -> bool {
    matches!(path[0].as_str(), "crate" | "self" | "super")
}
