//! Tells on standard error how far a command is that takes longer than two seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Work that is under way. It ends when this is dropped.
pub(crate) struct Progress {
    done: Arc<AtomicUsize>,
    /// Dropped at the end, which the thread waits for.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins work that cannot be counted, such as `compiling the module`.
    pub(crate) fn start(work: &str) -> Self {
        Self::start_with(work, None)
    }

    /// Begins work that consists of this many parts, such as `running cases`.
    pub(crate) fn start_counted(work: &str, total: usize) -> Self {
        Self::start_with(work, Some(total))
    }

    /// Counts a part that has ended.
    pub(crate) fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn start_with(work: &str, total: Option<usize>) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let (end, has_ended) = channel();
        let (work, counted) = (work.to_owned(), Arc::clone(&done));
        let started = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut interval = FIRST_MESSAGE;
            while has_ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let of = total.map(|total| (counted.load(Ordering::Relaxed), total));
                eprintln!("{}", message(&work, of, started.elapsed()));
                interval = NEXT_MESSAGE;
            }
        });
        Self {
            done,
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It cannot have failed: it only prints.
            let _ = thread.join();
        }
    }
}

fn message(work: &str, of: Option<(usize, usize)>, passed: Duration) -> String {
    let seconds = passed.as_secs();
    match of {
        Some((done, total)) => format!("{work}: {done} of {total}, {seconds} s so far …"),
        None => format!("{work}: {seconds} s so far …"),
    }
}

/// When a command first tells how far it is.
const FIRST_MESSAGE: Duration = Duration::from_secs(2);

/// How long it waits before it tells that again.
const NEXT_MESSAGE: Duration = Duration::from_secs(10);
