//! What became of a request, and who is told?
//!
//! The data path tells a [`Record`] once, when the request has ended: its answer was sent, its tunnel was closed, or
//! somebody left. What is made of it is decided here and nowhere else.
//!
//! Each worker has an [`Observer`] of its own, so that telling takes no lock.

pub(crate) mod access_log;
pub(crate) mod access_log_format;
mod collector;
mod counters;
pub(crate) mod debug;
pub(crate) mod exposition;
pub(crate) mod metrics;
pub(crate) mod otlp;
mod process;
pub(crate) mod redaction;
pub(crate) mod reject_reason;
mod span;
pub(crate) mod trace;

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use access_log::{AccessLog, Logger};
use access_log_format::Format;
use counters::Counters;
use debug::{Debug, Memory};
use fluxlit_policy::TrustOutcome;
use metrics::Metrics;
use otlp::{Endpoint, Exporter, Spans};
use redaction::Redaction;
use reject_reason::RejectReason;
use trace::{Propagation, Trace};

/// A request that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Record<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) dispatch: Dispatch,
    pub(crate) method: &'a [u8],
    pub(crate) is_websocket: bool,
    /// `None` if nothing was read.
    pub(crate) version: Option<HttpVersion>,
    /// As received: path and query.
    pub(crate) target: &'a [u8],
    pub(crate) host: Option<&'a str>,
    /// Who the request is from, by the policy.
    pub(crate) client: Option<&'a str>,
    pub(crate) peer: IpAddr,
    pub(crate) trust: TrustOutcome,
    /// Zero if no answer was sent.
    pub(crate) status: u16,
    pub(crate) ending: Ending,
    /// Of the request's body.
    pub(crate) received_bytes: u64,
    /// Of the answer's body.
    pub(crate) sent_bytes: u64,
    pub(crate) started: SystemTime,
    pub(crate) duration: Duration,
    /// Until the head of the upstream's answer.
    pub(crate) upstream_duration: Option<Duration>,
}

/// The client's version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
    Http2,
}

/// Who a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    Api,
    Streamlit,
    /// Ourselves: health, redirects, whatever was refused before it was for anybody.
    Gateway,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    ClientLeft,
    ClientTimeout,
    UpstreamConnect,
    UpstreamTimeout,
    UpstreamBroke,
    Refused(RejectReason),
    /// Cut off because the gateway stops.
    Drained,
}

/// What is told, beside the counting.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// None if requests are not logged.
    pub(crate) access_log: Option<Format>,
    /// Names in a query whose values are not told, beside those that never are.
    pub(crate) redacted: Vec<String>,
    /// None unless the gateway is in debug mode.
    pub(crate) debug: Option<Debug>,
    /// Where spans go, and the name of the service; none if they are not exported.
    pub(crate) spans: Option<(Endpoint, String)>,
}

/// Everything that is told, over all workers.
#[derive(Debug)]
pub(crate) struct Observability {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) debug: Option<Arc<Debug>>,
    access_log: Option<AccessLog>,
    exporter: Option<Exporter>,
}

/// What a worker tells about its requests, and its connections.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Always counted: a few additions.
    pub(crate) counters: Counters,
    access_log: Option<Logger>,
    debug: Option<Memory>,
    spans: Option<Spans>,
}

impl Observability {
    /// Starts what is switched on. `log` is where the access log is written to.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub(crate) fn start(
        options: Options,
        log: impl Write + Send + 'static,
    ) -> std::io::Result<Self> {
        let Options {
            access_log,
            redacted,
            debug,
            spans,
        } = options;
        let redaction = Redaction::new(redacted);
        let metrics = Metrics::new();
        let access_log = access_log
            .map(|format| AccessLog::start(log, format, redaction.clone()))
            .transpose()?;
        if let Some(log) = &access_log {
            metrics.watch_counter(
                "fluxlit_gateway_access_log_dropped_lines",
                "Lines of the access log that were dropped, because nobody read them in time",
                log.dropped(),
            );
        }
        let exporter = spans
            .map(|(endpoint, service)| Exporter::start(endpoint, service, redaction))
            .transpose()?;
        if let Some(exporter) = &exporter {
            metrics.watch_counter(
                "fluxlit_gateway_dropped_spans",
                "Spans that were dropped, because the collector did not take them",
                exporter.dropped(),
            );
        }
        Ok(Self {
            metrics,
            debug: debug.map(Arc::new),
            access_log,
            exporter,
        })
    }

    /// What a new worker tells with.
    pub(crate) fn observer(&self) -> Observer {
        Observer {
            counters: self.metrics.worker(),
            access_log: self.access_log.as_ref().map(AccessLog::logger),
            debug: self.debug.as_ref().map(|debug| debug.memory()),
            spans: self.exporter.as_ref().map(Exporter::spans),
        }
    }

    /// Writes and sends what is left, for as long as `limit`. What a worker tells later is dropped.
    pub(crate) fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if let Some(log) = &self.access_log {
            log.end(limit);
        }
        if let Some(exporter) = &self.exporter {
            exporter.end(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

impl Observer {
    /// The trace that a request belongs to, by its lines of `traceparent`, and what the upstream is told of it.
    pub(crate) fn trace<'l>(
        &self,
        lines: impl Iterator<Item = &'l [u8]>,
    ) -> (Option<Trace>, Propagation) {
        // The lower half of a random UUID: 62 bits of chance, and never zero.
        let random = || uuid::Uuid::new_v4().as_u64_pair().1;
        Trace::of(
            lines,
            self.access_log.is_some(),
            self.spans.is_some(),
            random,
        )
    }

    /// Tells what became of a request.
    pub(crate) fn ended(&self, record: &Record<'_>) {
        self.counters.ended(record);
        if let Some(log) = &self.access_log {
            log.write(record);
        }
        if let Some(memory) = &self.debug {
            memory.add(record);
        }
        if let Some(spans) = &self.spans {
            spans.export(record);
        }
    }
}

impl HttpVersion {
    /// Returns the version as logs and spans have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl Dispatch {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Streamlit, Self::Gateway];

    /// The label that FluxLit gives it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Streamlit => "streamlit",
            Self::Gateway => "gateway",
        }
    }
}

impl Ending {
    /// A word for logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientTimeout => "client_timeout",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBroke => "upstream_broke",
            Self::Refused(_) => "refused",
            Self::Drained => "drained",
        }
    }

    /// Why the request was refused, if it was.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(reason) => Some(reason.label()),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use fluxlit_policy::Reason;

    use super::*;

    /// A request as most are, for tests to change one thing of.
    pub(crate) fn typical() -> Record<'static> {
        Record {
            request_id: "0190",
            trace: None,
            dispatch: Dispatch::Streamlit,
            method: b"GET",
            is_websocket: false,
            version: Some(HttpVersion::Http11),
            target: b"/apps/my-app/?page=2",
            host: Some("portal.example"),
            client: Some("203.0.113.7"),
            peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            trust: TrustOutcome::TrustedHeader,
            status: 200,
            ending: Ending::Complete,
            received_bytes: 0,
            sent_bytes: 1024,
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
            duration: Duration::from_micros(1_500),
            upstream_duration: Some(Duration::from_micros(1_250)),
        }
    }

    #[test]
    fn every_ending_has_a_word_and_only_a_refusal_a_reason() {
        let endings = [
            (Ending::Complete, "complete", None),
            (Ending::ClientLeft, "client_left", None),
            (Ending::ClientTimeout, "client_timeout", None),
            (Ending::UpstreamConnect, "upstream_connect", None),
            (Ending::UpstreamTimeout, "upstream_timeout", None),
            (Ending::UpstreamBroke, "upstream_broke", None),
            (
                Ending::Refused(RejectReason::Policy(Reason::BadHost)),
                "refused",
                Some("bad_host"),
            ),
            (Ending::Drained, "drained", None),
        ];
        for (ending, label, reason) in endings {
            assert_eq!((ending.label(), ending.reason()), (label, reason));
        }
    }

    #[test]
    fn whatever_is_switched_on_is_told() {
        use std::io::Read;
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let options = Options {
            access_log: Some(Format::Json),
            redacted: vec!["page".to_owned()],
            debug: Some(Debug::new("/api", "", [], false)),
            ..Options::default()
        };
        let observability = Observability::start(options, writer).expect("a thread");
        let observer = observability.observer();
        let (trace, propagation) = observer.trace(std::iter::empty());
        assert_eq!(propagation, Propagation::Started);
        let trace = trace.expect("a trace");
        observer.ended(&Record {
            trace: Some(&trace),
            ..typical()
        });
        let metrics = observability.metrics.scrape();
        for line in [
            r#"fluxlit_gateway_requests_total{dispatch="streamlit",method_kind="GET"} 1"#,
            "fluxlit_gateway_access_log_dropped_lines_total 0",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{metrics}");
        }
        let debug = observability.debug.as_ref().expect("debug mode").answer();
        assert!(debug.contains(r#""request_id":"0190""#), "{debug}");
        observability.end(Duration::from_secs(60));
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("text");
        assert!(log.contains(r#""query":"page=<redacted>""#), "{log}");
        assert!(
            log.contains(&format!(r#""trace_id":"{}""#, trace.trace_id)),
            "{log}"
        );
    }

    #[test]
    fn nothing_is_started_that_is_not_switched_on() {
        let observability =
            Observability::start(Options::default(), std::io::sink()).expect("no thread");
        let observer = observability.observer();
        observer.ended(&typical());
        assert!(observer.access_log.is_none() && observer.debug.is_none());
        assert!(observer.spans.is_none());
        let (trace, propagation) = observer.trace(std::iter::empty());
        assert_eq!((trace, propagation), (None, Propagation::Removed));
        assert!(!observability.metrics.scrape().contains("dropped"));
        observability.end(Duration::ZERO);
    }

    #[test]
    fn the_documentation_has_every_metric_and_field() {
        use std::collections::BTreeSet;
        let documentation = include_str!("../../../docs/observability.md");
        // The first cells of the tables, which may hold several names.
        let documented: BTreeSet<&str> = documentation
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('|').next())
            .flat_map(|cell| cell.split(['`', ',', ' ']))
            .filter(|name| !name.is_empty() && !name.starts_with("FLUXLIT_"))
            .collect();
        let endpoint: Endpoint = "http://127.0.0.1:4318".parse().expect("a URL");
        let options = Options {
            access_log: Some(Format::Json),
            spans: Some((endpoint, String::new())),
            ..Options::default()
        };
        let observability = Observability::start(options, std::io::sink()).expect("threads");
        let metrics = observability.metrics.scrape();
        let metrics = metrics.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            Some(format!("{name}{suffix}"))
        });
        let line = Format::Json.line(&typical(), &Redaction::new([]));
        let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        let fields = line.as_object().expect("an object").keys().cloned();
        // Told where they are known.
        let elsewhere = [
            "fluxlit_gateway_queue_length",
            "fluxlit_gateway_tls_certificate_expiry_timestamp_seconds",
        ]
        .map(str::to_owned);
        let told: BTreeSet<String> = metrics.chain(fields).chain(elsewhere).collect();
        assert_eq!(documented, told.iter().map(String::as_str).collect());
    }
}
