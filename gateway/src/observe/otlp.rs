//! How do spans reach a collector without a request waiting for it?
//!
//! A worker puts its span into a bounded queue, and a thread of its own hands over what has gathered, every second or
//! every 512 spans. What a collector does not take is dropped and counted, and said once until it takes spans again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use http::Uri;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use super::Record;
use super::collector::Collector;
use super::redaction::Redaction;
use super::span::Span;

/// Sends spans to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Spans,
    stop: Arc<Notify>,
    stopped: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// What a worker exports its spans with.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
    redaction: Arc<Redaction>,
}

/// Where a collector listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(super) authority: String,
    pub(super) path: String,
}

/// Why a text is no [`Endpoint`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not the URL of a collector, such as http://127.0.0.1:4318; https is not spoken"
)]
pub(crate) struct EndpointError {
    text: String,
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError {
            text: text.to_owned(),
        };
        let uri: Uri = text.trim().parse().map_err(|_| error())?;
        let authority = uri.authority().ok_or_else(error)?;
        let is_plain = uri.scheme_str() == Some("http") && uri.query().is_none();
        if !is_plain || authority.as_str().contains('@') {
            return Err(error());
        }
        Ok(Self {
            authority: format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(80)
            ),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }
}

impl Exporter {
    /// Begins to export.
    ///
    /// # Errors
    ///
    /// If the thread or its runtime cannot be started.
    pub(crate) fn start(
        endpoint: Endpoint,
        service_name: String,
        redaction: Redaction,
    ) -> std::io::Result<Self> {
        let (queue, spans) = mpsc::channel(QUEUE);
        let stop = Arc::new(Notify::new());
        let (told, stopped) = std::sync::mpsc::sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let collector = Collector {
            endpoint,
            service_name,
        };
        let counter = Arc::clone(&dropped);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stopping = Arc::clone(&stop);
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                runtime.block_on(export(spans, &stopping, &collector, &counter));
                // Nobody may be waiting.
                let _ = told.send(());
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

    /// What a worker exports with.
    pub(crate) fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// How many spans were dropped, to be asked at any time.
    pub(crate) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = Arc::clone(&self.spans.dropped);
        move || dropped.load(Ordering::Relaxed)
    }

    /// Sends what is left, for as long as `limit`. What is exported later is dropped.
    pub(crate) fn end(&self, limit: Duration) {
        self.stop.notify_one();
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stopped.recv_timeout(limit);
    }
}

impl Spans {
    /// Exports a request's span, soon, if its trace is recorded.
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
            // What comes from now on is counted as dropped.
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
                    tracing::warn!(error, "spans are dropped: the collector does not take them");
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

/// Waits until there is a batch, or nobody left to add to it; gives whether there is one. The queue is looked at now and
/// then only, so that a span does not cost a wake-up.
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

/// Most spans in a batch.
const BATCH: usize = 512;

/// Most spans that wait; some kilobytes each at the very most.
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

    /// A collector that gives these answers, one for each connection; it tells what it was sent.
    fn collector(answers: &'static [u16]) -> (Endpoint, JoinHandle<Vec<(String, Value)>>) {
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
            .expect("an answer");
            (head, serde_json::from_slice(&body).expect("JSON"))
        };
        let received = thread::spawn(move || answers.iter().map(receive).collect());
        let endpoint = format!("http://{address}/collect/").parse();
        (endpoint.expect("a URL"), received)
    }

    fn start(endpoint: Endpoint) -> Exporter {
        Exporter::start(endpoint, "my-app".to_owned(), Redaction::new([])).expect("a thread")
    }

    fn tell(spans: &Spans, count: usize) {
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
    fn a_url_is_a_collector_or_an_error_that_says_what_is() {
        let accepted = [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/traces"),
            (" http://otel/ ", "otel:80", "/v1/traces"),
            ("http://[::1]:4318/a/b/", "[::1]:4318", "/a/b/v1/traces"),
        ];
        for (text, authority, path) in accepted {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((&*endpoint.authority, &*endpoint.path), (authority, path));
        }
        for text in [
            "",
            "otel:4318",
            "https://otel",
            "http://me:pw@otel",
            "http://otel?a",
            "/v1",
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert_eq!(
                error.to_string(),
                format!(
                    "`{text}` is not the URL of a collector, such as http://127.0.0.1:4318; https is not spoken"
                )
            );
        }
    }

    #[test]
    fn spans_are_posted_as_json() {
        let (endpoint, received) = collector(&[200]);
        let authority = endpoint.authority.clone();
        let exporter = start(endpoint);
        tell(&exporter.spans(), 3);
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
    fn a_batch_is_sent_without_waiting_for_the_end() {
        let (endpoint, received) = collector(&[200, 200]);
        let exporter = start(endpoint);
        tell(&exporter.spans(), BATCH);
        tell(&exporter.spans(), 1);
        // The second comes when its second is over.
        assert_eq!(span_counts(&received.join().expect("no panic")), [BATCH, 1]);
        exporter.end(LONG);
    }

    #[test]
    fn what_a_collector_cannot_take_now_is_sent_once_more() {
        // Its answers, and how many of the two spans are dropped.
        let table: [(&[u16], u64); 4] = [
            (&[503, 200], 0),
            (&[429, 202], 0),
            (&[503, 503], 2),
            (&[400], 2),
        ];
        for (answers, expected) in table {
            let (endpoint, received) = collector(answers);
            let exporter = start(endpoint);
            tell(&exporter.spans(), 2);
            let dropped = exporter.dropped();
            exporter.end(LONG);
            assert_eq!(dropped(), expected, "{answers:?}");
            let received = received.join().expect("no panic");
            assert!(span_counts(&received).iter().all(|count| *count == 2));
        }
    }

    #[test]
    fn a_collector_that_does_not_answer_costs_spans_and_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // It accepts connections, and never reads.
        let exporter = start(format!("http://{address}").parse().expect("a URL"));
        let (spans, dropped) = (exporter.spans(), exporter.dropped());
        let began = Instant::now();
        while dropped() < 10 {
            tell(&spans, 100);
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        exporter.end(Duration::from_millis(20));
    }
}
