//! What do several VMs share?
//!
//! In Envoy everything of one process: the clock, the metrics, shared data and queues by `vm_id`. A [`Process`] holds
//! them; VMs started in the same one meet there, whether they play plugins of one worker or the same plugin of several
//! workers. Time stands still until [`Process::advance`], which runs ticks, answers and time-outs in their order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::abi::Status;
use crate::plugin::{Clock, Plugin, Refused, StartOptions};
use crate::vm::Vm;
use crate::vm::filter::Filter;

/// One proxy process. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    state: Arc<Mutex<State>>,
}

/// A metric and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What it counts.
    pub kind: MetricKind,
    /// The count of a counter, the level of a gauge, the last sample of a histogram.
    pub value: u64,
}

/// What a metric counts (`proxy_metric_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Takes samples.
    Histogram,
}

pub(crate) struct State {
    clock: Clock,
    now: u64,
    metrics: Vec<(String, Metric)>,
    shared_data: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    queues: Vec<Queue>,
    /// Readers to be told that a queue filled: VM, context, queue.
    notices: Vec<(usize, u32, u32)>,
    vms: Vec<Weak<Mutex<Vm>>>,
}

struct Queue {
    vm_id: String,
    name: Vec<u8>,
    items: VecDeque<Vec<u8>>,
    /// VM and context that registered last, if one has.
    reader: Option<(usize, u32)>,
}

impl Process {
    /// A process in which nothing runs yet.
    pub fn new(clock: Clock) -> Self {
        let now = match clock {
            Clock::Virtual { start } => start,
            Clock::System => 0,
        };
        Self {
            state: Arc::new(Mutex::new(State {
                clock,
                now,
                metrics: Vec::new(),
                shared_data: BTreeMap::new(),
                queues: Vec::new(),
                notices: Vec::new(),
                vms: Vec::new(),
            })),
        }
    }

    /// Starts a VM with one plugin in this process. The process has the clock; that of `options` is not used.
    ///
    /// # Errors
    ///
    /// As [`Filter::start`].
    pub fn start(&self, filter: &Filter, options: StartOptions) -> Result<Plugin, Refused> {
        Plugin::start(filter, options, self.clone())
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.state().now()
    }

    /// Moves a virtual clock on. What falls due on the way happens in its order, each at its own time.
    pub fn advance(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let end = self.now().saturating_add(nanoseconds);
        while let Some(due) = self.next_due()
            && due <= end
        {
            self.sleep_until(due);
            self.run_due();
        }
        self.sleep_until(end);
    }

    /// Moves a virtual clock on to `time`, in nanoseconds since the epoch; nothing happens on the way. It never goes back:
    /// a callback may have slept for longer.
    pub(crate) fn sleep_until(&self, time: u64) {
        let mut state = self.state();
        state.now = state.now.max(time);
    }

    /// Moves a virtual clock to the next tick, answer or time-out and lets it happen; false if none is to come before
    /// `limit` has passed.
    pub fn advance_to_next(&self, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let now = self.now();
        match self.next_due() {
            Some(due) if due <= now.saturating_add(limit) => {
                self.sleep_until(due);
                self.run_due();
                true
            }
            _ => false,
        }
    }

    /// Lets everything happen that is due by now. Only a process with the machine's clock needs it.
    pub fn run_due(&self) {
        for vm in self.vms() {
            lock(&vm).run_due();
        }
        self.deliver();
    }

    /// Whether a plugin has asked for ticks.
    pub fn has_ticks(&self) -> bool {
        self.vms().iter().any(|vm| lock(vm).has_ticks())
    }

    /// The metrics of all VMs by name.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.state().metrics.iter().cloned().collect()
    }

    /// A value of the data that VMs of `vm_id` share.
    pub fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (value, _) = self.state().shared_data(vm_id, key)?;
        Some(value)
    }

    /// Sets a value of the data that VMs of `vm_id` share, as another VM would.
    pub fn set_shared_data(&self, vm_id: &str, key: &[u8], value: &[u8]) {
        // Version 0 sets whatever is there.
        let _ = self.state().set_shared_data(vm_id, key, value.to_vec(), 0);
    }

    /// Puts a message into a shared queue, as another VM would, and tells its reader; opens the queue if nobody has.
    pub fn enqueue(&self, vm_id: &str, name: &[u8], message: &[u8]) {
        let mut state = self.state();
        let id = state
            .resolve_queue(vm_id, name)
            .or_else(|| state.open_queue(vm_id, name));
        if let Some(id) = id {
            // A queue that was just found or opened takes it.
            let _ = state.enqueue(id, message.to_vec());
        }
        drop(state);
        self.deliver();
    }

    /// The messages that are in a shared queue, the first one to be taken first; `None` if there is no such queue.
    pub fn queue(&self, vm_id: &str, name: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut state = self.state();
        let id = state.resolve_queue(vm_id, name)?;
        let messages = &state.queue(id)?.items;
        Some(messages.iter().cloned().collect())
    }

    /// The state. It is never held while a VM runs or is locked; a panic of another thread left it whole.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_vm(&self, vm: &Arc<Mutex<Vm>>, number: usize) {
        if let Some(place) = self.state().vms.get_mut(number) {
            *place = Arc::downgrade(vm);
        }
    }

    /// Tells readers in all VMs of queues that filled, until nobody fills another.
    pub(crate) fn deliver(&self) {
        for _ in 0..MAX_ROUNDS {
            let notices = std::mem::take(&mut self.state().notices);
            if notices.is_empty() {
                return;
            }
            for (number, context, queue) in notices {
                let vm = self.state().vms.get(number).and_then(Weak::upgrade);
                if let Some(vm) = vm {
                    lock(&vm).announce(context, queue);
                }
            }
        }
    }

    fn vms(&self) -> Vec<Arc<Mutex<Vm>>> {
        self.state().vms.iter().filter_map(Weak::upgrade).collect()
    }

    fn next_due(&self) -> Option<u64> {
        self.vms().iter().filter_map(|vm| lock(vm).next_due()).min()
    }
}

impl State {
    pub(crate) fn now(&self) -> u64 {
        match self.clock {
            Clock::Virtual { .. } => self.now,
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|time| u64::try_from(time.as_nanos()).ok())
                .unwrap_or(0),
        }
    }

    /// A number for a VM that is about to start.
    pub(crate) fn reserve_vm(&mut self) -> usize {
        self.vms.push(Weak::new());
        self.vms.len() - 1
    }

    /// The place of a metric, which is made if it is not there.
    pub(crate) fn define_metric(&mut self, name: &str, kind: MetricKind) -> usize {
        let known = self
            .metrics
            .iter()
            .position(|(other, metric)| other == name && metric.kind == kind);
        known.unwrap_or_else(|| {
            let metric = Metric { kind, value: 0 };
            self.metrics.push((name.to_owned(), metric));
            self.metrics.len() - 1
        })
    }

    pub(crate) fn metric(&mut self, place: usize) -> Option<&mut Metric> {
        self.metrics.get_mut(place).map(|(_, metric)| metric)
    }

    pub(crate) fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        let key = (vm_id.to_owned(), key.to_vec());
        self.shared_data.get(&key).cloned()
    }

    /// Version 0 sets whatever is there; a new key takes any version.
    pub(crate) fn set_shared_data(
        &mut self,
        vm_id: &str,
        key: &[u8],
        value: Vec<u8>,
        wanted: u32,
    ) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_vec());
        let known = self.shared_data.get(&key).map(|(_, version)| *version);
        if let Some(version) = known
            && wanted != 0
            && wanted != version
        {
            return Err(Status::CasMismatch);
        }
        // 0 would mean "whatever is there" to the next caller.
        let version = known.unwrap_or(0).checked_add(1).unwrap_or(1);
        self.shared_data.insert(key, (value, version));
        Ok(())
    }

    /// Opens a queue, and moves its reader to the one who asks.
    pub(crate) fn register_queue(
        &mut self,
        vm_id: &str,
        name: &[u8],
        reader: (usize, u32),
    ) -> Option<u32> {
        if let Some(id) = self.resolve_queue(vm_id, name) {
            self.queue(id)?.reader = Some(reader);
            return Some(id);
        }
        let id = self.open_queue(vm_id, name)?;
        self.queue(id)?.reader = Some(reader);
        Some(id)
    }

    /// Opens a queue that nobody reads yet.
    fn open_queue(&mut self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.queues.push(Queue {
            vm_id: vm_id.to_owned(),
            name: name.to_vec(),
            items: VecDeque::new(),
            reader: None,
        });
        u32::try_from(self.queues.len()).ok()
    }

    pub(crate) fn resolve_queue(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let place = self
            .queues
            .iter()
            .position(|queue| queue.vm_id == vm_id && queue.name == name)?;
        u32::try_from(place + 1).ok()
    }

    pub(crate) fn enqueue(&mut self, id: u32, item: Vec<u8>) -> Result<(), Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        if let Some((vm, context)) = queue.reader {
            self.notices.push((vm, context, id));
        }
        Ok(())
    }

    pub(crate) fn dequeue(&mut self, id: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    /// Ids begin at 1, as in Envoy.
    fn queue(&mut self, id: u32) -> Option<&mut Queue> {
        let place = usize::try_from(id).ok()?.checked_sub(1)?;
        self.queues.get_mut(place)
    }
}

/// A VM. A panic of another thread left it between two callbacks at worst, so it can still be used.
pub(crate) fn lock(vm: &Mutex<Vm>) -> MutexGuard<'_, Vm> {
    vm.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many times queues may fill each other before that counts as enough.
const MAX_ROUNDS: usize = 1000;
