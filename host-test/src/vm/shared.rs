//! Holds the state that all VMs of a process share: the clock, the metrics, shared data and shared queues.
//!
//! In Envoy these belong to the process; data and queues are separate for each `vm_id`. Each VM has a [`Shared`] handle to
//! them. The VMs themselves are listed in `crate::process`, which also delivers the notifications that queues produce.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::options::Clock;
use crate::abi::Status;

/// A metric and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// The kind of the metric.
    pub kind: MetricKind,
    /// The count of a counter, the level of a gauge, the last sample of a histogram.
    pub value: u64,
}

/// The kind of a metric (`proxy_metric_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A count that only grows.
    Counter,
    /// A level that rises and falls.
    Gauge,
    /// A distribution of samples.
    Histogram,
}

/// A handle to the state that the VMs of a process share. Clones refer to the same state.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<SharedState>>);

pub(crate) struct SharedState {
    clock: Clock,
    now: u64,
    metrics: Vec<(String, Metric)>,
    shared_data: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    queues: Vec<Queue>,
    notifications: Vec<QueueReady>,
}

/// A context of a VM that has registered a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueReader {
    /// The VM's number in the process.
    pub(crate) vm: usize,
    pub(crate) context: u32,
}

/// A pending call of `proxy_on_queue_ready`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueReady {
    pub(crate) reader: QueueReader,
    pub(crate) queue: u32,
}

struct Queue {
    vm_id: String,
    name: Vec<u8>,
    items: VecDeque<Vec<u8>>,
    /// The context that registered the queue last, if any.
    reader: Option<QueueReader>,
}

impl Shared {
    pub(crate) fn new(clock: Clock) -> Self {
        let now = match clock {
            Clock::Virtual { start } => start,
            Clock::System => 0,
        };
        Self(Arc::new(Mutex::new(SharedState {
            clock,
            now,
            metrics: Vec::new(),
            shared_data: BTreeMap::new(),
            queues: Vec::new(),
            notifications: Vec::new(),
        })))
    }

    /// Locks the state. The lock is never held while a VM runs or is locked; a poisoned lock is ignored because the state
    /// is consistent between any two statements that can panic.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedState {
    /// Returns nanoseconds since the Unix epoch.
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

    /// Moves a virtual clock to `time`, in nanoseconds since the epoch, without running anything. The clock never goes back,
    /// because a callback may have slept for longer.
    pub(crate) fn sleep_until(&mut self, time: u64) {
        self.now = self.now.max(time);
    }

    /// Returns all metrics by name.
    pub(crate) fn metrics(&self) -> BTreeMap<String, Metric> {
        self.metrics.iter().cloned().collect()
    }

    /// Returns the index of a metric, which is created if it does not exist.
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

    pub(crate) fn metric(&mut self, index: usize) -> Option<&mut Metric> {
        self.metrics.get_mut(index).map(|(_, metric)| metric)
    }

    /// Returns a value and its version.
    pub(crate) fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        let key = (vm_id.to_owned(), key.to_vec());
        self.shared_data.get(&key).cloned()
    }

    /// Sets a value if its version is `expected`. Version 0 sets it unconditionally; a new key accepts any version.
    pub(crate) fn set_shared_data(
        &mut self,
        vm_id: &str,
        key: &[u8],
        value: Vec<u8>,
        expected: u32,
    ) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_vec());
        let known = self.shared_data.get(&key).map(|(_, version)| *version);
        if let Some(version) = known
            && expected != 0
            && expected != version
        {
            return Err(Status::CasMismatch);
        }
        // Skip 0 on overflow, because the next caller would pass it as "unconditionally".
        let version = known.unwrap_or(0).checked_add(1).unwrap_or(1);
        self.shared_data.insert(key, (value, version));
        Ok(())
    }

    /// Opens a queue if it does not exist, and makes `reader` its reader.
    pub(crate) fn register_queue(
        &mut self,
        vm_id: &str,
        name: &[u8],
        reader: QueueReader,
    ) -> Option<u32> {
        let id = self.open_queue(vm_id, name)?;
        self.queue(id)?.reader = Some(reader);
        Some(id)
    }

    /// Returns the id of a queue, which is created without a reader if it does not exist.
    pub(crate) fn open_queue(&mut self, vm_id: &str, name: &[u8]) -> Option<u32> {
        if let Some(id) = self.resolve_queue(vm_id, name) {
            return Some(id);
        }
        self.queues.push(Queue {
            vm_id: vm_id.to_owned(),
            name: name.to_vec(),
            items: VecDeque::new(),
            reader: None,
        });
        u32::try_from(self.queues.len()).ok()
    }

    pub(crate) fn resolve_queue(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let index = self
            .queues
            .iter()
            .position(|queue| queue.vm_id == vm_id && queue.name == name)?;
        u32::try_from(index + 1).ok()
    }

    pub(crate) fn enqueue(&mut self, id: u32, item: Vec<u8>) -> Result<(), Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        if let Some(reader) = queue.reader {
            self.notifications.push(QueueReady { reader, queue: id });
        }
        Ok(())
    }

    pub(crate) fn dequeue(&mut self, id: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queue(id).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    /// Returns the messages in a queue, oldest first.
    pub(crate) fn messages(&self, id: u32) -> Option<Vec<Vec<u8>>> {
        let queue = self.queues.get(queue_index(id)?)?;
        Some(queue.items.iter().cloned().collect())
    }

    /// Takes the pending notifications of queue readers.
    pub(crate) fn take_notifications(&mut self) -> Vec<QueueReady> {
        std::mem::take(&mut self.notifications)
    }

    fn queue(&mut self, id: u32) -> Option<&mut Queue> {
        self.queues.get_mut(queue_index(id)?)
    }
}

/// Ids begin at 1, as in Envoy.
fn queue_index(id: u32) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}
