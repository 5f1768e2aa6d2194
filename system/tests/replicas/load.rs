//! Sends requests all the time, and records each that fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use fluxlit_system::visitor::Visitor;

use crate::browser::Page;
use crate::fleet::MOUNT;

/// Threads that send requests until [`Load::end`].
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    requests: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What a thread does again and again.
type Task = Box<dyn Fn() -> Result<(), String> + Send>;

impl Load {
    /// Requests the page and the health check with each of these browsers.
    pub(crate) fn of_requests(visitors: Vec<Visitor>) -> Self {
        let tasks = visitors.into_iter().map(|visitor| -> Task {
            Box::new(move || {
                for path in ["/", "/_stcore/health"] {
                    let response = visitor.get(&format!("{MOUNT}{path}"), "");
                    let response = response.map_err(|error| format!("{path}: {error}"))?;
                    if response.status != 200 {
                        return Err(format!("{path}: {response:?}"));
                    }
                }
                Ok(())
            })
        });
        Self::of(tasks.collect())
    }

    /// Opens pages with new browsers, in addition.
    #[must_use]
    pub(crate) fn with_pages(mut self, visitor: Visitor) -> Self {
        let task: Task = Box::new(move || {
            let opened = Page::open(&visitor);
            opened.map(drop).map_err(|error| format!("a page: {error}"))
        });
        self.threads.push(begin(task, &self.shared));
        self
    }

    fn of(tasks: Vec<Task>) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = tasks.into_iter().map(|task| begin(task, &shared)).collect();
        Self { shared, threads }
    }

    /// Returns how often a task was done so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Stops; returns how often a task was done, and each failure.
    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let failures = self.shared.failures.lock();
        let failures = failures.unwrap_or_else(PoisonError::into_inner).clone();
        (self.shared.requests.load(Ordering::Relaxed), failures)
    }
}

fn begin(task: Task, shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        while !shared.ends.load(Ordering::Relaxed) {
            if let Err(failure) = task() {
                let mut failures = shared
                    .failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                failures.push(failure);
            }
            shared.requests.fetch_add(1, Ordering::Relaxed);
        }
    })
}
