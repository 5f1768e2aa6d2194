//! Writes the access log, without making requests wait for it.
//!
//! A worker puts its lines into a bounded queue, and a separate thread writes them. If the reader of the log is too slow,
//! lines are dropped and counted, because a full pipe must not stop the app. The thread waits 5 ms after the first line, so
//! that many lines share one system call and one wake-up.
//!
//! **Why not the non-blocking writer of `tracing-appender`.** It wakes its thread for each line: at 10 000 lines a second it
//! used 37 µs of CPU time a line where this module used 12 (all threads; 9 against 4 with five lines at a time, and the same
//! when lines come faster than they can be written). It also drops lines without counting them when a write fails, has fixed
//! time limits for its shutdown, and prints errors of the shutdown on standard output, in the middle of the log.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Record;
use super::access_log_format::Format;
use super::redaction::Redaction;

/// The access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    logger: Logger,
    written: Mutex<Receiver<()>>,
}

/// The handle with which a worker queues its lines.
#[derive(Debug, Clone)]
pub(crate) struct Logger {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    format: Format,
    redaction: Arc<Redaction>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    End,
}

impl AccessLog {
    /// Starts the thread that writes the log to `to`.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(crate) fn start(
        to: impl Write + Send + 'static,
        format: Format,
        redaction: Redaction,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let (end, written) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write(&lines, to, &counter);
                // Fails if `end` is no longer waiting.
                let _ = end.send(());
            })?;
        let logger = Logger {
            queue,
            dropped,
            format,
            redaction: Arc::new(redaction),
        };
        Ok(Self {
            logger,
            written: Mutex::new(written),
        })
    }

    /// Returns the logger of a new worker.
    pub(crate) fn logger(&self) -> Logger {
        self.logger.clone()
    }

    /// Returns a logger that writes another format.
    pub(crate) fn logger_with(&self, format: Format, redaction: Redaction) -> Logger {
        Logger {
            format,
            redaction: Arc::new(redaction),
            ..self.logger.clone()
        }
    }

    /// Returns a function that returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = Arc::clone(&self.logger.dropped);
        move || dropped.load(Ordering::Relaxed)
    }

    /// Writes the queued lines, within `limit`, because a reader that has stopped must not keep the process from ending. Lines
    /// that are queued later are dropped.
    pub(crate) fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Err(TrySendError::Full(_)) = self.logger.queue.try_send(Message::End) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(GATHER);
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = written.recv_timeout(remaining);
    }
}

impl Logger {
    /// Queues the line of a request.
    pub(crate) fn write(&self, record: &Record<'_>) {
        let line = self.format.line(record, &self.redaction);
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines until [`Message::End`].
fn write(lines: &Receiver<Message>, mut to: impl Write, dropped: &AtomicU64) {
    let mut batch = Vec::new();
    let mut has_failed = false;
    while let Ok(Message::Line(first)) = lines.recv() {
        thread::sleep(GATHER);
        batch.extend_from_slice(&first);
        let mut count = 1;
        let mut is_end = false;
        for message in lines.try_iter().take(QUEUE) {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    count += 1;
                }
                Message::End => {
                    is_end = true;
                    break;
                }
            }
        }
        if let Err(error) = to.write_all(&batch).and_then(|()| to.flush()) {
            dropped.fetch_add(count, Ordering::Relaxed);
            if !has_failed {
                tracing::error!(%error, "the access log cannot be written");
            }
            has_failed = true;
        } else {
            has_failed = false;
        }
        batch.clear();
        batch.shrink_to(BATCH_KEPT);
        if is_end {
            return;
        }
    }
}

/// Maximum lines in the queue. A line has a few hundred bytes; a client can make it 42 KiB.
const QUEUE: usize = 1024;

/// The time to wait for further lines. The queue must hold the lines that arrive in that time.
const GATHER: Duration = Duration::from_millis(5);

const BATCH_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, pipe};

    use super::super::tests::typical;
    use super::*;

    fn start(to: impl Write + Send + 'static) -> AccessLog {
        AccessLog::start(to, Format::Text, Redaction::new([])).expect("a thread")
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn every_line_of_every_worker_is_written_before_the_end() {
        let (mut reader, writer) = pipe().expect("a pipe");
        let log = start(writer);
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let logger = log.logger();
                thread::spawn(move || (0..500).for_each(|_| logger.write(&typical())))
            })
            .collect();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        for worker in workers {
            worker.join().expect("no panic");
        }
        let dropped = log.dropped();
        log.end(LONG);
        let text = reading.join().expect("no panic").expect("text");
        assert_eq!(text.lines().count(), 1000);
        assert!(text.lines().all(|line| line.starts_with("time=2026-")));
        assert_eq!(dropped(), 0);
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time() {
        let (reader, writer) = pipe().expect("a pipe");
        let log = start(writer);
        let (logger, dropped) = (log.logger(), log.dropped());
        // A pipe holds 64 KiB; then the queue fills up. A write that waited would never return.
        let mut written = 0;
        while dropped() < 100 {
            logger.write(&typical());
            written += 1;
        }
        drop(logger);
        // All lines that were not dropped can still be read, and are complete.
        let reading = thread::spawn(move || BufReader::new(reader).lines().count());
        log.end(LONG);
        let lines = reading.join().expect("no panic") as u64;
        assert_eq!(lines + dropped(), written);
    }

    #[test]
    fn the_end_waits_no_longer_than_its_limit() {
        let (_reader, writer) = pipe().expect("a pipe");
        let log = start(writer);
        let (logger, dropped) = (log.logger(), log.dropped());
        while dropped() < 1 {
            logger.write(&typical());
        }
        log.end(Duration::from_millis(20));
    }

    #[test]
    fn lines_without_a_reader_are_counted_as_dropped() {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let log = start(writer);
        log.logger().write(&typical());
        let dropped = log.dropped();
        log.end(LONG);
        assert_eq!(dropped(), 1);
    }
}
