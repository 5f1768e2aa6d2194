//! Lists the faults that a module can meet: the statuses of host functions that do not depend on the module alone.
//!
//! A status that follows from the arguments or from the phase, such as `BAD_ARGUMENT` for a header map that is closed, is
//! returned by the host itself whenever it is due, so there is no need to inject it, and a filter that relies on its phase is
//! not wrong. Injected are those that depend on something else: the configuration of the proxy, other filters and plugins,
//! other services. As in `proxy-wasm-cpp-host` and `source/extensions/common/wasm/context.cc` of Envoy 1.40.

use fluxlit_cases::{InjectedFault, Status};

/// Returns the statuses that can be injected at a host function.
pub(super) fn statuses(function: &str) -> &'static [Status] {
    use Status::{BadArgument, CasMismatch, Empty, InternalFailure, NotFound, ParseFailure};
    match function {
        // Other versions of Envoy do not have the function, or reject the arguments.
        "proxy_call_foreign_function" => &[NotFound, BadArgument],
        // Another plugin changed the data or emptied the queue.
        "proxy_dequeue_shared_queue" => &[Empty, NotFound],
        "proxy_enqueue_shared_queue" | "proxy_resolve_shared_queue" | "proxy_get_shared_data" => {
            &[NotFound]
        }
        "proxy_set_shared_data" => &[CasMismatch],
        // The message or the proxy does not have it.
        "proxy_get_header_map_value" | "proxy_get_property" => &[NotFound],
        // Another filter has set the property and made it read-only.
        "proxy_set_property" => &[BadArgument],
        // The cluster is not configured, or has no host that can be called.
        "proxy_grpc_call" | "proxy_grpc_stream" => &[ParseFailure, InternalFailure],
        "proxy_http_call" => &[BadArgument, InternalFailure],
        // The service has ended the call.
        "proxy_grpc_cancel" | "proxy_grpc_close" | "proxy_grpc_send" => &[NotFound],
        _ => &[],
    }
}

/// Returns every fault that a module with these imports and exports can meet, without an occurrence.
///
/// The allocator can fail only if it is `malloc`: the one of the Rust SDK aborts instead, see
/// [`InjectedFault::ALLOCATION`].
pub(super) fn possible(imports: &[&str], exports: &[&str]) -> Vec<InjectedFault> {
    let calls = imports.iter().flat_map(|function| {
        let fault = |status: &Status| InjectedFault {
            at: (*function).to_owned(),
            status: Some(*status),
            occurrence: 0,
        };
        statuses(function).iter().map(fault)
    });
    let mut faults: Vec<InjectedFault> = calls.collect();
    let is = |name: &str| exports.contains(&name);
    if is("malloc") && !is("proxy_on_memory_allocate") {
        faults.push(InjectedFault {
            at: InjectedFault::ALLOCATION.to_owned(),
            status: None,
            occurrence: 0,
        });
    }
    faults
}
