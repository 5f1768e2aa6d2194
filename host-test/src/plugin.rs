//! How does a plugin start, live and stop?
//!
//! In Envoy's order: initialise, `on_context_create`, `on_vm_start`, `on_configure`; ticks while it lives; `on_done`
//! and `on_delete` at its end. Envoy starts a plugin once a worker and twice more, so a filter must not mind being
//! started often; here each start is one VM.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::Failure;
use crate::filter::Filter;
use crate::host::{LogLine, Metric, PLUGIN_CONTEXT};
use crate::property::Properties;
use crate::stream::Stream;
use crate::vm::Vm;

/// A VM with one configured plugin. Clones are the same plugin.
#[derive(Clone)]
pub struct Plugin {
    vm: Arc<Mutex<Vm>>,
}

/// What a plugin is started with.
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
    /// Envoy's `vm_id`.
    pub vm_id: String,
    /// What time the module sees.
    pub clock: Clock,
    /// Start of the sequence that `random_get` gives.
    pub random_seed: u64,
    /// Fuel for each callback: about one for each instruction, 50 for each host call and one for each byte that it
    /// copies.
    pub fuel_per_callback: u64,
    /// The most memory that the module may have, in bytes.
    pub memory_limit: usize,
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

impl Default for StartOptions {
    /// Empty configurations and names, a clock that stands at 2026-01-01, 100 million units of fuel and 256 MiB.
    fn default() -> Self {
        Self {
            plugin_configuration: Vec::new(),
            vm_configuration: Vec::new(),
            root_id: String::new(),
            plugin_name: String::new(),
            vm_id: String::new(),
            clock: Clock::Virtual {
                start: 1_767_225_600_000_000_000,
            },
            random_seed: 0,
            fuel_per_callback: 100_000_000,
            memory_limit: 256 * 1024 * 1024,
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
    pub(crate) fn start(filter: &Filter, options: StartOptions) -> Result<Self, Refused> {
        let vm_configuration_size = size(&options.vm_configuration);
        let plugin_configuration_size = size(&options.plugin_configuration);
        let mut vm = Vm::new(filter, options)?;
        let steps = [
            ("on_context_create", "proxy_on_context_create", 0),
            ("on_vm_start", "proxy_on_vm_start", vm_configuration_size),
            (
                "on_configure",
                "proxy_on_configure",
                plugin_configuration_size,
            ),
        ];
        for (step, callback, argument) in steps {
            vm.host().is_configuring = step == "on_configure";
            let answer = vm.call(PLUGIN_CONTEXT, callback, &[PLUGIN_CONTEXT, argument]);
            vm.settle();
            let failure = match answer {
                // `on_context_create` returns nothing.
                Ok(Some(0)) if step != "on_context_create" => None,
                Ok(_) => continue,
                Err(failure) => Some(failure),
            };
            return Err(Refused {
                step,
                logs: vm.host().take_plugin_logs(),
                failure,
            });
        }
        vm.host().is_configuring = false;
        Ok(Self {
            vm: Arc::new(Mutex::new(vm)),
        })
    }

    /// Opens a stream: `on_context_create`. Streams of one plugin may overlap.
    pub fn stream(&self, properties: Properties) -> Stream {
        Stream::open(self.clone(), properties)
    }

    /// Moves a virtual clock on, and ticks as often as the period that the module asked for has passed.
    pub fn advance(&self, duration: Duration) {
        let mut vm = self.vm();
        let host = vm.host();
        let end = host
            .clock
            .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let host = vm.host();
            let period = u64::from(host.tick_period) * 1_000_000;
            let next = host.clock.saturating_add(period);
            if period == 0 || next > end || vm.failure.is_some() {
                break;
            }
            vm.host().clock = next;
            // A failure is kept in the VM, and every later stream shows it.
            let _ = vm.call(PLUGIN_CONTEXT, "proxy_on_tick", &[PLUGIN_CONTEXT]);
            vm.settle();
        }
        vm.host().clock = end;
    }

    /// What the plugin itself has logged: at its start, in ticks and for queues, not in streams.
    pub fn logs(&self) -> Vec<LogLine> {
        let mut vm = self.vm();
        let record = vm.host().records.get(&PLUGIN_CONTEXT);
        record.map_or_else(Vec::new, |record| record.logs.clone())
    }

    /// The metrics by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.vm().host().metrics.iter().cloned().collect()
    }

    /// How the VM failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.vm().failure.clone()
    }

    /// Ends the plugin: `on_done`, and `on_delete` unless it asks to wait.
    ///
    /// # Errors
    ///
    /// How the VM failed, now or before.
    pub fn stop(self) -> Result<(), Failure> {
        let mut vm = self.vm();
        if vm.call(PLUGIN_CONTEXT, "proxy_on_done", &[PLUGIN_CONTEXT])? != Some(0) {
            vm.call(PLUGIN_CONTEXT, "proxy_on_delete", &[PLUGIN_CONTEXT])?;
        }
        Ok(())
    }

    /// The VM. A panic of another thread left it between two callbacks at worst, so it can still be used.
    pub(crate) fn vm(&self) -> MutexGuard<'_, Vm> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(configuration: &[u8]) -> u32 {
    u32::try_from(configuration.len()).unwrap_or(u32::MAX)
}
