//! What does a module want and offer, and what speaks against running it?
//!
//! Envoy refuses a module without a known ABI marker and one with an import that nobody provides. So does this host,
//! and it says which; a callback of the wrong type, a missing memory and a missing allocator, which Envoy finds out
//! later or never, are named as well.

use std::fmt;

use wasmtime::{ExternType, Module};

use crate::abi::{CALLBACKS, MARKER_PREFIX, SUPPORTED_MARKERS};
use crate::guest::ALLOCATORS;
use crate::imports;

/// What a look at a module shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The ABI versions it is marked with, as in `0.2.1`.
    pub abi_versions: Vec<String>,
    /// What it imports, in its own order, repetitions included.
    pub imports: Vec<Import>,
    /// The names of what it exports, in its own order.
    pub exports: Vec<String>,
    /// Size of the module in bytes.
    pub size: usize,
    /// Why it cannot be run; empty if it can.
    pub refusals: Vec<String>,
}

/// Something that a module imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The module name.
    pub module: String,
    /// The name in it.
    pub name: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

impl Inspection {
    pub(crate) fn new(module: &Module, size: usize) -> Self {
        let exports: Vec<String> = module
            .exports()
            .map(|export| export.name().to_owned())
            .collect();
        let mut refusals = Vec::new();
        check_markers(&exports, &mut refusals);
        check_imports(module, &mut refusals);
        check_exports(module, &mut refusals);
        Self {
            abi_versions: markers(&exports)
                .map(|version| version.replace('_', "."))
                .collect(),
            imports: module
                .imports()
                .map(|import| Import {
                    module: import.module().to_owned(),
                    name: import.name().to_owned(),
                })
                .collect(),
            exports,
            size,
            refusals,
        }
    }
}

fn markers(exports: &[String]) -> impl Iterator<Item = &str> {
    exports
        .iter()
        .filter_map(|name| name.strip_prefix(MARKER_PREFIX))
}

fn check_markers(exports: &[String], refusals: &mut Vec<String>) {
    let is_supported = exports
        .iter()
        .any(|name| SUPPORTED_MARKERS.contains(&name.as_str()));
    if is_supported {
        return;
    }
    let found: Vec<&str> = markers(exports).collect();
    refusals.push(if found.is_empty() {
        "no ABI marker: a proxy-wasm module exports `proxy_abi_version_0_2_1` or `proxy_abi_version_0_2_0`".to_owned()
    } else {
        format!(
            "ABI version {} is not supported: this host speaks 0.2.0 and 0.2.1",
            found.join(", ").replace('_', ".")
        )
    });
}

fn check_imports(module: &Module, refusals: &mut Vec<String>) {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let refusal = match (imports::find(from, name), import.ty()) {
            (Some(function), ExternType::Func(ty)) => {
                if function.ty(module.engine()).matches(&ty) {
                    continue;
                }
                format!("import `{from}.{name}` has the wrong type: {ty}")
            }
            _ => format!("import `{from}.{name}` is unknown"),
        };
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
    }
}

fn check_exports(module: &Module, refusals: &mut Vec<String>) {
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared())
    {
        refusals.push("no export `memory` that is a 32-bit memory".to_owned());
    }
    if !ALLOCATORS
        .iter()
        .any(|name| module.get_export(name).is_some())
    {
        refusals.push(
            "no allocator: a module exports `proxy_on_memory_allocate` or `malloc`".to_owned(),
        );
    }
    for (name, parameters, returns) in CALLBACKS {
        let Some(export) = module.get_export(name) else {
            continue;
        };
        let is_right = export.func().is_some_and(|ty| {
            ty.params().len() == parameters
                && ty.results().len() == usize::from(returns)
                && ty.params().chain(ty.results()).all(|ty| ty.is_i32())
        });
        if !is_right {
            let result = if returns { "one" } else { "no" };
            refusals.push(format!(
                "export `{name}` has the wrong type: it takes {parameters} i32 and returns {result} i32"
            ));
        }
    }
}
