//! Links the functions that a module may import.
//!
//! These are the 39 host functions of ABI 0.2.1 in module `env`, the four that only ABI 0.1.0 has, two that Emscripten's
//! modules import, and the 45 functions of WASI preview 1, under both of WASI's module names. Each group has its own file;
//! each function is a row of a table with its type, so that the same table checks and links a module. An import that is in
//! no table is rejected when the module is loaded, or replaced as [`UnknownImports`] specifies.

mod attributes;
mod buffers;
mod call_outs;
mod foreign;
mod function;
mod headers;
mod legacy;
mod plugin;
mod properties;
mod shared;
mod stream;
mod wasi;

use wasmtime::{ExternType, Linker, Module, Val, ValType};

use function::{HostFunction, returns_status};

use super::options::UnknownImports;
use super::state::HostState;

/// Finds the function for the import `module`.`name`.
pub(crate) fn find(module: &str, name: &str) -> Option<&'static HostFunction> {
    tables()
        .filter(|(modules, _)| modules.contains(&module))
        .flat_map(|(_, functions)| functions)
        .find(|function| function.name == name)
}

/// Links every function under each of its module names.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for (modules, functions) in tables() {
        for function in functions {
            for module in modules {
                let ty = function.ty(linker.engine());
                linker.func_new(module, function.name, ty, |caller, arguments, results| {
                    function.call(caller, arguments, results)
                })?;
            }
        }
    }
    Ok(())
}

/// Links replacements for the imports of `module` that are in no table.
pub(crate) fn link_unknown(
    linker: &mut Linker<HostState>,
    module: &Module,
    unknown: UnknownImports,
) -> wasmtime::Result<()> {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(ty) = import.ty() else {
            continue;
        };
        if find(from, name).is_some() {
            continue;
        }
        let full_name = format!("{from}.{name}");
        linker.allow_shadowing(true);
        let result_types: Vec<ValType> = ty.results().collect();
        linker.func_new(from, name, ty, move |mut caller, _, results| {
            let calls = &mut caller.data_mut().record().unknown_calls;
            *calls.entry(full_name.clone()).or_default() += 1;
            let UnknownImports::Return(status) = unknown else {
                wasmtime::bail!("{full_name} was called, which this host does not provide");
            };
            let remaining = caller.get_fuel()?;
            caller.set_fuel(remaining.saturating_sub(UNKNOWN_FUEL))?;
            for (result, ty) in results.iter_mut().zip(&result_types) {
                *result = match ty {
                    ValType::I32 => Val::I32((status as u32).cast_signed()),
                    ty => Val::default_for_ty(ty).ok_or_else(|| {
                        wasmtime::format_err!("{full_name} has no default result")
                    })?,
                };
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Returns true if only ABI 0.1.0 has this import.
pub(crate) fn is_legacy(module: &str, name: &str) -> bool {
    ENV.contains(&module) && legacy::names().any(|legacy| legacy == name)
}

/// Returns the names of all host functions that return a status: those at which a [`Fault`](super::fault::Fault) can be
/// injected.
pub fn host_functions() -> Vec<&'static str> {
    tables()
        .flat_map(|(_, functions)| functions)
        .filter(|function| returns_status(function))
        .map(|function| function.name)
        .collect()
}

fn tables() -> impl Iterator<Item = (&'static [&'static str], &'static [HostFunction])> {
    [
        (ENV, buffers::FUNCTIONS),
        (ENV, call_outs::FUNCTIONS),
        (ENV, headers::FUNCTIONS),
        (ENV, legacy::FUNCTIONS),
        (ENV, plugin::FUNCTIONS),
        (ENV, properties::FUNCTIONS),
        (ENV, shared::FUNCTIONS),
        (ENV, stream::FUNCTIONS),
        (WASI, wasi::FUNCTIONS),
    ]
    .into_iter()
}

const ENV: &[&str] = &["env"];

/// AssemblyScript's modules import from the older name.
const WASI: &[&str] = &["wasi_snapshot_preview1", "wasi_unstable"];

/// The fuel for a call of an unknown import.
const UNKNOWN_FUEL: u64 = 50;
