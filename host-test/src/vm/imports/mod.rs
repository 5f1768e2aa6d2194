//! Which functions may a module import, and what happens around each call?
//!
//! The 39 host functions of ABI 0.2.1 in module `env`, the four that ABI 0.1.0 has beside them, two that Emscripten's
//! modules import, and the 45 functions of WASI preview 1, under both of WASI's module names. Each group has its file;
//! each function is a row of a table with its type, so that a module is checked against the same table that links it.
//!
//! Around each call: it is counted, its memory is looked up, and its result becomes a status. Before the module is
//! initialised only `proxy_log` and WASI may be called; anything else traps, as in Envoy. What no table has is refused
//! when the module is loaded, or stands in as [`Unknown`] says.

mod buffers;
mod call_outs;
pub(crate) mod foreign;
mod headers;
mod legacy;
mod plugin;
mod properties;
mod shared;
mod stream;
mod wasi;

use wasmtime::{Caller, Engine, ExternType, FuncType, Linker, Module, Val, ValType};

use crate::abi::{LogLevel, Status};
use crate::vm::filter::Unknown;
use crate::vm::guest::{Answer, Arguments, Guest, Stop};
use crate::vm::state::Host;
use crate::vm::trace::HostCall;

/// A function that a module may import.
pub(crate) struct HostFunction {
    pub(crate) name: &'static str,
    parameters: &'static [Kind],
    action: Action,
}

/// The type of a parameter.
#[derive(Clone, Copy)]
enum Kind {
    I32,
    I64,
}

/// What a function does.
#[derive(Clone, Copy)]
enum Action {
    /// Answers with a proxy-wasm status.
    Abi(fn(&mut Guest<'_>, &Arguments<'_>) -> Answer),
    /// As `Abi`, and allowed before the module is initialised.
    EarlyAbi(fn(&mut Guest<'_>, &Arguments<'_>) -> Answer),
    /// Answers with a WASI error number.
    Wasi(fn(&mut Guest<'_>, &Arguments<'_>) -> Result<i32, Status>),
    /// Answers nothing.
    Silent(fn(&mut Guest<'_>, &Arguments<'_>)),
}

impl HostFunction {
    /// The function's type, to link it and to check a module that imports it.
    pub(crate) fn ty(&self, engine: &Engine) -> FuncType {
        let parameters = self.parameters.iter().map(|kind| match kind {
            Kind::I32 => ValType::I32,
            Kind::I64 => ValType::I64,
        });
        let results = match self.action {
            Action::Silent(_) => None,
            _ => Some(ValType::I32),
        };
        FuncType::new(engine, parameters, results)
    }

    fn call(
        &'static self,
        mut caller: Caller<'_, Host>,
        arguments: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let host = caller.data_mut();
        *host.record().calls.entry(self.name).or_default() += 1;
        if host.options.trace {
            host.traced = Some(HostCall {
                callback: host.callback,
                function: self.name,
                arguments: arguments.iter().filter_map(number).collect(),
                ..HostCall::default()
            });
        }
        let injected = host.faults.host_call(self.name);
        let Some(mut guest) = Guest::new(caller) else {
            wasmtime::bail!("{} was called by a module without a memory", self.name);
        };
        if let (Some(status), Action::Abi(_) | Action::EarlyAbi(_)) = (injected, self.action) {
            finish(&mut guest, results, (status as u32).cast_signed());
            return guest.charge();
        }
        if !UNRESTRICTED.contains(&self.name) && !guest.host().options.allows(self.name) {
            return self.refuse(&mut guest, results);
        }
        let arguments = Arguments(arguments);
        let answer = match self.action {
            Action::Abi(action) => {
                if !guest.host().is_ready {
                    wasmtime::bail!("{} was called before the module was initialised", self.name);
                }
                to_status(action(&mut guest, &arguments))?
            }
            Action::EarlyAbi(action) => to_status(action(&mut guest, &arguments))?,
            Action::Wasi(action) => action(&mut guest, &arguments).unwrap_or(wasi::FAULT),
            Action::Silent(action) => {
                action(&mut guest, &arguments);
                0
            }
        };
        finish(&mut guest, results, answer);
        guest.charge()
    }

    /// Answers as Envoy does for a function that the module may not use.
    fn refuse(&self, guest: &mut Guest<'_>, results: &mut [Val]) -> wasmtime::Result<()> {
        let (kind, answer) = match self.action {
            Action::Abi(_) | Action::EarlyAbi(_) => {
                ("proxy-wasm", (Status::InternalFailure as u32).cast_signed())
            }
            Action::Wasi(_) | Action::Silent(_) => ("WASI", wasi::NOT_CAPABLE),
        };
        let name = self.name;
        let line = format!("Attempted call to restricted {kind} capability: {name}");
        guest.host().log(LogLevel::Error, line.as_bytes());
        finish(guest, results, answer);
        guest.charge()
    }
}

/// Gives the module its result, and ends the trace of the call.
fn finish(guest: &mut Guest<'_>, results: &mut [Val], answer: i32) {
    let host = guest.host();
    // A nested call from the allocator has taken the trace of the outer one; that one is then not complete.
    if let Some(mut traced) = host.traced.take() {
        traced.result = (!results.is_empty()).then_some(answer);
        host.record().trace.push(traced);
    }
    if let Some(result) = results.first_mut() {
        *result = Val::I32(answer);
    }
}

fn number(value: &Val) -> Option<i64> {
    value.i64().or_else(|| value.i32().map(i64::from))
}

/// The function that import `module`.`name` stands for.
pub(crate) fn find(module: &str, name: &str) -> Option<&'static HostFunction> {
    tables()
        .filter(|(modules, _)| modules.contains(&module))
        .flat_map(|(_, functions)| functions)
        .find(|function| function.name == name)
}

/// Links every function under every module name it is known by.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
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

/// Links what stands in for the imports of `module` that no table has.
pub(crate) fn link_unknown(
    linker: &mut Linker<Host>,
    module: &Module,
    unknown: Unknown,
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
            let Unknown::Answer(status) = unknown else {
                wasmtime::bail!("{full_name} was called, which this host does not know");
            };
            let left = caller.get_fuel()?;
            caller.set_fuel(left.saturating_sub(UNKNOWN_FUEL))?;
            for (result, ty) in results.iter_mut().zip(&result_types) {
                *result = match ty {
                    ValType::I32 => Val::I32((status as u32).cast_signed()),
                    ty => Val::default_for_ty(ty)
                        .ok_or_else(|| wasmtime::format_err!("{full_name} has no answer"))?,
                };
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether an import is one that only ABI 0.1.0 has.
pub(crate) fn is_legacy(module: &str, name: &str) -> bool {
    ENV.contains(&module) && legacy::names().any(|legacy| legacy == name)
}

/// The names of the host functions that answer with a status, in the order of the tables.
pub(crate) fn status_functions() -> impl Iterator<Item = &'static str> {
    tables()
        .flat_map(|(_, functions)| functions)
        .filter(|function| matches!(function.action, Action::Abi(_) | Action::EarlyAbi(_)))
        .map(|function| function.name)
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

fn to_status(answer: Answer) -> wasmtime::Result<i32> {
    let status = match answer {
        Ok(()) => Status::Ok,
        Err(Stop::Status(status)) => status,
        Err(Stop::Trap(error)) => return Err(error),
    };
    Ok((status as u32).cast_signed())
}

const fn abi(
    name: &'static str,
    parameters: &'static [Kind],
    action: fn(&mut Guest<'_>, &Arguments<'_>) -> Answer,
) -> HostFunction {
    HostFunction {
        name,
        parameters,
        action: Action::Abi(action),
    }
}

const ENV: &[&str] = &["env"];

/// AssemblyScript's modules import from the older name.
const WASI: &[&str] = &["wasi_snapshot_preview1", "wasi_unstable"];

/// What a module may always use, whatever capabilities it has.
const UNRESTRICTED: [&str; 2] = ["emscripten_notify_memory_growth", "pthread_equal"];

/// Fuel for the call of an unknown import.
const UNKNOWN_FUEL: u64 = 50;
