//! Defines the options for loading a module and for starting a plugin.

use std::collections::{BTreeMap, BTreeSet};

use super::call_out::Cluster;
use super::failure::FailurePolicy;
use super::fault::Fault;
use crate::abi::{LogLevel, Status};
use crate::envoy::profile::Profile;

/// Checks that loading a module may skip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The handling of imports that this host does not know.
    pub unknown_imports: UnknownImports,
    /// True if a module without a known ABI marker is loaded as one of ABI 0.2.1.
    pub any_abi: bool,
    /// True if the module is compiled even if a compiled copy is cached, and not added to the cache.
    pub no_cache: bool,
}

/// The handling of imports that this host does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownImports {
    /// The module is rejected, as by Envoy.
    #[default]
    Reject,
    /// They do nothing and return this status; see [`crate::Outcome::unknown_calls`].
    Return(Status),
    /// They trap when they are called.
    Trap,
}

/// Options that a plugin and its VM are started with.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// The plugin configuration, as the module reads it in `on_configure`.
    pub plugin_configuration: Vec<u8>,
    /// The VM configuration.
    pub vm_configuration: Vec<u8>,
    /// Envoy's `root_id`; modules with several plugins select one by it.
    pub root_id: String,
    /// Envoy's `name`.
    pub plugin_name: String,
    /// Envoy's `vm_id`. VMs with the same id share data and queues.
    pub vm_id: String,
    /// Environment variables, as name and value.
    pub environment: Vec<(String, String)>,
    /// The host semantics: those of Envoy or of the specification.
    pub profile: Profile,
    /// The services that the plugin may call.
    pub clusters: Vec<Cluster>,
    /// Results of foreign functions by name, in place of Envoy's own functions.
    pub foreign_functions: BTreeMap<String, ForeignResult>,
    /// The handling of requests after the VM has failed.
    pub failure_policy: FailurePolicy,
    /// Envoy's setting of this name: body callbacks run even while headers are paused. Always on in ABI 0.1.0.
    pub allow_on_headers_stop_iteration: bool,
    /// The maximum number of bytes of a body that the filter may hold, see the rule `buffer-limit` of the profile. Envoy's
    /// `per_connection_buffer_limit_bytes` of the listener.
    pub buffer_limit: usize,
    /// The lowest level that is logged, and the level that `proxy_get_log_level` returns.
    pub log_level: LogLevel,
    /// The clock that the module sees.
    pub clock: Clock,
    /// The seed of the sequence that `random_get` returns.
    pub random_seed: u64,
    /// Fuel for each callback: about one unit for each instruction, 50 for each host call and one for each byte that it
    /// copies.
    pub fuel_per_callback: u64,
    /// Fuel for each step of the start, in which some modules unpack large tables.
    pub fuel_at_start: u64,
    /// The maximum memory of the module, in bytes.
    pub memory_limit: usize,
    /// The names of the host functions and callbacks that the module may use; empty for all. Envoy's
    /// `capability_restriction_config`: any other host function logs an error and returns [`Status::InternalFailure`], or
    /// 76 if it is one of WASI; any other callback is not called.
    pub allowed_capabilities: BTreeSet<String>,
    /// Injected faults.
    pub faults: Vec<Fault>,
    /// True if every host call is recorded, see [`crate::Outcome::trace`].
    pub trace: bool,
}

/// The result of a foreign function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignResult {
    /// The status.
    pub status: Status,
    /// The bytes that the function returns.
    pub bytes: Vec<u8>,
}

/// The clock that a module sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A clock that stands still until [`crate::Process::advance`].
    Virtual {
        /// Nanoseconds since the Unix epoch.
        start: u64,
    },
    /// The machine's clock.
    System,
}

impl StartOptions {
    /// Returns true if the module may use the host function or callback of this name.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allowed_capabilities.is_empty() || self.allowed_capabilities.contains(name)
    }
}

impl Default for Clock {
    /// A virtual clock at 2026-01-01.
    fn default() -> Self {
        Self::Virtual {
            start: 1_767_225_600_000_000_000,
        }
    }
}

impl Default for StartOptions {
    /// Empty configurations and names, a virtual clock at 2026-01-01, 100 million units of fuel for a callback, 5 billion
    /// for a step of the start, 256 MiB of memory, and a buffer limit of 1 MiB.
    fn default() -> Self {
        Self {
            plugin_configuration: Vec::new(),
            vm_configuration: Vec::new(),
            root_id: String::new(),
            plugin_name: String::new(),
            vm_id: String::new(),
            environment: Vec::new(),
            profile: Profile::default(),
            clusters: Vec::new(),
            foreign_functions: BTreeMap::new(),
            failure_policy: FailurePolicy::default(),
            allow_on_headers_stop_iteration: false,
            buffer_limit: 1024 * 1024,
            log_level: LogLevel::Trace,
            clock: Clock::default(),
            random_seed: 0,
            fuel_per_callback: 100_000_000,
            fuel_at_start: 5_000_000_000,
            memory_limit: 256 * 1024 * 1024,
            allowed_capabilities: BTreeSet::new(),
            faults: Vec::new(),
            trace: false,
        }
    }
}
