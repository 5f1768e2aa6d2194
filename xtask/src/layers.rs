//! Checks that imports inside a package go down its layers and form no cycles.
//!
//! [`PACKAGES`] is the one place that states the order of the folders. A module may import from its own folder and from the
//! layers listed below it. Imports inside `#[cfg(test)]` are not read: a test may use whatever it needs.
//!
//! A `pub use` in a `mod.rs` or `lib.rs` is not an import of that file. A path that goes through it is followed to the
//! module that defines the item.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::steps::root;

/// A folder of source files, and the order of the modules at its top level.
struct Package {
    folder: &'static str,
    /// From top to bottom; empty if only cycles are checked. Modules of one layer must not import each other.
    layers: &'static [&'static [&'static str]],
}

const PACKAGES: &[Package] = &[
    Package {
        folder: "policy/src",
        layers: &[
            &["build", "decision_report", "streamlit_paths", "sub_app"],
            &["policy"],
            &["request_edits", "response"],
            &["route", "cookie"],
            &["decision", "location", "origin"],
            &["decision_record", "exchange", "probe_guard"],
            &["client"],
            &[
                "app",
                "protected_headers",
                "security_headers",
                "hsts",
                "probe",
                "trust",
            ],
            &[
                "config",
                "connection_facts",
                "connection_headers",
                "forwarded",
                "message",
                "hosts",
                "header_names",
                "identity_headers",
                "link",
            ],
            &["fields", "name_list"],
            &[
                "config_reader",
                "header",
                "header_group",
                "effective",
                "peer",
                "drop_cookies",
                "target",
            ],
            &[
                "reason",
                "edit",
                "host_name",
                "config_error",
                "address",
                "labels",
                "mount",
                "warning_limiter",
            ],
        ],
    },
    Package {
        folder: "stream/src",
        layers: &[
            &["stream"],
            &["facts", "mark", "message", "reply"],
            &["plugin"],
            &[
                "configuration",
                "counters",
                "edit_memory",
                "edits",
                "version",
                "warnings",
            ],
            &["host"],
        ],
    },
    Package {
        folder: "gateway/src",
        layers: &[
            &["fuzzing"],
            &["gateway"],
            &["reload"],
            &["fronts"],
            &["server"],
            &["proxy"],
            &["worker"],
            &["children", "upstream"],
            &["settings", "http"],
            &["observe", "net"],
            &["build_info", "public_url"],
        ],
    },
    Package {
        folder: "doctor/src",
        layers: &[
            &["app", "probe"],
            &["fluxlit", "lint"],
            &["outcome", "report"],
            &["wire", "api_documentation"],
            &["finding", "selection", "client"],
            &["check"],
        ],
    },
    Package {
        folder: "host-test/src",
        layers: &[
            &["suite", "fuzz"],
            &["case_file"],
            &["chain", "connection"],
            &["stream"],
            &["plugin"],
            &["process"],
            &["vm"],
            &["envoy"],
            &["event"],
            &["abi"],
        ],
    },
    // Programs: their files are checked for cycles only.
    Package {
        folder: "gateway/src/bin/fluxlit-gateway",
        layers: &[],
    },
    Package {
        folder: "host-test/src/bin/host-test",
        layers: &[],
    },
];

/// Names of modules from the top of a package, such as `["http", "head"]`.
type ModulePath = Vec<String>;

/// Checks every package; fails with one line for each import that goes up and for each cycle.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for package in PACKAGES {
        let modules = Modules::read(&root().join(package.folder))?;
        let imports = modules.imports();
        faults.extend(upward(package, &modules, &imports)?);
        let cycles = cycles(&imports);
        eprintln!(
            "  {}: {} files, {} imports, {} cycles",
            package.folder,
            modules.files.len(),
            imports.len(),
            cycles.len()
        );
        faults.extend(cycles.iter().map(|cycle| {
            let names: Vec<String> = cycle.iter().map(|module| module.join("::")).collect();
            format!("{}: import cycle: {}", package.folder, names.join(", "))
        }));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// One import: the importing module, its line, and the module that defines what is imported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: ModulePath,
    line: usize,
    to: ModulePath,
}

/// Lists the imports that go to a layer above, or to another module of the same layer.
fn upward(
    package: &Package,
    modules: &Modules,
    imports: &BTreeSet<Import>,
) -> anyhow::Result<Vec<String>> {
    if package.layers.is_empty() {
        return Ok(Vec::new());
    }
    let layer = |module: &ModulePath| {
        let Some(top) = module.first() else {
            return Ok(None);
        };
        package
            .layers
            .iter()
            .position(|layer| layer.contains(&top.as_str()))
            .map(|layer| Some((layer, top.clone())))
            .with_context(|| {
                format!(
                    "{}: module `{top}` has no layer: add it to PACKAGES in xtask/src/layers.rs",
                    package.folder
                )
            })
    };
    for module in modules.files.keys() {
        layer(module)?;
    }
    let mut faults = Vec::new();
    for import in imports {
        let (Some((from, from_name)), to) = (layer(&import.from)?, layer(&import.to)?) else {
            continue; // The crate root stands above every layer.
        };
        let is_allowed = to
            .as_ref()
            .is_some_and(|(to, to_name)| from < *to || from_name == *to_name);
        if !is_allowed {
            faults.push(format!(
                "{}:{}: `{from_name}` must not import `crate::{}`: imports go down",
                modules.files[&import.from].display(),
                import.line,
                import.to.join("::"),
            ));
        }
    }
    Ok(faults)
}

/// Groups the modules that import each other, directly or through others.
fn cycles(imports: &BTreeSet<Import>) -> Vec<Vec<ModulePath>> {
    let mut edges: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = BTreeMap::new();
    for import in imports {
        edges.entry(&import.from).or_default().insert(&import.to);
    }
    let reachable = |start: &ModulePath| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            for next in edges.get(module).into_iter().flatten() {
                if seen.insert(*next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&ModulePath, _> =
        edges.keys().map(|from| (*from, reachable(from))).collect();
    let mut cycles: Vec<Vec<ModulePath>> = Vec::new();
    for (module, reached) in &reach {
        if !reached.contains(module) || cycles.iter().flatten().any(|known| known == *module) {
            continue;
        }
        let cycle = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(module)));
        cycles.push(cycle.map(|module| (*module).clone()).collect());
    }
    cycles
}

/// The modules of a package, as their files declare them.
#[derive(Default)]
struct Modules {
    /// The file of each module, relative to the repository.
    files: BTreeMap<ModulePath, PathBuf>,
    /// Paths as written, made absolute, with the importing module and the line.
    paths: Vec<(ModulePath, usize, ModulePath)>,
    /// What a `mod.rs` or `lib.rs` re-exports: module and name, and where the item comes from.
    re_exports: BTreeMap<(ModulePath, String), ModulePath>,
}

impl Modules {
    /// Reads every file below `folder` except programs in `bin/` and `main.rs`, which use the library from outside.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut sources = BTreeMap::new();
        find_sources(folder, &mut Vec::new(), &mut sources)?;
        let mut syntax = BTreeMap::new();
        for (module, file) in sources {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let parsed = syn::parse_file(&text)
                .with_context(|| format!("cannot parse {}", file.display()))?;
            syntax.insert(module, (file, parsed));
        }
        for module in test_only(&syntax) {
            syntax.retain(|other, _| !other.starts_with(&module));
        }
        let mut modules = Self::default();
        for (module, (file, _)) in &syntax {
            let shown = file.strip_prefix(root()).unwrap_or(file).to_owned();
            modules.files.insert(module.clone(), shown);
        }
        for (module, (file, parsed)) in &syntax {
            let mut reader = Reader {
                is_module_root: matches!(file.file_name(), Some(name) if name == "mod.rs" || name == "lib.rs"),
                module: module.clone(),
                file_module: module,
                modules: &mut modules,
            };
            reader.visit_file(parsed);
        }
        Ok(modules)
    }

    fn imports(&self) -> BTreeSet<Import> {
        let imports = self.paths.iter().map(|(from, line, path)| Import {
            from: from.clone(),
            line: *line,
            to: self.resolve(path, 0),
        });
        imports.filter(|import| import.from != import.to).collect()
    }

    /// Finds the module that defines what a path names.
    fn resolve(&self, path: &[String], depth: usize) -> ModulePath {
        let mut module = ModulePath::new();
        for (index, name) in path.iter().enumerate() {
            module.push(name.clone());
            if self.files.contains_key(&module) {
                continue;
            }
            module.pop();
            if let Some(source) = self.re_exports.get(&(module.clone(), name.clone()))
                && depth < 8
            {
                let rest = path.get(index + 1..).unwrap_or_default();
                return self.resolve(&[source.as_slice(), rest].concat(), depth + 1);
            }
            break;
        }
        module
    }
}

/// Lists the source files below a folder by their module paths.
fn find_sources(
    folder: &Path,
    module: &mut ModulePath,
    sources: &mut BTreeMap<ModulePath, PathBuf>,
) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot read {}", folder.display()))?;
    for path in entries {
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            if stem != "bin" {
                module.push(stem);
                find_sources(&path, module, sources)?;
                module.pop();
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "main" {
            let mut module = module.clone();
            if stem != "mod" && stem != "lib" {
                module.push(stem);
            }
            sources.insert(module, path);
        }
    }
    Ok(())
}

/// Lists the modules that are declared under `#[cfg(test)]`.
fn test_only(syntax: &BTreeMap<ModulePath, (PathBuf, syn::File)>) -> Vec<ModulePath> {
    let mut found = Vec::new();
    for (module, (_, parsed)) in syntax {
        for item in &parsed.items {
            if let syn::Item::Mod(declared) = item
                && is_test(&declared.attrs)
            {
                found.push([module.as_slice(), &[declared.ident.to_string()]].concat());
            }
        }
    }
    found
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Collects the paths of one file.
struct Reader<'a> {
    is_module_root: bool,
    /// The module that is being read: that of the file, or one written inside it.
    module: ModulePath,
    file_module: &'a ModulePath,
    modules: &'a mut Modules,
}

impl Reader<'_> {
    /// Makes a path absolute. `None` if it does not lead into this package.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let mut base = self.module.clone();
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                let supers = rest.iter().take_while(|name| *name == "super").count();
                base.truncate(base.len().saturating_sub(supers));
                return Some([&base, rest.get(supers..)?].concat());
            }
            _ => {
                base.push(first.clone());
                if !self.modules.files.contains_key(&base) {
                    return None;
                }
            }
        }
        Some([&base, rest].concat())
    }

    fn add(&mut self, path: &[String], line: usize) {
        if let Some(path) = self.absolute(path) {
            self.modules
                .paths
                .push((self.file_module.clone(), line, path));
        }
    }

    /// Looks for `crate :: a :: b` in a macro's arguments, which are not parsed yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if path.is_empty() || path.last().is_some_and(|last| last != ":") {
                        self.add_tokens(&path, line);
                        path.clear();
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                }
                TokenTree::Punct(colon) if colon.as_char() == ':' && !path.is_empty() => {
                    path.push(":".to_owned());
                }
                TokenTree::Group(group) => {
                    self.add_tokens(&path, line);
                    path.clear();
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.add_tokens(&path, line);
                    path.clear();
                }
            }
        }
        self.add_tokens(&path, line);
    }

    fn add_tokens(&mut self, path: &[String], line: usize) {
        let names: Vec<String> = path.iter().filter(|name| *name != ":").cloned().collect();
        if names.len() > 1 {
            self.add(&names, line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut paths);
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        for (path, name) in paths {
            if is_public && self.is_module_root {
                if let Some(source) = self.absolute(&path) {
                    self.modules
                        .re_exports
                        .insert((self.module.clone(), name), source);
                }
            } else {
                self.add(&path, item.span().start().line);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.add(&names, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Lists what a `use` names: each path, and the name by which it is known afterwards.
fn flatten(tree: &syn::UseTree, prefix: &mut Vec<String>, paths: &mut Vec<(Vec<String>, String)>) {
    let leaf = |name: &syn::Ident, known_as: &syn::Ident, prefix: &[String]| {
        let mut path = prefix.to_vec();
        if name != "self" {
            path.push(name.to_string());
        }
        (path, known_as.to_string())
    };
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, paths);
            prefix.pop();
        }
        syn::UseTree::Name(name) => paths.push(leaf(&name.ident, &name.ident, prefix)),
        syn::UseTree::Rename(name) => paths.push(leaf(&name.ident, &name.rename, prefix)),
        syn::UseTree::Glob(_) => paths.push((prefix.clone(), "*".to_owned())),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix, paths);
            }
        }
    }
}
