//! How is the module called, and what takes effect when a callback is over?
//!
//! Each callback gets fresh fuel and its own context. After it, in this order: answers and closes that it asked for on
//! any stream, continued sides, contexts that are done, queues that filled. What these callbacks ask for in turn is
//! carried out likewise, a bounded number of times. A VM that failed is never called again.

use std::collections::BTreeMap;

use wasmtime::{Instance, Store, StoreLimitsBuilder, Val};

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::filter::Filter;
use crate::host::{Host, PLUGIN_CONTEXT};
use crate::plugin::{Refused, StartOptions};

/// A running module with its streams.
pub(crate) struct Vm {
    pub(crate) store: Store<Host>,
    instance: Instance,
    pub(crate) failure: Option<Failure>,
    pub(crate) exchanges: BTreeMap<u32, Exchange>,
    next_context: u32,
}

impl Vm {
    /// Instantiates and initialises the module: its start section, `_initialize` or `_start`.
    pub(crate) fn new(filter: &Filter, options: StartOptions) -> Result<Self, Refused> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(options.memory_limit)
            .table_elements(MAX_TABLE_ELEMENTS)
            .build();
        let engine = filter.instance.module().engine();
        let mut store = Store::new(engine, Host::new(options, limits));
        store.limiter(|host| &mut host.limits);
        let fuel = store.data().options.fuel_per_callback;
        let instance = store
            .set_fuel(fuel)
            .and_then(|()| filter.instance.instantiate(&mut store));
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                let failure = Failure::new("instantiation", fuel, &error);
                return Err(refused(store.data_mut(), failure));
            }
        };
        let mut vm = Self {
            store,
            instance,
            failure: None,
            exchanges: BTreeMap::new(),
            next_context: PLUGIN_CONTEXT + 1,
        };
        if let Err(failure) = vm.initialise() {
            return Err(refused(vm.host(), failure));
        }
        vm.host().is_ready = true;
        Ok(vm)
    }

    /// Envoy's order: `_initialize`, then `main` in one of its two forms; without the first, `_start`.
    fn initialise(&mut self) -> Result<(), Failure> {
        if self.call(PLUGIN_CONTEXT, "_initialize", &[])?.is_none() {
            self.call(PLUGIN_CONTEXT, "_start", &[])?;
        } else if self.call(PLUGIN_CONTEXT, "main", &[0, 0])?.is_none() {
            self.call(PLUGIN_CONTEXT, "__main_void", &[])?;
        }
        Ok(())
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    pub(crate) fn new_context(&mut self) -> u32 {
        let context = self.next_context;
        self.next_context += 1;
        context
    }

    /// Calls an export in `context`; `None` if there is no such export, 0 if it returns nothing.
    pub(crate) fn call(
        &mut self,
        context: u32,
        name: &str,
        arguments: &[u32],
    ) -> Result<Option<u32>, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(function) = self.instance.get_func(&mut self.store, name) else {
            return Ok(None);
        };
        let host = self.host();
        host.running = context;
        host.effective = context;
        let fuel = host.options.fuel_per_callback;
        let arguments: Vec<Val> = arguments
            .iter()
            .map(|number| Val::I32(number.cast_signed()))
            .collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let called = self
            .store
            .set_fuel(fuel)
            .and_then(|()| function.call(&mut self.store, &arguments, &mut results));
        let left = self.store.get_fuel().unwrap_or(0);
        self.host().record().fuel += fuel.saturating_sub(left);
        if let Err(error) = called {
            let failure = Failure::new(name, fuel, &error);
            self.failure = Some(failure.clone());
            return Err(failure);
        }
        let result = results.first().and_then(Val::i32).unwrap_or(0);
        Ok(Some(result.cast_unsigned()))
    }

    /// Carries out what the last callback asked for.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let interrupted: Vec<u32> = self
                .host()
                .streams
                .iter()
                .filter(|(_, stream)| stream.reply.is_some() || stream.closed)
                .map(|(context, _)| *context)
                .collect();
            let continued = std::mem::take(&mut self.host().continued);
            let done = std::mem::take(&mut self.host().done);
            let queues = std::mem::take(&mut self.host().filled_queues);
            if interrupted.is_empty()
                && continued.is_empty()
                && done.is_empty()
                && queues.is_empty()
            {
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
            for queue in queues {
                self.announce(queue);
            }
        }
        self.failure.get_or_insert(Failure::EndlessLoop {
            callback: "the chain of callbacks that cause each other".to_owned(),
            fuel: self.store.data().options.fuel_per_callback,
        });
    }

    /// Ends a context: `on_delete`, after which nothing of it is left.
    pub(crate) fn delete(&mut self, context: u32) {
        if self.call(context, "proxy_on_delete", &[context]).is_ok() {
            self.host().streams.remove(&context);
        }
    }

    fn announce(&mut self, queue: u32) {
        let host = self.host();
        let reader = usize::try_from(queue)
            .ok()
            .and_then(|place| host.queues.get(place))
            .map(|queue| queue.reader)
            .filter(|reader| *reader == PLUGIN_CONTEXT || host.streams.contains_key(reader));
        if let Some(reader) = reader
            && let Err(failure) = self.call(reader, "proxy_on_queue_ready", &[reader, queue])
        {
            self.failure = Some(failure);
        }
    }
}

fn refused(host: &mut Host, failure: Failure) -> Refused {
    Refused {
        step: "the module's initialisation",
        logs: host.take_plugin_logs(),
        failure: Some(failure),
    }
}

/// How many times callbacks may cause further callbacks before that counts as an endless loop.
const MAX_ROUNDS: usize = 1000;

/// Far above what any filter's table of functions holds.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;
