//! How do spans reach a collector without a request waiting for it?
//!
//! By OTLP over HTTP with JSON: a worker puts its span into a bounded queue, and a thread of its own sends what has
//! gathered, every second or every 512 spans. A batch that the collector cannot take now is sent once more; then it is
//! dropped. What is dropped is counted, and said once until a batch gets through again.
//!
//! Plain http only: a collector stands beside the gateway, and forwards over TLS if it is to. A connection is opened for
//! each batch, so there is none that could have gone stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::Record;
use super::span::{Export, Span};
use super::target::Redaction;

/// Sends spans to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Spans,
    end: oneshot::Sender<()>,
    ended: std::sync::mpsc::Receiver<()>,
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
    authority: String,
    path: String,
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
        let (end, stop) = oneshot::channel();
        let (told, ended) = std::sync::mpsc::sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let collector = Collector {
            endpoint,
            service_name,
            dropped: Arc::clone(&dropped),
            has_failed: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                runtime.block_on(export(spans, stop, collector));
                // Nobody may be waiting.
                let _ = told.send(());
            })?;
        let spans = Spans {
            queue,
            dropped,
            redaction: Arc::new(redaction),
        };
        Ok(Self { spans, end, ended })
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

    /// Sends what is left, for as long as `limit`.
    pub(crate) fn end(self, limit: Duration) {
        let _ = self.end.send(());
        let _ = self.ended.recv_timeout(limit);
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
    mut stop: oneshot::Receiver<()>,
    mut collector: Collector,
) {
    let mut batch = Vec::new();
    loop {
        let is_end = tokio::select! {
            _ = &mut stop => true,
            () = gather(&mut queue, &mut batch) => false,
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
            collector.send(&batch).await;
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

/// Waits until there is a batch. The queue is looked at now and then only, so that a span does not cost a wake-up.
async fn gather(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    match queue.recv().await {
        Some(span) => batch.push(span),
        // Workers are gone; the end is yet to be told.
        None => std::future::pending().await,
    }
    let deadline = Instant::now() + PERIOD;
    while batch.len() + queue.len() < BATCH && Instant::now() < deadline {
        sleep(TICK).await;
    }
}

struct Collector {
    endpoint: Endpoint,
    service_name: String,
    dropped: Arc<AtomicU64>,
    has_failed: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("there is no connection")]
    Connect(#[from] std::io::Error),
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    #[error("no request can be made")]
    Request(#[from] http::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it did not answer in time")]
    Timeout,
}

impl Collector {
    /// Sends a batch, twice if need be, or counts it as dropped.
    async fn send(&mut self, batch: &[Span]) {
        // Text and numbers are always JSON.
        let body = serde_json::to_vec(&Export::new(&self.service_name, batch)).unwrap_or_default();
        let body = Bytes::from(body);
        let mut result = self.post(body.clone()).await;
        if result.as_ref().is_err_and(PostError::may_pass) {
            sleep(RETRY_PAUSE).await;
            result = self.post(body).await;
        }
        match result {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                self.dropped
                    .fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !self.has_failed {
                    let collector = &self.endpoint.authority;
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        collector,
                        "spans are dropped: the collector does not take them"
                    );
                }
                self.has_failed = true;
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let Endpoint { authority, path } = &self.endpoint;
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(
                header::USER_AGENT,
                concat!("fluxlit-gateway/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(body))?;
        let exchange = async {
            let stream = TcpStream::connect(authority).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // How the connection ends is told to the request.
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await;
            connection.abort();
            Ok(response?.status())
        };
        match timeout(POST_LIMIT, exchange).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(PostError::Status(status)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PostError::Timeout),
        }
    }
}

impl PostError {
    /// Whether the same batch may be taken a moment later, by the OTLP specification.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => false,
            Self::Connect(_) | Self::Http(_) | Self::Timeout => true,
        }
    }
}

/// Most spans in a batch.
const BATCH: usize = 512;

/// Most spans that wait; some kilobytes each at the very most.
const QUEUE: usize = 8 * BATCH;

const PERIOD: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const POST_LIMIT: Duration = Duration::from_secs(5);

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
        assert!(began.elapsed() < POST_LIMIT);
        exporter.end(Duration::from_millis(20));
    }
}
