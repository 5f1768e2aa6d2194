//! Defines the names and numbers of the proxy-wasm ABI 0.2.1: statuses, maps, buffers, log levels, callbacks.
//!
//! Source: the [specification] and, where it is silent, `proxy-wasm-cpp-host` as built into Envoy 1.40. This is the lowest
//! layer: it uses no other folder.
//!
//! [specification]: https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1

pub(crate) mod errno;
pub(crate) mod header_map;
pub(crate) mod property;

use std::fmt;

pub(crate) use header_map::{HeaderMap, lines};
pub(crate) use property::Properties;
pub use property::Value;

/// The status that a host function returns (`proxy_status_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// The requested element does not exist.
    NotFound = 1,
    /// An argument is invalid, or the call is not allowed in this phase.
    BadArgument = 2,
    /// A value cannot be serialized.
    SerializationFailure = 3,
    /// A value cannot be parsed.
    ParseFailure = 4,
    /// An address or length lies outside the module's memory.
    InvalidMemoryAccess = 6,
    /// A queue is empty.
    Empty = 7,
    /// Shared data changed since it was read.
    CasMismatch = 8,
    /// The host failed.
    InternalFailure = 10,
    /// The host does not implement the function.
    Unimplemented = 12,
}

impl Status {
    /// Every status, in numerical order.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::NotFound,
        Self::BadArgument,
        Self::SerializationFailure,
        Self::ParseFailure,
        Self::InvalidMemoryAccess,
        Self::Empty,
        Self::CasMismatch,
        Self::InternalFailure,
        Self::Unimplemented,
    ];

    /// Returns the name in the specification, such as `BAD_ARGUMENT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotFound => "NOT_FOUND",
            Self::BadArgument => "BAD_ARGUMENT",
            Self::SerializationFailure => "SERIALIZATION_FAILURE",
            Self::ParseFailure => "PARSE_FAILURE",
            Self::InvalidMemoryAccess => "INVALID_MEMORY_ACCESS",
            Self::Empty => "EMPTY",
            Self::CasMismatch => "CAS_MISMATCH",
            Self::InternalFailure => "INTERNAL_FAILURE",
            Self::Unimplemented => "UNIMPLEMENTED",
        }
    }

    /// Returns the status with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// The severity of a log line (`proxy_log_level_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// 0.
    Trace,
    /// 1.
    Debug,
    /// 2.
    Info,
    /// 3.
    Warn,
    /// 4.
    Error,
    /// 5.
    Critical,
}

impl LogLevel {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the level with this name, such as `warn`.
    pub fn named(name: &str) -> Option<Self> {
        (0..=Self::Critical as u32)
            .filter_map(Self::from_number)
            .find(|level| level.to_string() == name)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// A header map of a stream or of a call-out (`proxy_map_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapId {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapId {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return None,
        })
    }
}

/// A buffer (`proxy_buffer_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BufferId {
    RequestBody,
    ResponseBody,
    DownstreamData,
    UpstreamData,
    /// The arguments of `proxy_on_foreign_function`.
    ForeignArguments,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
}

impl BufferId {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 => Self::DownstreamData,
            3 => Self::UpstreamData,
            4 => Self::CallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::ForeignArguments,
            _ => return None,
        })
    }
}

/// A version of the ABI that this host supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_2_1,
}

impl Version {
    /// The versions with the marker functions that a module exports for them, newest first.
    pub(crate) const MARKERS: [(&'static str, Self); 3] = [
        ("proxy_abi_version_0_2_1", Self::V0_2_1),
        ("proxy_abi_version_0_2_0", Self::V0_2_0),
        ("proxy_abi_version_0_1_0", Self::V0_1_0),
    ];
}

/// The prefix of every version marker.
pub(crate) const MARKER_PREFIX: &str = "proxy_abi_version_";

/// The exports that allocate memory in the module, in the order in which they are tried.
pub(crate) const ALLOCATORS: [&str; 2] = ["proxy_on_memory_allocate", "malloc"];

/// Returns a length or count as the ABI passes it, saturating at the largest `u32`.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The callbacks that this host calls: the name, the permitted numbers of `i32` parameters, and whether it returns an
/// `i32`. In ABI 0.1.0 the header callbacks lack the end-of-stream parameter.
pub(crate) const CALLBACKS: [(&str, &[usize], bool); 34] = [
    ("__main_void", &[0], true),
    ("_initialize", &[0], false),
    ("_start", &[0], false),
    ("main", &[2], true),
    ("malloc", &[1], true),
    ("proxy_on_configure", &[2], true),
    ("proxy_on_context_create", &[2], false),
    ("proxy_on_delete", &[1], false),
    ("proxy_on_done", &[1], true),
    ("proxy_on_downstream_connection_close", &[2], false),
    ("proxy_on_downstream_data", &[3], true),
    ("proxy_on_foreign_function", &[3], false),
    ("proxy_on_grpc_close", &[3], false),
    ("proxy_on_grpc_receive", &[3], false),
    ("proxy_on_grpc_receive_initial_metadata", &[3], false),
    ("proxy_on_grpc_receive_trailing_metadata", &[3], false),
    ("proxy_on_http_call_response", &[5], false),
    ("proxy_on_log", &[1], false),
    ("proxy_on_memory_allocate", &[1], true),
    ("proxy_on_new_connection", &[1], true),
    ("proxy_on_queue_ready", &[2], false),
    ("proxy_on_request_body", &[3], true),
    ("proxy_on_request_headers", &[3, 2], true),
    ("proxy_on_request_metadata", &[2], true),
    ("proxy_on_request_trailers", &[2], true),
    ("proxy_on_response_body", &[3], true),
    ("proxy_on_response_headers", &[3, 2], true),
    ("proxy_on_response_metadata", &[2], true),
    ("proxy_on_response_trailers", &[2], true),
    ("proxy_on_tick", &[1], false),
    ("proxy_on_upstream_connection_close", &[2], false),
    ("proxy_on_upstream_data", &[3], true),
    ("proxy_on_vm_start", &[2], true),
    ("proxy_validate_configuration", &[2], true),
];
