//! Reports requests and connections to operators: metrics, access log, traces and the debug page.
//!
//! This is one of the lowest layers, and uses no other folder of the crate. The request path creates one [`Record`] per
//! request, after the response was sent, the tunnel was closed, or one side disconnected. Only this module decides which
//! parts of it are reported.
//!
//! Each worker has its own [`Observer`], so that reporting takes no lock.

pub(crate) mod access_log;
pub(crate) mod access_log_format;
mod collector;
pub(crate) mod config;
mod counters;
pub(crate) mod debug;
mod ending;
pub(crate) mod endpoint;
pub(crate) mod exposition;
pub(crate) mod metrics;
pub(crate) mod otlp;
mod process;
mod record;
pub(crate) mod redaction;
pub(crate) mod reject_reason;
mod span;
pub(crate) mod termination;
pub(crate) mod trace;
pub(crate) mod upstream;
pub(crate) mod websocket_close;

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access_log::{AccessLog, Logger};
use access_log_format::Format;
use counters::Counters;
use debug::{Debug, Memory};
pub(crate) use ending::Ending;
use endpoint::Endpoint;
use metrics::Metrics;
use otlp::{Exporter, Spans};
pub(crate) use record::{Dispatch, HttpVersion, Record};
use redaction::Redaction;
pub(crate) use termination::Phase;
use trace::{Propagation, Trace};

/// The outputs in addition to metrics.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// `None` if requests are not logged.
    pub(crate) access_log: Option<Format>,
    /// Names of further query parameters whose values are not reported.
    pub(crate) redacted: Vec<String>,
    /// `None` unless the gateway is in debug mode.
    pub(crate) debug: Option<Debug>,
    /// The collector of spans and the service name; `None` if spans are not exported.
    pub(crate) spans: Option<(Endpoint, String)>,
}

/// The metrics, logs and traces of all workers.
#[derive(Debug)]
pub(crate) struct Observability {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) debug: Option<Arc<Debug>>,
    /// Started when requests are logged for the first time.
    access_log: Mutex<Option<AccessLog>>,
    exporter: Option<Exporter>,
}

/// The part of a worker that reports its requests and connections.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Counting costs a few additions and is always on.
    pub(crate) counters: Counters,
    access_log: RefCell<Option<Logger>>,
    debug: Option<Memory>,
    spans: Option<Spans>,
}

impl Observability {
    /// Starts the enabled outputs. The access log is written to `log`.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started, or TLS cannot be set up.
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
            watch_dropped_lines(&metrics, log);
        }
        let exporter = spans
            .map(|(endpoint, service)| Exporter::start(endpoint, service, redaction))
            .transpose()?;
        if let Some(exporter) = &exporter {
            metrics.watch_counter(
                "fluxlit_gateway_dropped_spans",
                "Spans that were dropped because the collector did not accept them",
                exporter.dropped(),
            );
        }
        Ok(Self {
            metrics,
            debug: debug.map(Arc::new),
            access_log: Mutex::new(access_log),
            exporter,
        })
    }

    /// Returns the observer of a new worker.
    pub(crate) fn observer(&self) -> Observer {
        Observer {
            counters: self.metrics.worker(),
            access_log: RefCell::new(self.access_log().as_ref().map(AccessLog::logger)),
            debug: self.debug.as_ref().map(|debug| debug.memory()),
            spans: self.exporter.as_ref().map(Exporter::spans),
        }
    }

    /// Returns the logger for other settings, which workers then use; `None` if requests are not logged. `log`: where the
    /// access log is written if it was off until now.
    ///
    /// # Errors
    ///
    /// If the thread of the log cannot be started.
    pub(crate) fn logger(
        &self,
        format: Option<Format>,
        redacted: Vec<String>,
        log: impl Write + Send + 'static,
    ) -> std::io::Result<Option<Logger>> {
        let Some(format) = format else {
            return Ok(None);
        };
        let redaction = Redaction::new(redacted);
        let mut access_log = self.access_log();
        if let Some(access_log) = &*access_log {
            return Ok(Some(access_log.logger_with(format, redaction)));
        }
        let new = AccessLog::start(log, format, redaction)?;
        watch_dropped_lines(&self.metrics, &new);
        let logger = new.logger();
        *access_log = Some(new);
        Ok(Some(logger))
    }

    fn access_log(&self) -> MutexGuard<'_, Option<AccessLog>> {
        self.access_log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the queued lines and sends the queued spans, within `limit`. Those that workers report later are dropped.
    pub(crate) fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if let Some(log) = &*self.access_log() {
            log.end(limit);
        }
        if let Some(exporter) = &self.exporter {
            exporter.end(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

fn watch_dropped_lines(metrics: &Metrics, log: &AccessLog) {
    metrics.watch_counter(
        "fluxlit_gateway_access_log_dropped_lines",
        "Lines of the access log that were dropped because the reader was too slow",
        log.dropped(),
    );
}

impl Observer {
    /// Logs requests with this logger from now on.
    pub(crate) fn log_with(&self, logger: Option<Logger>) {
        self.access_log.replace(logger);
    }

    /// Returns true if requests are logged.
    pub(crate) fn logs_requests(&self) -> bool {
        self.access_log.borrow().is_some()
    }

    /// Returns the trace of a request from its `traceparent` lines, and how it is propagated to the upstream.
    pub(crate) fn trace<'l>(
        &self,
        lines: impl Iterator<Item = &'l [u8]>,
    ) -> (Option<Trace>, Propagation) {
        // The lower half of a random UUID: 62 random bits, and never zero.
        let random = || uuid::Uuid::new_v4().as_u64_pair().1;
        Trace::of(lines, self.logs_requests(), self.spans.is_some(), random)
    }

    /// Reports a request that has ended.
    pub(crate) fn ended(&self, record: &Record<'_>) {
        self.counters.ended(record);
        if let Some(log) = &*self.access_log.borrow() {
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

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::SystemTime;

    use fluxlit_policy::TrustOutcome;

    use super::*;

    /// A typical request, of which tests change one part.
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
            phase: Phase::Body,
            received_bytes: 0,
            sent_bytes: 1024,
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123),
            duration: Duration::from_micros(1_500),
            upstream_duration: Some(Duration::from_micros(1_250)),
        }
    }

    #[test]
    fn what_is_switched_on_is_reported() {
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
        let debug = observability.debug.as_ref().expect("debug mode").page(None);
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
    fn the_access_log_is_switched_on_and_off() {
        use std::io::Read;
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let observability =
            Observability::start(Options::default(), std::io::sink()).expect("no thread");
        let observer = observability.observer();
        let logger = |format, redacted: &[&str], log: std::io::PipeWriter| {
            let redacted = redacted.iter().map(|name| (*name).to_owned()).collect();
            observability
                .logger(format, redacted, log)
                .expect("a thread")
        };
        observer.ended(&typical());
        let spare = || std::io::pipe().expect("a pipe").1;
        observer.log_with(logger(Some(Format::Json), &[], writer));
        observer.ended(&typical());
        // The log goes on where it was started.
        observer.log_with(logger(Some(Format::Text), &["page"], spare()));
        observer.ended(&typical());
        observer.log_with(logger(None, &[], spare()));
        observer.ended(&typical());
        observability.end(Duration::from_secs(60));
        drop(observability);
        drop(observer);
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("text");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains(r#""query":"page=2""#), "{log}");
        assert!(lines[1].contains(r#"query="page=<redacted>""#), "{log}");
    }

    #[test]
    fn what_is_switched_off_is_not_started() {
        let observability =
            Observability::start(Options::default(), std::io::sink()).expect("no thread");
        let observer = observability.observer();
        observer.ended(&typical());
        assert!(observer.access_log.borrow().is_none() && observer.debug.is_none());
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
        let endpoint = Endpoint::read("http://127.0.0.1:4318").expect("a URL");
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
        // Registered by `gateway.rs`.
        let elsewhere = [
            "fluxlit_gateway_queue_length",
            "fluxlit_gateway_stopping_limit_seconds",
            "fluxlit_gateway_stopping_seconds",
            "fluxlit_gateway_tls_certificate_expiry_timestamp_seconds",
            "fluxlit_gateway_websocket_header_limit_bytes",
        ]
        .map(str::to_owned);
        let reported: BTreeSet<String> = metrics.chain(fields).chain(elsewhere).collect();
        assert_eq!(documented, reported.iter().map(String::as_str).collect());
    }
}
