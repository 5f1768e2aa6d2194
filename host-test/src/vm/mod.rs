//! How is the module called, and what takes effect when a callback is over?
//!
//! Each callback gets fresh fuel and its own context. After it, in this order: answers and closes that it asked for on
//! any stream, continued sides, contexts that are done, call-outs that are answered by now. What these callbacks ask
//! for in turn is carried out likewise, a bounded number of times. A VM that failed is never called again; by its
//! failure policy a new one may take its place.

pub(crate) mod call_out;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod fault;
pub(crate) mod filter;
pub(crate) mod guest;
pub(crate) mod imports;
pub(crate) mod inspection;
pub(crate) mod outcome;
pub(crate) mod state;
pub(crate) mod trace;

use std::collections::BTreeMap;

use wasmtime::{Func, Instance, Store, StoreLimitsBuilder, Val};

use crate::abi::Version;
use crate::plugin::{Refused, StartOptions, size};
use crate::process::Process;
use crate::stream::Side;
use crate::vm::call_out::{Arrival, GrpcEvent};
use crate::vm::exchange::Exchange;
use crate::vm::failure::{Failure, FailurePolicy};
use crate::vm::filter::Filter;
use crate::vm::guest::ALLOCATORS;
use crate::vm::state::{CallData, FIRST_PLUGIN, Host, PluginState};

/// An export that the host calls.
#[derive(Clone, Copy)]
struct Callback {
    function: Func,
    parameters: usize,
    has_result: bool,
}

/// A running module with its streams.
pub(crate) struct Vm {
    pub(crate) store: Store<Host>,
    instance: Instance,
    /// What the module exports for the host to call, looked up once.
    callbacks: BTreeMap<&'static str, Option<Callback>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) exchanges: BTreeMap<u32, Exchange>,
    filter: Filter,
    /// What each plugin was started with, and its context.
    plugins: Vec<(StartOptions, u32)>,
    next_context: u32,
    /// When this VM took the place of one that had failed.
    loaded_anew: Option<u64>,
}

impl Vm {
    /// Starts a module with its first plugin.
    pub(crate) fn start(
        filter: &Filter,
        options: StartOptions,
        process: &Process,
        number: usize,
    ) -> Result<Self, Refused> {
        let mut vm = Self::initialised(filter, options.clone(), process, number)?;
        vm.add_plugin(options)?;
        Ok(vm)
    }

    /// Instantiates and initialises the module: its start section, `_initialize` or `_start`.
    fn initialised(
        filter: &Filter,
        options: StartOptions,
        process: &Process,
        number: usize,
    ) -> Result<Self, Refused> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(options.memory_limit)
            .table_elements(MAX_TABLE_ELEMENTS)
            .build();
        let engine = filter.instance.module().engine();
        let fuel = options.fuel_at_start;
        let host = Host::new(options, filter.version, limits, process.clone(), number);
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limits);
        let instance = store
            .set_fuel(fuel)
            .and_then(|()| filter.instance.instantiate(&mut store));
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                let logs = store.data_mut().take_logs(FIRST_PLUGIN);
                let failure = Failure::new("instantiation", fuel, &error, &logs);
                return Err(Refused {
                    step: INITIALISATION,
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
            loaded_anew: None,
        };
        vm.find_memory();
        if let Err(failure) = vm.initialise() {
            return Err(Refused {
                step: INITIALISATION,
                logs: vm.host().take_logs(FIRST_PLUGIN),
                failure: Some(failure),
            });
        }
        vm.host().is_ready = true;
        Ok(vm)
    }

    /// Looks up what every host call needs.
    fn find_memory(&mut self) {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        let allocator = ALLOCATORS
            .iter()
            .find_map(|name| self.instance.get_typed_func(&mut self.store, name).ok());
        let host = self.host();
        host.memory = memory;
        host.allocator = allocator;
    }

    /// Envoy's order: `_initialize`, then `main` in one of its two forms; without the first, `_start`.
    fn initialise(&mut self) -> Result<(), Failure> {
        if self.call(FIRST_PLUGIN, "_initialize", &[])?.is_none() {
            self.call(FIRST_PLUGIN, "_start", &[])?;
        } else if self.call(FIRST_PLUGIN, "main", &[0, 0])?.is_none() {
            self.call(FIRST_PLUGIN, "__main_void", &[])?;
        }
        Ok(())
    }

    /// Starts a plugin; the first one starts the VM as well. Returns its place.
    pub(crate) fn add_plugin(&mut self, options: StartOptions) -> Result<usize, Refused> {
        let context = self.new_context();
        let (vm_size, plugin_size) = (
            size(&self.host().options.vm_configuration),
            size(&options.plugin_configuration),
        );
        if !self.plugins.is_empty() {
            self.host().calls.know(options.upstreams.clone());
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
            let answer = self.call(context, callback, &[context, argument]);
            self.settle();
            let failure = match answer {
                // `on_context_create` returns nothing.
                Ok(Some(0)) if step != "on_context_create" => None,
                Ok(_) => continue,
                Err(failure) => Some(failure),
            };
            self.host().plugins.remove(&context);
            return Err(Refused {
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

    /// Puts a new VM in the place of this one, which has failed, if the policy and its backoff allow it. Streams of the
    /// old VM keep their outcome and see no callback any more.
    pub(crate) fn load_anew(&mut self) {
        let now = self.host().now();
        let FailurePolicy::Reload { backoff } = self.host().options.failure_policy else {
            return;
        };
        let backoff = u64::try_from(backoff.as_nanos()).unwrap_or(u64::MAX);
        let is_early = self
            .loaded_anew
            .is_some_and(|last| now < last.saturating_add(backoff));
        if self.failure.is_none() || is_early {
            return;
        }
        let host = self.host();
        let (process, number, options) = (host.process.clone(), host.number, host.options.clone());
        let mut records = std::mem::take(&mut host.records);
        self.loaded_anew = Some(now);
        let Ok(mut new) = Self::initialised(&self.filter, options, &process, number) else {
            self.host().records = records;
            return;
        };
        new.next_context = self.next_context;
        for (options, old) in &self.plugins {
            if new.add_plugin(options.clone()).is_err() {
                self.host().records = records;
                return;
            }
            // What a plugin has logged is its own, whichever VM it was in.
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
        new.loaded_anew = self.loaded_anew;
        *self = new;
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    pub(crate) fn new_context(&mut self) -> u32 {
        let context = self.next_context;
        self.next_context += 1;
        context
    }

    /// The context of the plugin at `place`.
    pub(crate) fn plugin_context(&self, place: usize) -> u32 {
        self.plugins
            .get(place)
            .map_or(FIRST_PLUGIN, |(_, context)| *context)
    }

    /// How many bytes of memory the module has.
    pub(crate) fn memory(&mut self) -> usize {
        self.instance
            .get_memory(&mut self.store, "memory")
            .map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Calls an export in `context`; `None` if there is no such export, 0 if it returns nothing.
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
        // What initialises the module is no capability.
        if name.starts_with("proxy_") && !host.options.allows(name) {
            return Ok(None);
        }
        host.callback = name;
        host.running = context;
        host.effective = context;
        let fuel = if STARTING.contains(&name) {
            host.options.fuel_at_start
        } else {
            host.options.fuel_per_callback
        };
        let is_faulty = host.faults.callback(name);
        // The headers' callbacks of ABI 0.1.0 take one argument less.
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
        let left = self.store.get_fuel().unwrap_or(0);
        let record = self.host().record();
        record.fuel += fuel.saturating_sub(left);
        if let Err(error) = called {
            let failure = Failure::new(name, fuel, &error, &record.logs);
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

    /// Carries out what the last callback asked for.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let host = self.host();
            let interrupted: Vec<u32> = host
                .streams
                .iter()
                .filter(|(_, stream)| stream.reply.is_some() || stream.closed)
                .map(|(context, _)| *context)
                .collect();
            let continued = std::mem::take(&mut host.continued);
            let done = std::mem::take(&mut host.done);
            let has_arrival = self.failure.is_none() && self.call_due();
            if interrupted.is_empty() && continued.is_empty() && done.is_empty() && !has_arrival {
                return;
            }
            for context in interrupted {
                self.interrupt(context);
            }
            for (context, side) in continued {
                self.resume(context, side);
            }
            for context in done {
                self.delete(context);
                if !self.exchanges.contains_key(&context) {
                    self.host().records.remove(&context);
                }
            }
            if has_arrival {
                self.deliver_arrival();
            }
        }
        self.failure.get_or_insert(Failure::EndlessLoop {
            callback: "the chain of callbacks that cause each other".to_owned(),
            fuel: self.store.data().options.fuel_per_callback,
            stack: Box::default(),
        });
    }

    /// Ends a context: `on_delete`, after which nothing of it is left.
    pub(crate) fn delete(&mut self, context: u32) {
        if self.call(context, "proxy_on_delete", &[context]).is_ok() {
            let host = self.host();
            host.streams.remove(&context);
            host.plugins.remove(&context);
        }
    }

    /// Tells a context that a queue filled.
    pub(crate) fn announce(&mut self, reader: u32, queue: u32) {
        if self.host().has_context(reader) {
            // A failure is kept in the VM, and every later stream shows it.
            let _ = self.call(reader, "proxy_on_queue_ready", &[reader, queue]);
            self.settle();
        }
    }

    /// Shows a stream a METADATA frame. What the callback returns does not matter.
    pub(crate) fn show_metadata(&mut self, context: u32, side: Side, entries: u32) {
        let callback = match side {
            Side::Request => "proxy_on_request_metadata",
            Side::Response => "proxy_on_response_metadata",
        };
        if self.host().has_context(context) {
            // A failure is kept in the VM, and every later event shows it.
            let _ = self.call(context, callback, &[context, entries]);
            self.settle();
        }
    }

    /// Calls a plugin from the proxy's own side.
    pub(crate) fn call_foreign(&mut self, plugin: u32, function: u32, arguments: Vec<u8>) {
        let size = count(arguments.len());
        self.host().call_data.foreign = Some(arguments);
        // A failure is kept in the VM, and every later stream shows it.
        let _ = self.call(
            plugin,
            "proxy_on_foreign_function",
            &[plugin, function, size],
        );
        self.host().call_data = CallData::default();
        self.settle();
    }

    /// Whether a plugin has asked for ticks.
    pub(crate) fn has_ticks(&mut self) -> bool {
        let plugins = &self.host().plugins;
        plugins.values().any(|plugin| plugin.tick_period > 0)
    }

    /// When the next tick, answer or time-out is due.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        if self.failure.is_some() {
            return None;
        }
        let host = self.host();
        let ticks = host
            .plugins
            .values()
            .filter(|plugin| plugin.tick_period > 0);
        let tick = ticks.map(|plugin| plugin.tick_due).min();
        tick.into_iter().chain(host.calls.next_due()).min()
    }

    /// Ticks and call-outs that are due by now.
    pub(crate) fn run_due(&mut self) {
        self.settle();
        let now = self.host().now();
        let due: Vec<u32> = self
            .host()
            .plugins
            .iter()
            .filter(|(_, plugin)| plugin.tick_period > 0 && plugin.tick_due <= now)
            .map(|(context, _)| *context)
            .collect();
        for context in due {
            if let Some(plugin) = self.host().plugins.get_mut(&context) {
                plugin.tick_due = now.saturating_add(plugin.tick_period);
            }
            // A failure is kept in the VM, and every later stream shows it.
            let _ = self.call(context, "proxy_on_tick", &[context]);
            self.settle();
        }
    }

    fn call_due(&mut self) -> bool {
        let host = self.host();
        match host.calls.next_due() {
            Some(due) => due <= host.now(),
            None => false,
        }
    }

    /// Hands what arrived for a call-out to the plugin that made the call.
    fn deliver_arrival(&mut self) {
        let host = self.host();
        let (now, profile) = (host.now(), host.options.profile);
        let Some((plugin, call, arrival)) = host.calls.take_due(now, profile) else {
            return;
        };
        if !host.has_context(plugin) {
            return;
        }
        let mut data = CallData::default();
        let (callback, arguments) = match arrival {
            Arrival::Http {
                headers,
                body,
                trailers,
            } => {
                if headers.is_empty() {
                    host.status = (BROKEN_CONNECTION, "reset".to_owned());
                }
                let arguments = vec![
                    plugin,
                    call,
                    count(headers.len()),
                    count(body.len()),
                    count(trailers.len()),
                ];
                // Without headers there is no response to look at.
                if !headers.is_empty() {
                    data.headers = Some(headers);
                    data.body = Some(body);
                    data.trailers = Some(trailers);
                }
                ("proxy_on_http_call_response", arguments)
            }
            Arrival::Grpc(GrpcEvent::InitialMetadata(map)) => {
                let arguments = vec![plugin, call, count(map.len())];
                data.initial_metadata = Some(map);
                ("proxy_on_grpc_receive_initial_metadata", arguments)
            }
            Arrival::Grpc(GrpcEvent::Message(message)) => {
                let arguments = vec![plugin, call, count(message.len())];
                data.message = Some(message);
                ("proxy_on_grpc_receive", arguments)
            }
            Arrival::Grpc(GrpcEvent::TrailingMetadata(map)) => {
                let arguments = vec![plugin, call, count(map.len())];
                data.trailing_metadata = Some(map);
                ("proxy_on_grpc_receive_trailing_metadata", arguments)
            }
            Arrival::Grpc(GrpcEvent::Close { status, message }) => {
                host.status = (status, message);
                ("proxy_on_grpc_close", vec![plugin, call, status])
            }
        };
        host.call_data = data;
        let is_well = self.call(plugin, callback, &arguments).is_ok();
        if !is_well {
            self.fail_held();
        }
        let host = self.host();
        host.call_data = CallData::default();
        // The text does not outlive the callback, the number does.
        host.status.1.clear();
    }

    /// Whether held headers let the body's callbacks go on.
    pub(crate) fn stops_at_headers_only(&self) -> bool {
        let host = self.store.data();
        host.version == Version::V0_1_0 || host.options.allow_on_headers_stop_iteration
    }
}

pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The callbacks of the start.
const STARTING: [&str; 6] = [
    "__main_void",
    "_initialize",
    "_start",
    "main",
    "proxy_on_configure",
    "proxy_on_vm_start",
];

const INITIALISATION: &str = "the module's initialisation";

/// What `proxy_get_status` answers when a call-out has no headers: `BrokenConnection` of `proxy-wasm-cpp-host`.
const BROKEN_CONNECTION: u32 = 11;

/// How many times callbacks may cause further callbacks before that counts as an endless loop.
const MAX_ROUNDS: usize = 1000;

/// More than any callback of the ABI takes.
const MAX_PARAMETERS: usize = 8;

/// Far above what any filter's table of functions holds.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;
