//! Describes a host function, and wraps each call to it.
//!
//! A call is counted and traced; a fault may be injected; the capability restriction is checked; the memory is looked up;
//! the result becomes a status; fuel is charged. Before the module is initialized it may only call `proxy_log` and WASI;
//! anything else traps, as in Envoy.

use wasmtime::{Caller, Engine, FuncType, Val, ValType};

use crate::abi::{LogLevel, Status, errno};
use crate::vm::guest::{Arguments, Guest, HostCallError, HostCallResult};
use crate::vm::state::HostState;
use crate::vm::trace::HostCall;

/// A function that a module may import.
pub(crate) struct HostFunction {
    pub(crate) name: &'static str,
    pub(super) parameters: &'static [Kind],
    pub(super) handler: Handler,
}

/// The type of a parameter.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    I32,
    I64,
}

/// The implementation of a function, by the kind of its result.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Returns a proxy-wasm status.
    Abi(fn(&mut Guest<'_>, &Arguments<'_>) -> HostCallResult),
    /// Like `Abi`, but also allowed before the module is initialized.
    EarlyAbi(fn(&mut Guest<'_>, &Arguments<'_>) -> HostCallResult),
    /// Returns a WASI error number.
    Wasi(fn(&mut Guest<'_>, &Arguments<'_>) -> Result<i32, Status>),
    /// Returns nothing.
    Void(fn(&mut Guest<'_>, &Arguments<'_>)),
}

impl HostFunction {
    /// Returns the function's type, to link it and to check modules that import it.
    pub(crate) fn ty(&self, engine: &Engine) -> FuncType {
        let parameters = self.parameters.iter().map(|kind| match kind {
            Kind::I32 => ValType::I32,
            Kind::I64 => ValType::I64,
        });
        let results = match self.handler {
            Handler::Void(_) => None,
            _ => Some(ValType::I32),
        };
        FuncType::new(engine, parameters, results)
    }

    /// Runs a call by the module.
    pub(super) fn call(
        &'static self,
        mut caller: Caller<'_, HostState>,
        arguments: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let host = caller.data_mut();
        // The call is recorded for this context, even if it makes another one effective.
        let context = host.effective;
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
        if let (Some(status), Handler::Abi(_) | Handler::EarlyAbi(_)) = (injected, self.handler) {
            return finish(&mut guest, context, results, (status as u32).cast_signed());
        }
        if !UNRESTRICTED.contains(&self.name) && !guest.host().options.allows(self.name) {
            return self.deny(&mut guest, context, results);
        }
        let arguments = Arguments(arguments);
        let result = match self.handler {
            Handler::Abi(handler) => {
                if !guest.host().is_initialized {
                    wasmtime::bail!("{} was called before the module was initialized", self.name);
                }
                to_status(handler(&mut guest, &arguments))?
            }
            Handler::EarlyAbi(handler) => to_status(handler(&mut guest, &arguments))?,
            Handler::Wasi(handler) => handler(&mut guest, &arguments).unwrap_or(errno::FAULT),
            Handler::Void(handler) => {
                handler(&mut guest, &arguments);
                0
            }
        };
        finish(&mut guest, context, results, result)
    }

    /// Returns what Envoy returns for a function that the module may not use.
    fn deny(
        &self,
        guest: &mut Guest<'_>,
        context: u32,
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let (kind, result) = match self.handler {
            Handler::Abi(_) | Handler::EarlyAbi(_) => {
                ("proxy-wasm", (Status::InternalFailure as u32).cast_signed())
            }
            Handler::Wasi(_) | Handler::Void(_) => ("WASI", errno::NOTCAPABLE),
        };
        let name = self.name;
        let line = format!("Attempted call to restricted {kind} capability: {name}");
        guest.host().log(LogLevel::Error, line.as_bytes());
        finish(guest, context, results, result)
    }
}

/// Sets the result of a call, ends its trace, and charges its fuel to `context`.
fn finish(
    guest: &mut Guest<'_>,
    context: u32,
    results: &mut [Val],
    result: i32,
) -> wasmtime::Result<()> {
    let host = guest.host();
    // A nested call from the allocator replaces the trace of the outer call, which is then incomplete.
    if let Some(mut traced) = host.traced.take() {
        traced.result = (!results.is_empty()).then_some(result);
        host.record_of(context).trace.push(traced);
    }
    if let Some(first) = results.first_mut() {
        *first = Val::I32(result);
    }
    guest.charge(context)
}

fn number(value: &Val) -> Option<i64> {
    value.i64().or_else(|| value.i32().map(i64::from))
}

/// Returns true if a function returns a proxy-wasm status.
pub(super) fn returns_status(function: &HostFunction) -> bool {
    matches!(function.handler, Handler::Abi(_) | Handler::EarlyAbi(_))
}

fn to_status(result: HostCallResult) -> wasmtime::Result<i32> {
    let status = match result {
        Ok(()) => Status::Ok,
        Err(HostCallError::Status(status)) => status,
        Err(HostCallError::Trap(error)) => return Err(error),
    };
    Ok((status as u32).cast_signed())
}

/// Builds a function that returns a proxy-wasm status.
pub(super) const fn abi(
    name: &'static str,
    parameters: &'static [Kind],
    handler: fn(&mut Guest<'_>, &Arguments<'_>) -> HostCallResult,
) -> HostFunction {
    HostFunction {
        name,
        parameters,
        handler: Handler::Abi(handler),
    }
}

/// The functions that the capability restriction does not cover.
const UNRESTRICTED: [&str; 2] = ["emscripten_notify_memory_growth", "pthread_equal"];
