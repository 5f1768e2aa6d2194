//! Writes the metrics as OpenMetrics text, for Prometheus.
//!
//! Every series whose labels are known in advance exists from the start, at zero, so that an increase from zero is visible.
//! The values are read one after another, so they are not a snapshot.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use fluxlit_policy::{HeaderGroup, ProbeOutcome};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram, Info};
use prometheus_client::registry::Registry;

use super::config::Config;
use super::counters::{
    BUCKETS, Block, Count, DispatchBlock, HANDSHAKE_RESULTS, LIFETIMES, LINE_BYTES, METHODS,
    STATUS_CLASSES, UPSTREAM_ERRORS, refused_labels, trust_labels,
};
use super::metrics::Metrics;
use super::termination::Side;
use super::upstream::Upstream;
use super::websocket_close::{CLOSE_CODES, ClosedBy};
use super::{Dispatch, process};
use crate::build_info::{COMMIT, VERSION};

/// The media type of what [`Metrics::scrape`] returns.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// Returns all metrics as [`CONTENT_TYPE`].
    pub(crate) fn scrape(self: &Arc<Self>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Exposition(encoder);
        let total = self.total();
        to.requests(&total)?;
        to.rejections(&total)?;
        to.upstreams(self, &total)?;
        to.connections(&total)?;
        to.websockets(&total)?;
        to.build_and_config(self)?;
        to.reloads(self)?;
        for (name, help, kind, value) in process::metrics() {
            to.family(kind, name, help, [([], value)])?;
        }
        for watched in self.watched().iter() {
            let value = (watched.value)();
            to.family(watched.kind, watched.name, watched.help, [([], value)])?;
        }
        Ok(())
    }
}

struct Exposition<'a>(DescriptorEncoder<'a>);

impl Exposition<'_> {
    fn requests(&mut self, total: &Block) -> fmt::Result {
        self.family(
            Counter,
            "fluxlit_gateway_requests",
            "Requests that have ended, by destination and method",
            by_dispatch(total, "method_kind", METHODS, |of| {
                of.methods.each_ref().map(Count::get)
            }),
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_responses",
            "Responses by class of status; none if there was no response",
            by_dispatch(total, "status_class", STATUS_CLASSES, |of| {
                let of_class = |by_side: &[Count; _]| by_side.iter().map(Count::get).sum();
                of.endings.each_ref().map(of_class)
            }),
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_endings",
            "Requests and WebSockets that have ended, by class of status and by who ended them",
            dispatches(total).flat_map(|(dispatch, of)| {
                let classes = STATUS_CLASSES.into_iter().zip(&of.endings);
                classes.flat_map(move |(class, by_side)| {
                    let sides = Side::ALL.map(Side::label).into_iter().zip(by_side);
                    sides.map(move |(side, count)| {
                        let labels = [dispatch, ("status_class", class), ("ended_by", side)];
                        (labels, count.get())
                    })
                })
            }),
        )?;
        self.durations(total)?;
        let received = dispatches(total).map(|(label, of)| ([label], of.received_bytes.get()));
        self.family(
            Counter,
            "fluxlit_gateway_received_bytes",
            "Bytes of request bodies",
            received,
        )?;
        let sent = dispatches(total).map(|(label, of)| ([label], of.sent_bytes.get()));
        self.family(
            Counter,
            "fluxlit_gateway_sent_bytes",
            "Bytes of response bodies",
            sent,
        )
    }

    fn durations(&mut self, total: &Block) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(
            "fluxlit_gateway_request_duration_seconds",
            "Time from the head of a request to the end of its response",
            None,
            Histogram,
        )?;
        for (label, of) in dispatches(total) {
            let bounds = BUCKETS.map(|milliseconds| milliseconds as f64 / 1e3);
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(of.buckets.iter().map(Count::get)).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let seconds = of.nanoseconds.get() as f64 / 1e9;
            metric
                .encode_family(&[label])?
                .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }

    fn reloads(&mut self, metrics: &Metrics) -> fmt::Result {
        let results = ["success", "failure"].into_iter().zip(&metrics.reloads);
        self.family(
            Counter,
            "fluxlit_gateway_config_reloads",
            "Reloads of the settings, by result",
            results.map(|(result, count)| ([("result", result)], count.load(Ordering::Relaxed))),
        )?;
        self.family(
            Gauge,
            "fluxlit_gateway_config_last_reload_successful",
            "1 if the last reload of the settings succeeded, or if there was none",
            [([], metrics.last_reload.load(Ordering::Relaxed))],
        )
    }

    fn rejections(&mut self, total: &Block) -> fmt::Result {
        self.family(
            Counter,
            "fluxlit_gateway_refused",
            "Requests that were rejected, by reason",
            by("reason", refused_labels(), &total.refused),
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_trust",
            "Requests by whether the peer is trusted, and how the client was found",
            by("outcome", trust_labels(), &total.trust),
        )?;
        let families = HeaderGroup::ALL.iter().map(|group| group.label());
        self.family(
            Counter,
            "fluxlit_gateway_forwarded_ignored",
            "Requests of untrusted peers with header lines of a family, which are removed",
            by("family", families, &total.forwarded_ignored),
        )?;
        let outcomes = ProbeOutcome::ALL.iter().map(|outcome| outcome.label());
        self.family(
            Counter,
            "fluxlit_gateway_probes",
            "Requests for the decision record, by what happened to them",
            by("result", outcomes, &total.probes),
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_plain_get_on_stream",
            "GET requests without an upgrade on the path of Streamlit's WebSocket",
            [([], total.plain_gets_on_stream.get())],
        )
    }

    fn build_and_config(&mut self, metrics: &Metrics) -> fmt::Result {
        self.0
            .encode_descriptor(
                "fluxlit_gateway_build",
                "The version and the commit",
                None,
                Info,
            )?
            .encode_info(&[("version", VERSION), ("commit", COMMIT)])?;
        let config = metrics.config.lock();
        let Config { hash, warnings } = config.unwrap_or_else(PoisonError::into_inner).clone();
        self.0
            .encode_descriptor(
                "fluxlit_gateway_config",
                "A hash of the settings",
                None,
                Info,
            )?
            .encode_info(&[("hash", hash.as_str())])?;
        self.family(
            Gauge,
            "fluxlit_gateway_config_warnings",
            "Warnings about the settings",
            [([], warnings as u64)],
        )
    }

    fn upstreams(&mut self, metrics: &Metrics, total: &Block) -> fmt::Result {
        self.family(
            Counter,
            "fluxlit_gateway_upstream_errors",
            "Requests without a complete response from the upstream",
            by("kind", UPSTREAM_ERRORS, &total.upstream_errors),
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_upstream_retries",
            "Requests that were sent again because a reused connection was closed",
            [([], total.upstream_retries.get())],
        )?;
        self.family(
            Counter,
            "fluxlit_gateway_prefix_ignored",
            "Requests of trusted peers whose X-Forwarded-Prefix was repeated or invalid",
            [([], total.prefixes_ignored.get())],
        )?;
        let label = |upstream: Upstream| ("upstream", upstream.label());
        let ready = Upstream::ALL.into_iter().zip(&metrics.ready);
        let ready =
            ready.map(|(upstream, ready)| ([label(upstream)], ready.load(Ordering::Relaxed)));
        self.family(
            Gauge,
            "fluxlit_gateway_upstream_ready",
            "1 if the last probe of an upstream succeeded, otherwise 0",
            ready.filter(|(_, ready)| *ready <= 1),
        )?;
        let checked = Upstream::ALL.into_iter().zip(&metrics.checked);
        let ages = checked.filter_map(|(upstream, checked)| {
            let checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
            Some(([label(upstream)], (*checked)?.elapsed().as_secs_f64()))
        });
        self.family(
            Gauge,
            "fluxlit_gateway_upstream_check_age_seconds",
            "Time since the last probe of an upstream ended",
            ages,
        )?;
        let restarts = Upstream::ALL.into_iter().zip(&metrics.restarts);
        self.family(
            Counter,
            "fluxlit_gateway_upstream_restarts",
            "Restarts of an upstream that the gateway has started",
            restarts.map(|(upstream, count)| ([label(upstream)], count.load(Ordering::Relaxed))),
        )?;
        let pools = Upstream::ALL.into_iter().zip(&total.pools);
        let pools = pools.flat_map(|(upstream, [idle, in_use])| {
            [("idle", idle), ("in_use", in_use)]
                .map(|(state, count)| ([label(upstream), ("state", state)], count.get()))
        });
        self.family(
            Gauge,
            "fluxlit_gateway_upstream_connections",
            "Connections to an upstream",
            pools,
        )
    }

    fn connections(&mut self, total: &Block) -> fmt::Result {
        let connections = [
            (
                "fluxlit_gateway_connections",
                "Connections that clients have opened",
                "fluxlit_gateway_connections_active",
                "Open connections of clients",
                total.connections_opened.get(),
                total.connections_closed.get(),
            ),
            (
                "fluxlit_gateway_websockets",
                "WebSockets that have been opened",
                "fluxlit_gateway_websockets_active",
                "Open WebSockets",
                total.websockets_opened.get(),
                total.websockets_closed.get(),
            ),
        ];
        for (name, help, active_name, active_help, opened, closed) in connections {
            let active = opened.saturating_sub(closed);
            self.family(Counter, name, help, [([], opened)])?;
            self.family(Gauge, active_name, active_help, [([], active)])?;
        }
        Ok(())
    }

    fn websockets(&mut self, total: &Block) -> fmt::Result {
        let opened = [([("result", "opened")], total.websockets_opened.get())];
        let others = by("result", HANDSHAKE_RESULTS, &total.handshakes);
        self.family(
            Counter,
            "fluxlit_gateway_websocket_handshakes",
            "WebSocket handshakes by result",
            opened.into_iter().chain(others),
        )?;
        let closes = ClosedBy::ALL.into_iter().zip(&total.closes);
        let closes = closes.flat_map(|(by, counts)| {
            CLOSE_CODES
                .into_iter()
                .zip(counts)
                .map(move |(code, count)| ([("code", code), ("by", by.label())], count.get()))
        });
        self.family(
            Counter,
            "fluxlit_gateway_websocket_closes",
            "WebSockets that were closed, by close code and by who closed them first",
            closes,
        )?;
        self.histogram(
            "fluxlit_gateway_websocket_lifetime_seconds",
            "Time from the opening of a WebSocket to its end",
            LIFETIMES.map(|seconds| seconds as f64),
            &total.lifetimes,
            total.lifetime_nanoseconds.get() as f64 / 1e9,
        )?;
        self.histogram(
            "fluxlit_gateway_websocket_header_bytes",
            "Length of the longest header line of a WebSocket handshake for Streamlit",
            LINE_BYTES.map(|bytes| bytes as f64),
            &total.lines,
            total.line_bytes.get() as f64,
        )
    }

    /// Writes a histogram without labels.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        bounds: impl IntoIterator<Item = f64>,
        counts: &[Count],
        sum: f64,
    ) -> fmt::Result {
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().map(Count::get)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.0
            .encode_descriptor(name, help, None, Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn family<const LABELS: usize, V: EncodeCounterValue + EncodeGaugeValue>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label; LABELS], V)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            match LABELS {
                // A family without labels would be written with an empty pair of braces.
                0 => write(&mut metric, kind, &value)?,
                _ => write(&mut metric.encode_family(&labels)?, kind, &value)?,
            }
        }
        Ok(())
    }
}

type Label = (&'static str, &'static str);

fn write<V: EncodeCounterValue + EncodeGaugeValue>(
    to: &mut MetricEncoder<'_>,
    kind: MetricType,
    value: &V,
) -> fmt::Result {
    match kind {
        Counter => to.encode_counter::<NoLabelSet, _, f64>(value, None),
        _ => to.encode_gauge(value),
    }
}

fn dispatches(total: &Block) -> impl Iterator<Item = (Label, &DispatchBlock)> {
    let labels = Dispatch::ALL.map(|dispatch| ("dispatch", dispatch.label()));
    labels.into_iter().zip(&total.dispatches)
}

fn by(
    key: &'static str,
    labels: impl IntoIterator<Item = &'static str>,
    counts: &[Count],
) -> impl Iterator<Item = ([Label; 1], u64)> {
    let counts = labels.into_iter().zip(counts);
    counts.map(move |(label, count)| ([(key, label)], count.get()))
}

fn by_dispatch<const N: usize>(
    total: &Block,
    key: &'static str,
    labels: [&'static str; N],
    counts: fn(&DispatchBlock) -> [u64; N],
) -> impl Iterator<Item = ([Label; 2], u64)> {
    dispatches(total).flat_map(move |(dispatch, of)| {
        let counts = labels.into_iter().zip(counts(of));
        counts.map(move |(label, count)| ([dispatch, (key, label)], count))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use fluxlit_policy::{Reason, TrustOutcome};

    use super::super::reject_reason::RejectReason;
    use super::super::tests::typical;
    use super::super::{Ending, Record};
    use super::*;

    /// Reads OpenMetrics text strictly by its grammar; returns the type of each metric, and the value of each line.
    fn read(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
        let body = text.strip_suffix("# EOF\n").expect("an end");
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        let mut current = String::new();
        for line in body.split_terminator('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(!help.is_empty(), "{line}");
                current = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, current, "{line}");
                let first = types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(first, None, "a metric twice: {line}");
            } else {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let suffix = name.strip_prefix(current.as_str()).expect(line);
                let suffixes: &[&str] = match types.get(&current).expect(line).as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    "info" => &["_info"],
                    other => panic!("type {other}: {line}"),
                };
                assert!(suffixes.contains(&suffix), "{line}");
                let labels = labels.strip_suffix('}').expect(line);
                for label in labels.split(',').filter(|label| !label.is_empty()) {
                    let (key, value) = label.split_once("=\"").expect(line);
                    assert!(
                        key.bytes()
                            .all(|octet| octet == b'_' || octet.is_ascii_lowercase())
                    );
                    let value = value.strip_suffix('"').expect(line);
                    assert!(!value.contains(['"', '\\']), "{line}");
                }
                let value = value.parse().expect(line);
                let first = values.insert(series.to_owned(), value);
                assert_eq!(first, None, "a series twice: {line}");
            }
        }
        (types, values)
    }

    #[test]
    fn every_metric_has_its_name_type_and_labels() {
        let metrics = Metrics::new();
        let _worker = metrics.worker();
        metrics.upstream_ready(Upstream::Streamlit, false);
        metrics.watch_counter("fluxlit_gateway_log_lines_dropped", "Lines", || 3);
        metrics.watch_gauge("fluxlit_gateway_expiry", "When", || 4);
        let (types, values) = read(&metrics.scrape());
        let shape: BTreeSet<(String, String)> = values
            .keys()
            .map(|series| {
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let keys: Vec<&str> = labels
                    .trim_end_matches('}')
                    .split(',')
                    .filter_map(|label| Some(label.split_once('=')?.0))
                    .collect();
                (name.to_owned(), keys.join(" "))
            })
            .collect();
        let expected = [
            ("fluxlit_gateway_build_info", "version commit"),
            ("fluxlit_gateway_config_info", "hash"),
            ("fluxlit_gateway_config_last_reload_successful", ""),
            ("fluxlit_gateway_config_reloads_total", "result"),
            ("fluxlit_gateway_config_warnings", ""),
            ("fluxlit_gateway_connections_active", ""),
            ("fluxlit_gateway_connections_total", ""),
            (
                "fluxlit_gateway_endings_total",
                "dispatch status_class ended_by",
            ),
            ("fluxlit_gateway_expiry", ""),
            ("fluxlit_gateway_forwarded_ignored_total", "family"),
            ("fluxlit_gateway_plain_get_on_stream_total", ""),
            ("fluxlit_gateway_upstream_check_age_seconds", "upstream"),
            ("fluxlit_gateway_upstream_restarts_total", "upstream"),
            ("fluxlit_gateway_websocket_closes_total", "code by"),
            ("fluxlit_gateway_websocket_handshakes_total", "result"),
            ("fluxlit_gateway_websocket_header_bytes_bucket", "le"),
            ("fluxlit_gateway_websocket_header_bytes_count", ""),
            ("fluxlit_gateway_websocket_header_bytes_sum", ""),
            ("fluxlit_gateway_websocket_lifetime_seconds_bucket", "le"),
            ("fluxlit_gateway_websocket_lifetime_seconds_count", ""),
            ("fluxlit_gateway_websocket_lifetime_seconds_sum", ""),
            ("fluxlit_gateway_log_lines_dropped_total", ""),
            ("fluxlit_gateway_probes_total", "result"),
            ("fluxlit_gateway_received_bytes_total", "dispatch"),
            ("fluxlit_gateway_refused_total", "reason"),
            (
                "fluxlit_gateway_request_duration_seconds_bucket",
                "le dispatch",
            ),
            ("fluxlit_gateway_request_duration_seconds_count", "dispatch"),
            ("fluxlit_gateway_request_duration_seconds_sum", "dispatch"),
            ("fluxlit_gateway_requests_total", "dispatch method_kind"),
            ("fluxlit_gateway_responses_total", "dispatch status_class"),
            ("fluxlit_gateway_sent_bytes_total", "dispatch"),
            ("fluxlit_gateway_trust_total", "outcome"),
            ("fluxlit_gateway_upstream_connections", "upstream state"),
            ("fluxlit_gateway_upstream_errors_total", "kind"),
            ("fluxlit_gateway_upstream_ready", "upstream"),
            ("fluxlit_gateway_upstream_retries_total", ""),
            ("fluxlit_gateway_prefix_ignored_total", ""),
            ("fluxlit_gateway_websockets_active", ""),
            ("fluxlit_gateway_websockets_total", ""),
            ("process_cpu_seconds_total", ""),
            ("process_max_fds", ""),
            ("process_open_fds", ""),
            ("process_resident_memory_bytes", ""),
            ("process_start_time_seconds", ""),
            ("process_virtual_memory_bytes", ""),
        ]
        .map(|(name, keys)| (name.to_owned(), keys.to_owned()));
        assert_eq!(shape, BTreeSet::from(expected));
        assert_eq!(types["fluxlit_gateway_requests"], "counter");
        assert_eq!(
            types["fluxlit_gateway_request_duration_seconds"],
            "histogram"
        );
    }

    #[test]
    fn the_counts_of_workers_are_added_up() {
        let metrics = Metrics::new();
        let records = [
            typical(),
            Record {
                is_websocket: true,
                status: 101,
                duration: Duration::from_secs(60),
                ..typical()
            },
            Record {
                dispatch: Dispatch::Api,
                method: b"BREW",
                status: 502,
                ending: Ending::UpstreamConnect,
                duration: Duration::from_millis(5),
                received_bytes: 7,
                ..typical()
            },
            Record {
                dispatch: Dispatch::Gateway,
                status: 400,
                ending: Ending::Rejected(RejectReason::Policy(Reason::BadHost)),
                trust: TrustOutcome::Untrusted,
                ..typical()
            },
            Record {
                dispatch: Dispatch::Gateway,
                status: 0,
                ending: Ending::Rejected(RejectReason::TooManyConnections),
                trust: TrustOutcome::PeerUnknown,
                ..typical()
            },
        ];
        // Each worker counts on its own thread, as in the gateway.
        let workers: Vec<_> = [metrics.worker(), metrics.worker()]
            .into_iter()
            .map(|worker| {
                let records = records.clone();
                std::thread::spawn(move || {
                    for record in &records {
                        worker.ended(record);
                    }
                    worker.connection_opened();
                    worker.connection_opened();
                    worker.connection_closed();
                    worker.websocket_opened();
                    let lifetime = Duration::from_secs(61);
                    worker.websocket_closed(ClosedBy::Upstream, 1001, lifetime);
                    worker.header_line(8190);
                    worker.forwarded_ignored([HeaderGroup::Scheme].into_iter());
                    worker.plain_get_on_stream();
                    worker.pool(Upstream::Streamlit, 3, 1);
                    worker.upstream_retried();
                    worker.prefix_ignored();
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("no panic");
        }
        metrics.upstream_ready(Upstream::Api, true);
        metrics.upstream_restarted(Upstream::Streamlit);
        metrics.set_config(Config {
            hash: "0a1b".to_owned(),
            warnings: 3,
        });
        let (_, values) = read(&metrics.scrape());
        let expected = [
            (
                r#"requests_total{dispatch="streamlit",method_kind="GET"}"#,
                2.0,
            ),
            (
                r#"requests_total{dispatch="streamlit",method_kind="WEBSOCKET"}"#,
                2.0,
            ),
            (r#"requests_total{dispatch="api",method_kind="OTHER"}"#, 2.0),
            (r#"requests_total{dispatch="api",method_kind="GET"}"#, 0.0),
            (
                r#"responses_total{dispatch="streamlit",status_class="2xx"}"#,
                2.0,
            ),
            (
                r#"responses_total{dispatch="streamlit",status_class="1xx"}"#,
                2.0,
            ),
            (
                r#"responses_total{dispatch="gateway",status_class="none"}"#,
                2.0,
            ),
            (
                r#"request_duration_seconds_bucket{le="0.001",dispatch="streamlit"}"#,
                0.0,
            ),
            (
                r#"request_duration_seconds_bucket{le="0.005",dispatch="streamlit"}"#,
                2.0,
            ),
            (
                r#"request_duration_seconds_bucket{le="0.005",dispatch="api"}"#,
                2.0,
            ),
            (
                r#"request_duration_seconds_bucket{le="10.0",dispatch="streamlit"}"#,
                2.0,
            ),
            (
                r#"request_duration_seconds_bucket{le="+Inf",dispatch="streamlit"}"#,
                4.0,
            ),
            (
                r#"request_duration_seconds_count{dispatch="streamlit"}"#,
                4.0,
            ),
            (
                r#"request_duration_seconds_sum{dispatch="streamlit"}"#,
                120.003,
            ),
            (r#"received_bytes_total{dispatch="api"}"#, 14.0),
            (r#"sent_bytes_total{dispatch="streamlit"}"#, 4096.0),
            (r#"upstream_errors_total{kind="connect"}"#, 2.0),
            (r#"upstream_errors_total{kind="broke"}"#, 0.0),
            (r#"refused_total{reason="bad_host"}"#, 2.0),
            (r#"refused_total{reason="too_many_connections"}"#, 2.0),
            (r#"refused_total{reason="other"}"#, 0.0),
            (r#"refused_total{reason="body_too_large"}"#, 0.0),
            (r#"trust_total{outcome="trusted_header"}"#, 6.0),
            (r#"trust_total{outcome="peer_unknown"}"#, 2.0),
            (r#"trust_total{outcome="other"}"#, 0.0),
            ("connections_total", 4.0),
            (
                r#"responses_total{dispatch="gateway",status_class="4xx"}"#,
                2.0,
            ),
            ("upstream_retries_total", 2.0),
            ("prefix_ignored_total", 2.0),
            ("connections_active", 2.0),
            ("websockets_total", 2.0),
            ("websockets_active", 0.0),
            (
                r#"upstream_connections{upstream="streamlit",state="idle"}"#,
                6.0,
            ),
            (
                r#"upstream_connections{upstream="streamlit",state="in_use"}"#,
                2.0,
            ),
            (r#"upstream_ready{upstream="api"}"#, 1.0),
            (r#"upstream_restarts_total{upstream="streamlit"}"#, 1.0),
            (r#"upstream_restarts_total{upstream="api"}"#, 0.0),
            (r#"config_info{hash="0a1b"}"#, 1.0),
            ("config_warnings", 3.0),
            (
                r#"endings_total{dispatch="streamlit",status_class="2xx",ended_by="nobody"}"#,
                2.0,
            ),
            (
                r#"endings_total{dispatch="streamlit",status_class="1xx",ended_by="nobody"}"#,
                2.0,
            ),
            (
                r#"endings_total{dispatch="api",status_class="5xx",ended_by="upstream"}"#,
                2.0,
            ),
            (
                r#"endings_total{dispatch="gateway",status_class="4xx",ended_by="gateway"}"#,
                2.0,
            ),
            (
                r#"endings_total{dispatch="gateway",status_class="none",ended_by="limit"}"#,
                2.0,
            ),
            (r#"forwarded_ignored_total{family="scheme"}"#, 2.0),
            (r#"forwarded_ignored_total{family="forwarding"}"#, 0.0),
            ("plain_get_on_stream_total", 2.0),
            (r#"websocket_handshakes_total{result="opened"}"#, 2.0),
            (r#"websocket_handshakes_total{result="refused"}"#, 0.0),
            (r#"websocket_closes_total{code="1001",by="upstream"}"#, 2.0),
            (r#"websocket_closes_total{code="1001",by="client"}"#, 0.0),
            (r#"websocket_lifetime_seconds_bucket{le="60.0"}"#, 0.0),
            (r#"websocket_lifetime_seconds_bucket{le="100.0"}"#, 2.0),
            ("websocket_lifetime_seconds_sum", 122.0),
            (r#"websocket_header_bytes_bucket{le="6142.0"}"#, 0.0),
            (r#"websocket_header_bytes_bucket{le="8190.0"}"#, 2.0),
        ];
        for (series, value) in expected {
            assert_eq!(
                values.get(&format!("fluxlit_gateway_{series}")),
                Some(&value),
                "{series}"
            );
        }
        assert!(!values.contains_key(r#"fluxlit_gateway_upstream_ready{upstream="streamlit"}"#));
        let age = |upstream: &str| {
            let name = "fluxlit_gateway_upstream_check_age_seconds";
            values.get(&format!("{name}{{upstream=\"{upstream}\"}}"))
        };
        assert!(age("api").is_some() && age("streamlit").is_none());
    }
}
