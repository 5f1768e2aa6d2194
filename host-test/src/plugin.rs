//! How does a plugin start, live and stop?
//!
//! In Envoy's order: initialise, `on_context_create`, `on_vm_start`, `on_configure`; ticks while it lives; `on_done`
//! and `on_delete` at its end. Envoy starts a plugin once a worker and twice more, so a filter must not mind being
//! started often, see [`Filter::start_as_envoy`]. Several plugins may share a VM, as in Envoy those with equal code,
//! `vm_id` and VM configuration do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::abi::property::Properties;
use crate::abi::{LogLevel, Status};
use crate::connection::Connection;
use crate::envoy::profile::Profile;
use crate::process::{Metric, Process, lock};
use crate::stream::Stream;
use crate::vm::Vm;
use crate::vm::call_out::{Answer, CallOut, Upstream};
use crate::vm::failure::{Failure, FailurePolicy};
use crate::vm::fault::Fault;
use crate::vm::filter::Filter;
use crate::vm::state::LogLine;

/// A configured plugin in its VM. Clones are the same plugin.
#[derive(Clone)]
pub struct Plugin {
    vm: Arc<Mutex<Vm>>,
    /// Its place among the plugins of the VM; its context changes when the VM is loaded anew.
    place: usize,
    process: Process,
}

/// What a plugin and its VM are started with.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// The plugin configuration, as the module reads it in `on_configure`.
    pub plugin_configuration: Vec<u8>,
    /// The VM configuration.
    pub vm_configuration: Vec<u8>,
    /// Envoy's `root_id`; modules with several plugins choose by it.
    pub root_id: String,
    /// Envoy's `name`.
    pub plugin_name: String,
    /// Envoy's `vm_id`. VMs of one id share their data and queues.
    pub vm_id: String,
    /// Environment variables, as name and value.
    pub environment: Vec<(String, String)>,
    /// Whose semantics the host has.
    pub profile: Profile,
    /// The services that the plugin may call.
    pub upstreams: Vec<Upstream>,
    /// Answers of foreign functions by name, in place of Envoy's own.
    pub foreign_functions: BTreeMap<String, ForeignAnswer>,
    /// What becomes of requests when the VM has failed.
    pub failure_policy: FailurePolicy,
    /// Envoy's setting of that name: held headers do not hold back the body's callbacks. Always so in ABI 0.1.0.
    pub allow_on_headers_stop_iteration: bool,
    /// The lowest level that is logged, and what `proxy_get_log_level` answers.
    pub log_level: LogLevel,
    /// What time the module sees.
    pub clock: Clock,
    /// Start of the sequence that `random_get` gives.
    pub random_seed: u64,
    /// Fuel for each callback: about one for each instruction, 50 for each host call and one for each byte that it
    /// copies.
    pub fuel_per_callback: u64,
    /// Fuel for each step of the start, in which some modules unpack large tables.
    pub fuel_at_start: u64,
    /// The most memory that the module may have, in bytes.
    pub memory_limit: usize,
    /// The host functions and callbacks that the module may use, by their names; all if it is empty. Envoy's
    /// `capability_restriction_config`: any other function answers [`Status::InternalFailure`], one of WASI 76, and
    /// logs an error; any other callback is not called.
    pub allowed_capabilities: BTreeSet<String>,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Whether to record every host call, see [`crate::Outcome::trace`].
    pub trace: bool,
}

impl StartOptions {
    /// Whether the module may use the host function or callback of this name.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allowed_capabilities.is_empty() || self.allowed_capabilities.contains(name)
    }
}

/// What a foreign function answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignAnswer {
    /// The status.
    pub status: Status,
    /// The result.
    pub result: Vec<u8>,
}

/// What time a module sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Time stands still until [`Plugin::advance`].
    Virtual {
        /// Nanoseconds since the Unix epoch.
        start: u64,
    },
    /// The time of the machine.
    System,
}

impl Default for Clock {
    /// Stands at 2026-01-01.
    fn default() -> Self {
        Self::Virtual {
            start: 1_767_225_600_000_000_000,
        }
    }
}

impl Default for StartOptions {
    /// Empty configurations and names, a clock that stands at 2026-01-01, 100 million units of fuel for a callback,
    /// 5 billion for a step of the start, and 256 MiB.
    fn default() -> Self {
        Self {
            plugin_configuration: Vec::new(),
            vm_configuration: Vec::new(),
            root_id: String::new(),
            plugin_name: String::new(),
            vm_id: String::new(),
            environment: Vec::new(),
            profile: Profile::default(),
            upstreams: Vec::new(),
            foreign_functions: BTreeMap::new(),
            failure_policy: FailurePolicy::default(),
            allow_on_headers_stop_iteration: false,
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

/// A plugin that did not start. Envoy would not start either, or keep the plugin it had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step} {}", if failure.is_some() { "failed" } else { "returned false" })]
pub struct Refused {
    /// Where it ended, such as `on_configure`.
    pub step: &'static str,
    /// What the module logged until then.
    pub logs: Vec<LogLine>,
    /// The trap, if it did not just return false.
    #[source]
    pub failure: Option<Failure>,
}

impl Plugin {
    pub(crate) fn start(
        filter: &Filter,
        options: StartOptions,
        process: Process,
    ) -> Result<Self, Refused> {
        let number = process.state().reserve_vm();
        let vm = Vm::start(filter, options, &process, number)?;
        let vm = Arc::new(Mutex::new(vm));
        process.add_vm(&vm, number);
        process.deliver();
        Ok(Self {
            vm,
            place: 0,
            process,
        })
    }

    /// Starts another plugin in the same VM, with a context and configuration of its own; `on_vm_start` is called again, as
    /// in Envoy, or not, by the rule `vm-start`. Of `options`, what is the VM's own is not used.
    ///
    /// # Errors
    ///
    /// As [`Filter::start`].
    pub fn start_in_same_vm(&self, options: StartOptions) -> Result<Self, Refused> {
        let place = self.vm().add_plugin(options)?;
        self.process.deliver();
        Ok(Self {
            vm: Arc::clone(&self.vm),
            place,
            process: self.process.clone(),
        })
    }

    /// Opens a stream: `on_context_create`. Streams of one plugin may overlap.
    pub fn stream(&self, properties: Properties) -> Stream {
        Stream::open(self.clone(), properties)
    }

    /// Calls the plugin as an extension of the proxy would, with a number that both know: `proxy_on_foreign_function`, which
    /// reads the arguments from buffer 8.
    pub fn call_foreign(&self, function: u32, arguments: &[u8]) {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.place);
        vm.call_foreign(context, function, arguments.to_vec());
        drop(vm);
        self.process.deliver();
    }

    /// Opens a connection through a network filter: `on_context_create`, `on_new_connection`.
    pub fn connection(&self, properties: Properties) -> Connection {
        Connection::open(self.clone(), properties)
    }

    /// The process that the VM is in.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Moves the process's virtual clock on, with all ticks, answers and time-outs that fall due on the way.
    pub fn advance(&self, duration: Duration) {
        self.process.advance(duration);
    }

    /// The call-outs that have not been answered.
    pub fn open_calls(&self) -> Vec<CallOut> {
        self.vm().host().calls.open_calls().cloned().collect()
    }

    /// Answers a call-out by hand; false if there is no such call.
    pub fn answer(&self, call: u32, answer: &Answer) -> bool {
        let mut vm = self.vm();
        let host = vm.host();
        let (now, profile) = (host.now(), host.options.profile);
        let is_known = host.calls.answer(call, answer, now, profile);
        vm.run_due();
        drop(vm);
        self.process.deliver();
        is_known
    }

    /// What the plugin itself has logged: at its start, in ticks, for queues and call-outs, not in streams.
    pub fn logs(&self) -> Vec<LogLine> {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.place);
        let record = vm.host().records.get(&context);
        record.map_or_else(Vec::new, |record| record.logs.clone())
    }

    /// The metrics of the process by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.process.metrics()
    }

    /// How the VM failed, if it did and was not loaded anew.
    pub fn failure(&self) -> Option<Failure> {
        self.vm().failure.clone()
    }

    /// How many bytes of memory the module has.
    pub fn memory(&self) -> usize {
        self.vm().memory()
    }

    /// How many contexts of streams the VM holds; those that `finish` left behind wait for `proxy_done`.
    pub fn contexts(&self) -> usize {
        self.vm().host().streams.len()
    }

    /// Ends the plugin: `on_done`, and `on_delete` unless it asks to wait.
    ///
    /// # Errors
    ///
    /// How the VM failed, now or before.
    pub fn stop(self) -> Result<(), Failure> {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.place);
        if vm.call(context, "proxy_on_done", &[context])? == Some(0) {
            vm.host().waiting_for_done.push(context);
        } else {
            vm.call(context, "proxy_on_delete", &[context])?;
        }
        vm.settle();
        Ok(())
    }

    pub(crate) fn vm(&self) -> MutexGuard<'_, Vm> {
        lock(&self.vm)
    }

    pub(crate) fn place(&self) -> usize {
        self.place
    }
}

pub(crate) fn size(configuration: &[u8]) -> u32 {
    u32::try_from(configuration.len()).unwrap_or(u32::MAX)
}
