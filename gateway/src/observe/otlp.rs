//! Exports spans to a collector, without making requests wait for it.
//!
//! A worker puts its spans into a bounded queue, and a separate thread sends them every second or every 512 spans. Spans
//! that the collector does not accept are dropped and counted; a warning is logged once, until it accepts spans again.
//!
//! **Why not `opentelemetry-otlp`.** We wrote exporter, collector and span with its SDK, over the same HTTP client: half the
//! lines (260 instead of 520), but 22 further crates (157 instead of 135; `rand`, `getrandom` and `base64` in two versions
//! each) and a binary that is 350 KB (4 %) larger. Its batch processor counts the spans that it drops without showing the count, which
//! `fluxlit_gateway_dropped_spans` exports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::Record;
use super::collector::Collector;
use super::endpoint::Endpoint;
use super::redaction::Redaction;
use super::span::Span;

/// Sends spans to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Spans,
    stop: Arc<Notify>,
    stopped: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// The handle with which a worker exports its spans.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
    redaction: Arc<Redaction>,
}

impl Exporter {
    /// Starts the thread that exports.
    ///
    /// # Errors
    ///
    /// If the thread or its runtime cannot be started, or TLS cannot be set up.
    pub(crate) fn start(
        endpoint: Endpoint,
        service_name: String,
        redaction: Redaction,
    ) -> std::io::Result<Self> {
        let (queue, spans) = mpsc::channel(QUEUE);
        let stop = Arc::new(Notify::new());
        let (end, stopped) = std::sync::mpsc::sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let collector = Collector::new(endpoint, service_name)?;
        let counter = Arc::clone(&dropped);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stopping = Arc::clone(&stop);
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                runtime.block_on(export(spans, &stopping, &collector, &counter));
                // Fails if `end` is no longer waiting.
                let _ = end.send(());
            })?;
        let spans = Spans {
            queue,
            dropped,
            redaction: Arc::new(redaction),
        };
        Ok(Self {
            spans,
            stop,
            stopped: Mutex::new(stopped),
        })
    }

    /// Returns the handle of a new worker.
    pub(crate) fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// Returns a function that returns the number of dropped spans.
    pub(crate) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = Arc::clone(&self.spans.dropped);
        move || dropped.load(Ordering::Relaxed)
    }

    /// Sends the queued spans, within `limit`. Spans that are exported later are dropped.
    pub(crate) fn end(&self, limit: Duration) {
        self.stop.notify_one();
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stopped.recv_timeout(limit);
    }
}

impl Spans {
    /// Queues the span of a request if its trace is sampled.
    pub(crate) fn export(&self, record: &Record<'_>) {
        let Some(span) = Span::of(record, &self.redaction) else {
            return;
        };
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn export(
    mut queue: mpsc::Receiver<Span>,
    stop: &Notify,
    collector: &Collector,
    dropped: &AtomicU64,
) {
    let mut batch = Vec::new();
    let mut has_failed = false;
    loop {
        let is_end = tokio::select! {
            () = stop.notified() => true,
            has_more = gather(&mut queue, &mut batch) => !has_more,
        };
        if is_end {
            // Spans that are exported from now on are counted as dropped.
            queue.close();
        }
        loop {
            while batch.len() < BATCH
                && let Ok(span) = queue.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                break;
            }
            let result = collector.send(&batch).await;
            if let Err(error) = &result {
                dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !has_failed {
                    let error: &dyn std::error::Error = error;
                    tracing::warn!(
                        error,
                        "spans are dropped because the collector does not accept them"
                    );
                }
            }
            has_failed = result.is_err();
            batch.clear();
            if !is_end {
                break;
            }
        }
        if is_end {
            return;
        }
    }
}

/// Waits for a batch; returns false if all senders are gone. The queue is polled, so that a span does not cost a wake-up.
async fn gather(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    let Some(span) = queue.recv().await else {
        return false;
    };
    batch.push(span);
    let deadline = Instant::now() + PERIOD;
    while batch.len() + queue.len() < BATCH && Instant::now() < deadline {
        sleep(TICK).await;
    }
    true
}

/// Maximum spans in a batch.
const BATCH: usize = 512;

/// Maximum spans in the queue; a span has a few kilobytes at most.
const QUEUE: usize = 8 * BATCH;

const PERIOD: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use serde_json::Value;

    use super::super::tests::typical;
    use super::super::trace::Trace;
    use super::*;

    /// Starts a collector that responds with one status per connection, and returns the requests.
    fn collector(statuses: &'static [u16]) -> (Endpoint, JoinHandle<Vec<(String, Value)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let receive = move |status: &u16| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let from = head.len();
                assert!(reader.read_line(&mut head).expect("a line") > 0, "{head}");
                if let Some(value) = head[from..].strip_prefix("content-length: ") {
                    length = value.trim().parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}"
            )
            .expect("a response");
            (head, serde_json::from_slice(&body).expect("JSON"))
        };
        let received = thread::spawn(move || statuses.iter().map(receive).collect());
        let endpoint = Endpoint::read(&format!("http://{address}/collect/"));
        (endpoint.expect("a URL"), received)
    }

    fn start(endpoint: Endpoint) -> Exporter {
        Exporter::start(endpoint, "my-app".to_owned(), Redaction::new([])).expect("a thread")
    }

    fn export_spans(spans: &Spans, count: usize) {
        let trace = Trace::start(|| 7);
        for _ in 0..count {
            spans.export(&Record {
                trace: Some(&trace),
                ..typical()
            });
        }
    }

    fn span_counts(received: &[(String, Value)]) -> Vec<usize> {
        let spans = |body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
        let count = |(_, body): &(String, Value)| spans(body).as_array().map_or(0, Vec::len);
        received.iter().map(count).collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn spans_are_posted_as_json() {
        let (endpoint, received) = collector(&[200]);
        let authority = endpoint.authority.clone();
        let exporter = start(endpoint);
        export_spans(&exporter.spans(), 3);
        let dropped = exporter.dropped();
        exporter.end(LONG);
        let received = received.join().expect("no panic");
        let (head, body) = &received[0];
        assert!(
            head.starts_with("POST /collect/v1/traces HTTP/1.1\r\n"),
            "{head}"
        );
        for line in [
            &format!("host: {authority}"),
            "content-type: application/json",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        let resource = &body["resourceSpans"][0]["resource"]["attributes"][0];
        assert_eq!(resource["value"]["stringValue"], "my-app");
        assert_eq!(span_counts(&received), [3]);
        assert_eq!(dropped(), 0);
    }

    #[test]
    fn a_full_batch_is_sent_at_once_and_others_after_a_second() {
        let (endpoint, received) = collector(&[200, 200]);
        let exporter = start(endpoint);
        export_spans(&exporter.spans(), BATCH);
        export_spans(&exporter.spans(), 1);
        // The second batch is sent after a second.
        assert_eq!(span_counts(&received.join().expect("no panic")), [BATCH, 1]);
        exporter.end(LONG);
    }

    #[test]
    fn a_batch_is_sent_twice_if_the_status_is_retryable() {
        // The statuses, and how many of the two spans are dropped.
        let table: [(&[u16], u64); 4] = [
            (&[503, 200], 0),
            (&[429, 202], 0),
            (&[503, 503], 2),
            (&[400], 2),
        ];
        for (statuses, expected) in table {
            let (endpoint, received) = collector(statuses);
            let exporter = start(endpoint);
            export_spans(&exporter.spans(), 2);
            let dropped = exporter.dropped();
            exporter.end(LONG);
            assert_eq!(dropped(), expected, "{statuses:?}");
            let received = received.join().expect("no panic");
            assert!(span_counts(&received).iter().all(|count| *count == 2));
        }
    }

    #[test]
    fn a_collector_that_does_not_respond_costs_spans_and_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // The kernel accepts connections, and nothing is ever read.
        let exporter = start(Endpoint::read(&format!("http://{address}")).expect("a URL"));
        let (spans, dropped) = (exporter.spans(), exporter.dropped());
        // An export that waited for the collector would never return.
        while dropped() < 10 {
            export_spans(&spans, 100);
        }
        exporter.end(Duration::from_millis(20));
    }
}
