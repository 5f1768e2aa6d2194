//! Starts, runs and stops a plugin.
//!
//! In Envoy's order: initialization, `on_context_create`, `on_vm_start`, `on_configure`; ticks while it runs; `on_done`
//! and `on_delete` at its end. Envoy starts a plugin once for each worker and twice more, so a filter must tolerate being
//! started several times, see [`Filter::start_as_envoy`]. Several plugins may share a VM, as those with equal code, `vm_id`
//! and VM configuration do in Envoy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::event::LogLine;
use crate::process::{Process, lock};
use crate::vm::Vm;
use crate::vm::call_out::{CallOut, CallResponse};
use crate::vm::failure::{Failure, StartError};
use crate::vm::filter::Filter;
use crate::vm::options::StartOptions;
use crate::vm::shared::Metric;

/// A configured plugin in its VM. Clones refer to the same plugin.
#[derive(Clone)]
pub struct Plugin {
    vm: Arc<Mutex<Vm>>,
    /// Its index among the plugins of the VM. The context changes when the VM is reloaded, the index does not.
    index: usize,
    process: Process,
}

impl Filter {
    /// Starts a VM with one plugin in a new process: initialization, `on_context_create`, `on_vm_start`, `on_configure`.
    ///
    /// # Errors
    ///
    /// If the module returned false or trapped; Envoy would not start.
    pub fn start(&self, options: StartOptions) -> Result<Plugin, StartError> {
        Process::new(options.clock).start(self, options)
    }

    /// Starts a plugin as Envoy does with concurrency `workers`: in a base VM, on the main thread, and on each worker, all
    /// in one process. Returns the workers' plugins. A counter incremented at the start is incremented `workers` + 2 times.
    ///
    /// # Errors
    ///
    /// As [`Self::start`], for the first plugin that does not start.
    pub fn start_as_envoy(
        &self,
        options: &StartOptions,
        workers: usize,
    ) -> Result<Vec<Plugin>, StartError> {
        let process = Process::new(options.clock);
        let mut plugins = (0..workers.saturating_add(2))
            .map(|_| process.start(self, options.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(plugins.split_off(2))
    }
}

impl Process {
    /// Starts a VM with one plugin in this process. The clock is that of the process; `options.clock` is ignored.
    ///
    /// # Errors
    ///
    /// As [`Filter::start`].
    pub fn start(&self, filter: &Filter, options: StartOptions) -> Result<Plugin, StartError> {
        let number = self.reserve_vm();
        let vm = Vm::start(filter, options, self.shared(), number)?;
        let vm = Arc::new(Mutex::new(vm));
        self.add_vm(&vm, number);
        self.deliver();
        Ok(Plugin {
            vm,
            index: 0,
            process: self.clone(),
        })
    }
}

impl Plugin {
    /// Starts another plugin in the same VM, with its own context and configuration. Whether `on_vm_start` is called again
    /// depends on the rule `vm-start` of the profile; in Envoy it is. Options that belong to the VM are ignored.
    ///
    /// # Errors
    ///
    /// As [`Filter::start`].
    pub fn start_in_same_vm(&self, options: StartOptions) -> Result<Self, StartError> {
        let index = self.vm().add_plugin(options)?;
        self.process.deliver();
        Ok(Self {
            vm: Arc::clone(&self.vm),
            index,
            process: self.process.clone(),
        })
    }

    /// Calls the plugin as an extension of the proxy would: `proxy_on_foreign_function` with a number that both know and
    /// arguments that the plugin reads from buffer 8.
    pub fn call_foreign(&self, function: u32, arguments: &[u8]) {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.index);
        vm.call_foreign(context, function, arguments.to_vec());
        drop(vm);
        self.process.deliver();
    }

    /// Returns the process of the VM.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Advances the process's virtual clock and runs all ticks, responses and timeouts that become due in that time.
    pub fn advance(&self, duration: Duration) {
        self.process.advance(duration);
    }

    /// Returns the call-outs that have not ended.
    pub fn open_calls(&self) -> Vec<CallOut> {
        self.vm().host().calls.open_calls().cloned().collect()
    }

    /// Responds to a call-out. Returns false if there is no such call.
    pub fn respond(&self, call: u32, response: &CallResponse) -> bool {
        let mut vm = self.vm();
        let host = vm.host();
        let (now, profile) = (host.now(), host.options.profile);
        let is_known = host.calls.respond(call, response, now, profile);
        vm.run_due();
        drop(vm);
        self.process.deliver();
        is_known
    }

    /// Returns the lines that the plugin's own context logged: at the start, in ticks, for queues and call-outs, but not in
    /// streams. They are kept until [`Plugin::take_logs`] is called.
    pub fn logs(&self) -> Vec<LogLine> {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.index);
        let record = vm.host().records.get(&context);
        record.map_or_else(Vec::new, |record| record.logs.clone())
    }

    /// Takes the lines of [`Plugin::logs`], and drops everything else that the host has recorded for the plugin's own
    /// context. A plugin that runs for a long time needs this, because nothing else limits the record.
    pub fn take_logs(&self) -> Vec<LogLine> {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.index);
        vm.host().take_logs(context)
    }

    /// Returns the metrics of the process by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.process.metrics()
    }

    /// Returns the failure of the VM, unless the VM was reloaded after it.
    pub fn failure(&self) -> Option<Failure> {
        self.vm().failure.clone()
    }

    /// Returns the size of the module's memory in bytes.
    pub fn memory(&self) -> usize {
        self.vm().memory()
    }

    /// Returns the number of stream contexts in the VM, including finished streams that wait for `proxy_done`.
    pub fn contexts(&self) -> usize {
        self.vm().host().streams.len()
    }

    /// Stops the plugin: calls `on_done`, then `on_delete` unless the plugin asks the host to wait.
    ///
    /// # Errors
    ///
    /// If the VM fails or has failed before.
    pub fn stop(self) -> Result<(), Failure> {
        let mut vm = self.vm();
        let context = vm.plugin_context(self.index);
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

    pub(crate) fn index(&self) -> usize {
        self.index
    }
}
