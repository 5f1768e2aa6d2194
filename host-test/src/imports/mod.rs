//! Which functions may a module import, and what happens around each call?
//!
//! The 39 host functions of ABI 0.2.1 in module `env`, two that Emscripten's modules import, and 21 WASI functions,
//! under both of WASI's module names. Each group has its file; each function is a row of a table with its
//! type, so that a module is checked against the same table that links it.
//!
//! Around each call: it is counted, its memory is looked up, and its result becomes a status. Before the module is
//! initialised only `proxy_log` and WASI may be called; anything else traps, as in Envoy.

mod buffers;
mod headers;
mod plugin;
mod properties;
mod shared;
mod stream;
mod wasi;

use wasmtime::{Caller, Engine, FuncType, Linker, Val, ValType};

use crate::abi::Status;
use crate::guest::{Answer, Arguments, Guest, Stop};
use crate::host::Host;

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
        *caller
            .data_mut()
            .record()
            .calls
            .entry(self.name)
            .or_default() += 1;
        let Some(mut guest) = Guest::new(caller) else {
            wasmtime::bail!("{} was called by a module without a memory", self.name);
        };
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
                return guest.charge();
            }
        };
        guest.charge()?;
        if let Some(result) = results.first_mut() {
            *result = Val::I32(answer);
        }
        Ok(())
    }
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

fn tables() -> impl Iterator<Item = (&'static [&'static str], &'static [HostFunction])> {
    [
        (ENV, buffers::FUNCTIONS),
        (ENV, headers::FUNCTIONS),
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
