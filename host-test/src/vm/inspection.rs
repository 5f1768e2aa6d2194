//! Inspects a module: its imports and exports, its capabilities, and the reasons why it cannot run.
//!
//! Envoy rejects a module without a known ABI marker and one with an unknown import. This host does the same, and names
//! them; it also reports a callback of the wrong type, a missing memory and a missing allocator, which Envoy detects later
//! or never. [`LoadOptions`] can waive an unknown marker or import, but none of the others, because the module could not
//! run.

use std::fmt;

use wasmtime::{ExternType, Module};

use super::imports;
use super::options::{LoadOptions, UnknownImports};
use crate::abi::{ALLOCATORS, CALLBACKS, MARKER_PREFIX, Version};

/// The result of inspecting a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The ABI versions for which the module has markers, such as `0.2.1`.
    pub abi_versions: Vec<String>,
    /// The imports in the module's order, including repeated ones.
    pub imports: Vec<Import>,
    /// The names of the exports in the module's order.
    pub exports: Vec<String>,
    /// Descriptions of what the imports and callbacks allow the module to do.
    pub capabilities: Vec<&'static str>,
    /// The size of the module in bytes.
    pub size: usize,
    /// The reasons why the module cannot run; empty if it can.
    pub problems: Vec<String>,
    /// The ABI version that the host uses: the newest for which the module has a marker.
    pub(crate) version: Version,
    /// The problems that [`LoadOptions`] waived.
    pub waived: Vec<String>,
}

/// An import of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The module name.
    pub module: String,
    /// The name within that module.
    pub name: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

impl Inspection {
    pub(crate) fn new(module: &Module, size: usize, options: LoadOptions) -> Self {
        let exports: Vec<String> = module
            .exports()
            .map(|export| export.name().to_owned())
            .collect();
        let (mut problems, mut waived) = (Vec::new(), Vec::new());
        let version = check_markers(
            &exports,
            if options.any_abi {
                &mut waived
            } else {
                &mut problems
            },
        );
        check_imports(
            module,
            version,
            options.unknown_imports,
            &mut problems,
            &mut waived,
        );
        check_exports(module, &mut problems);
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
            capabilities: capabilities(module),
            exports,
            size,
            problems,
            version,
            waived,
        }
    }
}

fn capabilities(module: &Module) -> Vec<&'static str> {
    CAPABILITIES
        .iter()
        .filter(|(_, names)| {
            names.iter().any(|name| {
                module.imports().any(|import| import.name() == *name)
                    || module.get_export(name).is_some()
            })
        })
        .map(|(description, _)| *description)
        .collect()
}

fn markers(exports: &[String]) -> impl Iterator<Item = &str> {
    exports
        .iter()
        .filter_map(|name| name.strip_prefix(MARKER_PREFIX))
}

fn check_markers(exports: &[String], problems: &mut Vec<String>) -> Version {
    let known = Version::MARKERS
        .into_iter()
        .find(|(marker, _)| exports.iter().any(|name| name == marker));
    if let Some((_, version)) = known {
        return version;
    }
    let found: Vec<&str> = markers(exports).collect();
    problems.push(if found.is_empty() {
        "no ABI marker: a proxy-wasm module exports `proxy_abi_version_0_2_1` or `proxy_abi_version_0_2_0`".to_owned()
    } else {
        format!(
            "ABI version {} is not supported: this host supports 0.1.0, 0.2.0 and 0.2.1",
            found.join(", ").replace('_', ".")
        )
    });
    Version::V0_2_1
}

fn check_imports(
    module: &Module,
    version: Version,
    unknown: UnknownImports,
    problems: &mut Vec<String>,
    waived: &mut Vec<String>,
) {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let is_of_another_version = version != Version::V0_1_0 && imports::is_legacy(from, name);
        let (problem, is_waivable) = match (imports::find(from, name), import.ty()) {
            (Some(_), ExternType::Func(_)) if is_of_another_version => (
                format!("import `{from}.{name}` exists only in ABI 0.1.0"),
                false,
            ),
            (Some(function), ExternType::Func(ty)) => {
                if function.ty(module.engine()).matches(&ty) {
                    continue;
                }
                (
                    format!("import `{from}.{name}` has the wrong type: {ty}"),
                    false,
                )
            }
            (None, ExternType::Func(_)) => (
                format!("import `{from}.{name}` is unknown"),
                unknown != UnknownImports::Reject,
            ),
            _ => (format!("import `{from}.{name}` is unknown"), false),
        };
        let list = if is_waivable {
            &mut *waived
        } else {
            &mut *problems
        };
        if !list.contains(&problem) {
            list.push(problem);
        }
    }
}

fn check_exports(module: &Module, problems: &mut Vec<String>) {
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared())
    {
        problems.push("no export `memory` that is a 32-bit memory".to_owned());
    }
    if !ALLOCATORS
        .iter()
        .any(|name| module.get_export(name).is_some())
    {
        problems.push(
            "no allocator: a module exports `proxy_on_memory_allocate` or `malloc`".to_owned(),
        );
    }
    for (name, parameters, returns) in CALLBACKS {
        let Some(export) = module.get_export(name) else {
            continue;
        };
        let is_right = export.func().is_some_and(|ty| {
            parameters.contains(&ty.params().len())
                && ty.results().len() == usize::from(returns)
                && ty.params().chain(ty.results()).all(|ty| ty.is_i32())
        });
        if !is_right {
            let result = if returns { "one" } else { "no" };
            let parameters = parameters.first().copied().unwrap_or_default();
            problems.push(format!(
                "export `{name}` has the wrong type: it takes {parameters} i32 and returns {result} i32"
            ));
        }
    }
}

/// Descriptions of capabilities, each with the imports and exports that imply it.
const CAPABILITIES: &[(&str, &[&str])] = &[
    ("sees request headers", &["proxy_on_request_headers"]),
    ("sees request bodies", &["proxy_on_request_body"]),
    ("sees request trailers", &["proxy_on_request_trailers"]),
    ("sees response headers", &["proxy_on_response_headers"]),
    ("sees response bodies", &["proxy_on_response_body"]),
    ("sees response trailers", &["proxy_on_response_trailers"]),
    (
        "changes headers or trailers",
        &[
            "proxy_add_header_map_value",
            "proxy_remove_header_map_value",
            "proxy_replace_header_map_value",
            "proxy_set_header_map_pairs",
        ],
    ),
    ("changes bodies", &["proxy_set_buffer_bytes"]),
    ("answers requests itself", &["proxy_send_local_response"]),
    (
        "holds messages back and continues them",
        &[
            "proxy_continue_request",
            "proxy_continue_response",
            "proxy_continue_stream",
        ],
    ),
    ("closes streams", &["proxy_close_stream"]),
    ("reads properties", &["proxy_get_property"]),
    ("sets properties", &["proxy_set_property"]),
    ("calls HTTP services", &["proxy_http_call"]),
    (
        "calls gRPC services",
        &["proxy_grpc_call", "proxy_grpc_stream"],
    ),
    (
        "shares data with other VMs",
        &["proxy_get_shared_data", "proxy_set_shared_data"],
    ),
    (
        "uses queues",
        &["proxy_enqueue_shared_queue", "proxy_register_shared_queue"],
    ),
    ("wakes up by time", &["proxy_set_tick_period_milliseconds"]),
    ("counts", &["proxy_define_metric"]),
    ("calls foreign functions", &["proxy_call_foreign_function"]),
    ("logs requests at their end", &["proxy_on_log"]),
    (
        "sees connections",
        &["proxy_on_downstream_data", "proxy_on_new_connection"],
    ),
];
