//! Runs one instance of a module: calls its callbacks and serves its host calls.
//!
//! This folder holds everything that happens inside one VM: the instance and its start (this file), what callbacks cause
//! (`dispatch`, `feed`), the state that host functions change (`state`), the host functions (`imports`), and the types that a
//! test sees (`options`, `outcome`, `failure` and others). May use `envoy`, `event` and `abi`.

pub(crate) mod call_out;
pub(crate) mod dispatch;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod fault;
mod feed;
pub(crate) mod filter;
mod forbidden;
mod guest;
mod imports;
pub(crate) mod inspection;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod trace;

use std::collections::BTreeMap;

use wasmtime::{Func, Instance, Store, StoreLimitsBuilder, Val};

use exchange::Exchange;
use filter::Filter;
use options::StartOptions;
use shared::Shared;
use state::{FIRST_PLUGIN, HostState, PluginState};

use crate::abi::{ALLOCATORS, length_u32};

pub use call_out::{CallKind, CallOut, CallResponse, Cluster, DelayedResponse, GrpcEvent};
pub use failure::{Failure, FailurePolicy, StartError};
pub use fault::{Fault, FaultPoint};
pub use filter::LoadError;
pub use imports::host_functions;
pub use inspection::{Import, Inspection};
pub use options::{Clock, ForeignResult, LoadOptions, UnknownImports};
pub use shared::{Metric, MetricKind};
pub use trace::HostCall;

/// An export that the host calls.
#[derive(Clone, Copy)]
struct Callback {
    function: Func,
    parameters: usize,
    has_result: bool,
}

/// A running module with its plugins and streams.
pub(crate) struct Vm {
    pub(crate) store: Store<HostState>,
    instance: Instance,
    /// The callbacks looked up so far; `None` for those that the module does not export.
    callbacks: BTreeMap<&'static str, Option<Callback>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) exchanges: BTreeMap<u32, Exchange>,
    filter: Filter,
    /// The options and the context of each plugin.
    plugins: Vec<(StartOptions, u32)>,
    next_context: u32,
    connections: u64,
    /// The time of the last attempt to replace this VM after a failure.
    reloaded_at: Option<u64>,
    /// The fuel that the last callback used.
    used_fuel: u64,
}

impl Vm {
    /// Starts a module with its first plugin.
    pub(crate) fn start(
        filter: &Filter,
        options: StartOptions,
        shared: &Shared,
        number: usize,
    ) -> Result<Self, StartError> {
        let mut vm = Self::instantiate(filter, options.clone(), shared, number)?;
        vm.add_plugin(options)?;
        Ok(vm)
    }

    /// Instantiates and initializes the module: its start section, then `_initialize` or `_start`.
    fn instantiate(
        filter: &Filter,
        options: StartOptions,
        shared: &Shared,
        number: usize,
    ) -> Result<Self, StartError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(options.memory_limit)
            .table_elements(MAX_TABLE_ELEMENTS)
            .build();
        let engine = filter.instance.module().engine();
        let fuel = options.fuel_at_start;
        let host = HostState::new(options, filter.version, limits, shared.clone(), number);
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limits);
        let instance = store
            .set_fuel(fuel)
            .and_then(|()| filter.instance.instantiate(&mut store));
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                let logs = store.data_mut().take_logs(FIRST_PLUGIN);
                let error_lines = std::mem::take(&mut store.data_mut().error_lines);
                let failure = Failure::new("instantiation", fuel, &error, &logs, &error_lines);
                return Err(StartError {
                    step: INITIALIZATION,
                    logs,
                    failure: Some(failure),
                });
            }
        };
        let mut vm = Self {
            store,
            instance,
            callbacks: BTreeMap::new(),
            failure: None,
            exchanges: BTreeMap::new(),
            filter: filter.clone(),
            plugins: Vec::new(),
            next_context: FIRST_PLUGIN,
            connections: 0,
            reloaded_at: None,
            used_fuel: 0,
        };
        vm.look_up_memory();
        if let Err(failure) = vm.initialize() {
            return Err(StartError {
                step: INITIALIZATION,
                logs: vm.host().take_logs(FIRST_PLUGIN),
                failure: Some(failure),
            });
        }
        vm.host().is_initialized = true;
        Ok(vm)
    }

    /// Looks up the memory and the allocator, which every host call needs.
    fn look_up_memory(&mut self) {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        let allocator = ALLOCATORS
            .iter()
            .find_map(|name| self.instance.get_typed_func(&mut self.store, name).ok());
        let host = self.host();
        host.memory = memory;
        host.allocator = allocator;
    }

    /// Calls the module's initializers in Envoy's order: `_initialize`, then `main` in one of its two forms; `_start` if
    /// there is no `_initialize`.
    fn initialize(&mut self) -> Result<(), Failure> {
        if self.call(FIRST_PLUGIN, "_initialize", &[])?.is_none() {
            self.call(FIRST_PLUGIN, "_start", &[])?;
        } else if self.call(FIRST_PLUGIN, "main", &[0, 0])?.is_none() {
            self.call(FIRST_PLUGIN, "__main_void", &[])?;
        }
        Ok(())
    }

    /// Starts a plugin; the first one also starts the VM. Returns the plugin's index.
    pub(crate) fn add_plugin(&mut self, options: StartOptions) -> Result<usize, StartError> {
        let context = self.new_context();
        let vm_size = length_u32(self.host().options.vm_configuration.len());
        let plugin_size = length_u32(options.plugin_configuration.len());
        if !self.plugins.is_empty() {
            self.host().calls.add_clusters(options.clusters.clone());
        }
        self.host().plugins.insert(
            context,
            PluginState {
                configuration: options.plugin_configuration.clone(),
                name: options.plugin_name.clone(),
                root_id: options.root_id.clone(),
                is_configuring: false,
                tick_period: 0,
                tick_due: 0,
                declared: BTreeMap::new(),
            },
        );
        let mut steps = vec![
            ("on_context_create", "proxy_on_context_create", 0),
            ("on_vm_start", "proxy_on_vm_start", vm_size),
            ("on_configure", "proxy_on_configure", plugin_size),
        ];
        if !self.plugins.is_empty() && !self.host().options.profile.starts_vm_for_each_plugin() {
            steps.retain(|(step, _, _)| *step != "on_vm_start");
        }
        for (step, callback, argument) in steps {
            if let Some(plugin) = self.host().plugins.get_mut(&context) {
                plugin.is_configuring = step == "on_configure";
            }
            let result = self.call(context, callback, &[context, argument]);
            self.settle();
            let failure = match result {
                // `on_context_create` has no result.
                Ok(Some(0)) if step != "on_context_create" => None,
                Ok(_) => continue,
                Err(failure) => Some(failure),
            };
            self.host().plugins.remove(&context);
            return Err(StartError {
                step,
                logs: self.host().take_logs(context),
                failure,
            });
        }
        if let Some(plugin) = self.host().plugins.get_mut(&context) {
            plugin.is_configuring = false;
        }
        self.plugins.push((options, context));
        Ok(self.plugins.len() - 1)
    }

    /// Replaces this VM with a new one if it has failed and if the failure policy and its backoff allow that. Streams of the
    /// old VM keep their outcome and get no further callbacks.
    pub(crate) fn reload(&mut self) {
        let now = self.host().now();
        let FailurePolicy::Reload { backoff } = self.host().options.failure_policy else {
            return;
        };
        let backoff = u64::try_from(backoff.as_nanos()).unwrap_or(u64::MAX);
        let is_early = self
            .reloaded_at
            .is_some_and(|last| now < last.saturating_add(backoff));
        if self.failure.is_none() || is_early {
            return;
        }
        let host = self.host();
        let (shared, number, options) = (host.shared.clone(), host.number, host.options.clone());
        let mut records = std::mem::take(&mut host.records);
        self.reloaded_at = Some(now);
        let Ok(mut new) = Self::instantiate(&self.filter, options, &shared, number) else {
            self.host().records = records;
            return;
        };
        new.next_context = self.next_context;
        new.connections = self.connections;
        for (options, old) in &self.plugins {
            if new.add_plugin(options.clone()).is_err() {
                self.host().records = records;
                return;
            }
            // The log of a plugin continues in the new VM.
            let context = new
                .plugins
                .last()
                .map_or(FIRST_PLUGIN, |(_, context)| *context);
            if let Some(mut record) = records.remove(old) {
                let new_record = new.host().records.remove(&context).unwrap_or_default();
                record.logs.extend(new_record.logs);
                records.insert(context, record);
            }
        }
        new.host().records = records;
        new.exchanges = std::mem::take(&mut self.exchanges);
        new.reloaded_at = self.reloaded_at;
        *self = new;
    }

    pub(crate) fn host(&mut self) -> &mut HostState {
        self.store.data_mut()
    }

    pub(crate) fn new_context(&mut self) -> u32 {
        let context = self.next_context;
        self.next_context += 1;
        context
    }

    /// Returns the number of a new connection.
    pub(crate) fn next_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// Returns the context of the plugin with this index.
    pub(crate) fn plugin_context(&self, index: usize) -> u32 {
        self.plugins
            .get(index)
            .map_or(FIRST_PLUGIN, |(_, context)| *context)
    }

    /// Returns the size of the module's memory in bytes.
    pub(crate) fn memory(&mut self) -> usize {
        self.instance
            .get_memory(&mut self.store, "memory")
            .map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Calls an export in `context`. Returns its result, 0 if it has none, and `None` if the module has no such export.
    pub(crate) fn call(
        &mut self,
        context: u32,
        name: &'static str,
        arguments: &[u32],
    ) -> Result<Option<u32>, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(callback) = self.callback(name) else {
            return Ok(None);
        };
        let host = self.host();
        // Initializers are not subject to the capability restriction.
        if name.starts_with("proxy_") && !host.options.allows(name) {
            return Ok(None);
        }
        host.callback = name;
        host.error_lines.clear();
        host.effective = context;
        let fuel = if START_CALLBACKS.contains(&name) {
            host.options.fuel_at_start
        } else {
            host.options.fuel_per_callback
        };
        host.recorded_fuel = fuel;
        let is_faulty = host.faults.callback(name);
        // The header callbacks of ABI 0.1.0 take one argument less.
        let mut values = [const { Val::I32(0) }; MAX_PARAMETERS];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = Val::I32(argument.cast_signed());
        }
        let values = values.get(..callback.parameters).unwrap_or(&values);
        let mut results = [Val::I32(0)];
        let results = if callback.has_result {
            &mut results[..]
        } else {
            &mut []
        };
        let called = self.store.set_fuel(fuel).and_then(|()| {
            if is_faulty {
                wasmtime::bail!("made to fail");
            }
            callback.function.call(&mut self.store, values, results)
        });
        let result = results.first().and_then(Val::i32).unwrap_or(0);
        let remaining = self.store.get_fuel().unwrap_or(0);
        self.used_fuel = fuel.saturating_sub(remaining);
        let host = self.host();
        host.record_fuel(host.effective, remaining);
        if let Err(error) = called {
            let error_lines = std::mem::take(&mut host.error_lines);
            let failure = Failure::new(name, fuel, &error, &host.record().logs, &error_lines);
            host.requested.clear();
            self.failure = Some(failure.clone());
            return Err(failure);
        }
        Ok(Some(result.cast_unsigned()))
    }

    fn callback(&mut self, name: &'static str) -> Option<Callback> {
        if let Some(known) = self.callbacks.get(name) {
            return *known;
        }
        let callback = self
            .instance
            .get_func(&mut self.store, name)
            .map(|function| {
                let ty = function.ty(&self.store);
                Callback {
                    function,
                    parameters: ty.params().len(),
                    has_result: ty.results().len() > 0,
                }
            });
        self.callbacks.insert(name, callback);
        callback
    }
}

/// The callbacks of the start, which have their own fuel.
const START_CALLBACKS: [&str; 6] = [
    "__main_void",
    "_initialize",
    "_start",
    "main",
    "proxy_on_configure",
    "proxy_on_vm_start",
];

const INITIALIZATION: &str = "the module's initialization";

/// The maximum number of parameters of a callback; more than any callback of the ABI has.
const MAX_PARAMETERS: usize = 8;

/// The maximum size of the module's tables, far above what a filter needs.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;
