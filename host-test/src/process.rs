//! Runs several VMs in one process with a common clock, as the workers of one Envoy process.
//!
//! VMs started in the same [`Process`] share metrics, data and queues, whether they run plugins of one worker or the same
//! plugin on several workers. Time stands still until [`Process::advance`], which runs ticks, call-out responses and
//! timeouts in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::vm::Vm;
use crate::vm::dispatch::LINK_FUEL;
use crate::vm::options::Clock;
use crate::vm::shared::{Metric, Shared, SharedState};

/// A proxy process. Clones refer to the same process.
#[derive(Clone)]
pub struct Process {
    shared: Shared,
    /// Indexed by the VMs' numbers. The reference to a VM that is being started, or was dropped, is empty.
    vms: Arc<Mutex<Vec<Weak<Mutex<Vm>>>>>,
}

impl Process {
    /// Creates a process without VMs.
    pub fn new(clock: Clock) -> Self {
        Self {
            shared: Shared::new(clock),
            vms: Arc::default(),
        }
    }

    /// Returns nanoseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.state().now()
    }

    /// Advances a virtual clock. Everything that becomes due in that time runs in order, each at its own time.
    pub fn advance(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let end = self.now().saturating_add(nanoseconds);
        while let Some(due) = self.next_due()
            && due <= end
        {
            self.state().sleep_until(due);
            self.run_due();
        }
        self.state().sleep_until(end);
    }

    /// Advances a virtual clock to the next tick, response or timeout and runs it. Returns false if none becomes due within
    /// `limit`.
    pub fn advance_to_next(&self, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let now = self.now();
        match self.next_due() {
            Some(due) if due <= now.saturating_add(limit) => {
                self.state().sleep_until(due);
                self.run_due();
                true
            }
            _ => false,
        }
    }

    /// Runs everything that is due by now. Only needed with the machine's clock.
    pub fn run_due(&self) {
        for vm in self.running_vms() {
            lock(&vm).run_due();
        }
        self.deliver();
    }

    /// Returns true if a plugin has requested ticks.
    pub fn has_ticks(&self) -> bool {
        self.running_vms().iter().any(|vm| lock(vm).has_ticks())
    }

    /// Returns the metrics of all VMs by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.state().metrics()
    }

    /// Returns a value of the data that VMs of `vm_id` share.
    pub fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (value, _) = self.state().shared_data(vm_id, key)?;
        Some(value)
    }

    /// Sets a value of the data that VMs of `vm_id` share, as another VM would.
    pub fn set_shared_data(&self, vm_id: &str, key: &[u8], value: &[u8]) {
        // Version 0 sets the value unconditionally.
        let _ = self.state().set_shared_data(vm_id, key, value.to_vec(), 0);
    }

    /// Puts a message into a shared queue, as another VM would, and notifies its reader. Creates the queue if it does not
    /// exist.
    pub fn enqueue(&self, vm_id: &str, name: &[u8], message: &[u8]) {
        let mut state = self.state();
        if let Some(id) = state.open_queue(vm_id, name) {
            // A queue that was just opened accepts every message.
            let _ = state.enqueue(id, message.to_vec());
        }
        drop(state);
        self.deliver();
    }

    /// Returns the messages in a shared queue, oldest first; `None` if there is no such queue.
    pub fn queue(&self, vm_id: &str, name: &[u8]) -> Option<Vec<Vec<u8>>> {
        let state = self.state();
        state.messages(state.resolve_queue(vm_id, name)?)
    }

    /// Returns the handle that the VMs of this process share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Reserves a number for a VM that is about to start.
    pub(crate) fn reserve_vm(&self) -> usize {
        let mut vms = self.vms();
        vms.push(Weak::new());
        vms.len() - 1
    }

    /// Registers a VM under its reserved number.
    pub(crate) fn add_vm(&self, vm: &Arc<Mutex<Vm>>, number: usize) {
        if let Some(entry) = self.vms().get_mut(number) {
            *entry = Arc::downgrade(vm);
        }
    }

    /// Notifies the readers of queues that received messages, in all VMs, until no notification is pending. Notifications that
    /// cause each other are a chain, see `vm::dispatch`: it ends when it has used its fuel.
    pub(crate) fn deliver(&self) {
        let mut used: u64 = 0;
        for round in 0_u64.. {
            let notifications = self.state().take_notifications();
            if notifications.is_empty() {
                return;
            }
            for notification in notifications {
                let reader = notification.reader;
                let Some(vm) = self.vms().get(reader.vm).and_then(Weak::upgrade) else {
                    continue;
                };
                let mut vm = lock(&vm);
                let fuel = vm.notify_queue_ready(reader.context, notification.queue);
                // Only notifications that another one caused belong to the chain.
                if round > 0 {
                    used = used.saturating_add(fuel).saturating_add(LINK_FUEL);
                }
                if used > vm.chain_fuel() {
                    vm.fail_endless_queue();
                    return;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, SharedState> {
        self.shared.lock()
    }

    fn vms(&self) -> MutexGuard<'_, Vec<Weak<Mutex<Vm>>>> {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_vms(&self) -> Vec<Arc<Mutex<Vm>>> {
        self.vms().iter().filter_map(Weak::upgrade).collect()
    }

    fn next_due(&self) -> Option<u64> {
        self.running_vms()
            .iter()
            .filter_map(|vm| lock(vm).next_due())
            .min()
    }
}

/// Locks a VM. A poisoned lock is ignored: a panic in another thread leaves the VM between two callbacks at worst.
pub(crate) fn lock(vm: &Mutex<Vm>) -> MutexGuard<'_, Vm> {
    vm.lock().unwrap_or_else(PoisonError::into_inner)
}
