//! Finds what breaks WebSockets and streamed responses (F07).
//!
//! Streamlit's page is a WebSocket that stays open, with a ping every 30 seconds.

use std::time::Duration;

use serde_json::Value;

use crate::lint::envoy::{Envoy, Ours};
use crate::lint::message::{items, kind_of, text};
use crate::outcome::Outcome;

/// Checks one connection manager with the FluxLit filter.
pub(crate) fn check(envoy: &Envoy, ours: &Ours<'_>, outcome: &mut Outcome) {
    let place = ours.place();
    let config = &ours.manager.config;
    let allows = |part: &Value| {
        items(&part["upgrade_configs"]).any(|upgrade| {
            upgrade["enabled"] != false
                && upgrade["upgrade_type"]
                    .as_str()
                    .is_some_and(|kind| kind.eq_ignore_ascii_case("websocket"))
        })
    };
    let mut routes = ours.manager.forwarding_routes().peekable();
    let is_known = routes.peek().is_some();
    let on_routes: Vec<bool> = routes.map(|(_, route)| allows(&route["route"])).collect();
    let by_all_routes = is_known && on_routes.iter().all(|allowed| *allowed);
    if !allows(config) && !by_all_routes {
        outcome.fail(
            format!("{place}: WebSocket upgrades are not enabled, so Envoy answers 403 and the page stays empty"),
            "add upgrade_configs: [{upgrade_type: websocket}] to the connection manager",
        );
    } else {
        outcome.right(format!("{place}: WebSockets pass"));
    }
    http2(ours, &place, outcome);
    let idle = duration(&config["stream_idle_timeout"]);
    short_idle(&place, "stream_idle_timeout", idle, outcome);
    let common = &config["common_http_protocol_options"];
    if let Some(limit) = duration(&common["max_stream_duration"]).filter(|limit| !limit.is_zero()) {
        outcome.warn(
            format!("{place}: max_stream_duration ends every WebSocket after {limit:?}"),
            "remove it for the app",
        );
    }
    if let Some(limit) =
        duration(&config["request_timeout"]).filter(|limit| !limit.is_zero() && *limit < MINUTE)
    {
        outcome.warn(
            format!("{place}: request_timeout rejects uploads that take longer than {limit:?}"),
            "raise it, or use request_headers_timeout against slow clients",
        );
    }
    for filter in ours
        .manager
        .filters
        .iter()
        .filter(|filter| !filter.is_disabled)
    {
        if kind_of(&filter.config) == "Buffer" {
            outcome.fail(
                format!("{place}: the filter `{}` waits for the end of a request, which a WebSocket does not have", filter.name),
                "remove it, or disable it for the app's routes",
            );
        }
    }
    for (label, route) in ours.manager.forwarding_routes() {
        let action = &route["route"];
        match duration(&action["timeout"]) {
            Some(limit) if limit.is_zero() => {}
            limit => outcome.warn(
                format!(
                    "{label} ends responses after {}: downloads, streamed pages and in some versions WebSockets are cut",
                    limit.map_or("15s (the default)".to_owned(), |limit| format!("{limit:?}"))
                ),
                "set timeout: 0s on the route",
            ),
        }
        short_idle(
            &label,
            "idle_timeout",
            duration(&action["idle_timeout"]),
            outcome,
        );
        let names = items(&action["weighted_clusters"]["clusters"])
            .map(|cluster| text(&cluster["name"]))
            .chain([text(&action["cluster"])]);
        for name in names {
            upstream(envoy, &name, &label, outcome);
        }
    }
}

fn http2(ours: &Ours<'_>, place: &str, outcome: &mut Outcome) {
    let config = &ours.manager.config;
    let allows_connect = config["http2_protocol_options"]["allow_connect"] == true;
    let has_upgrade = items(&config["upgrade_configs"]).next().is_some();
    if allows_connect && !has_upgrade {
        outcome.fail(
            format!("{place}: allow_connect offers WebSockets in HTTP/2, but no upgrade is enabled: Firefox uses it and fails"),
            "add upgrade_configs: [{upgrade_type: websocket}], or remove allow_connect",
        );
    }
    let only_http2 = config["codec_type"] == "HTTP2" || ours.manager.alpn == ["h2"];
    if only_http2 && !allows_connect {
        outcome.fail(
            format!("{place}: only HTTP/2 is spoken, without allow_connect, so no WebSocket can be opened"),
            "offer http/1.1 as well (alpn_protocols: [h2, http/1.1], codec_type AUTO), or set http2_protocol_options.allow_connect: true",
        );
    }
}

/// The limit is shorter than two pings, so one lost ping ends the socket.
fn short_idle(place: &str, name: &str, limit: Option<Duration>, outcome: &mut Outcome) {
    if let Some(limit) = limit.filter(|limit| !limit.is_zero() && *limit < MINUTE) {
        outcome.fail(
            format!("{place}: {name} is {limit:?}, but Streamlit's ping comes every 30 seconds: WebSockets are cut"),
            "set at least 90s",
        );
    }
}

/// A WebSocket to an upstream that speaks HTTP/2 needs RFC 8441 there.
fn upstream(envoy: &Envoy, name: &str, label: &str, outcome: &mut Outcome) {
    let Some(cluster) = envoy.clusters.get(name) else {
        return;
    };
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let speaks_http2 = cluster.get("http2_protocol_options").is_some()
        || options["explicit_http_config"]
            .get("http2_protocol_options")
            .is_some();
    if speaks_http2 {
        outcome.fail(
            format!("{label} forwards to cluster `{name}` over HTTP/2, where Streamlit and the gateway accept no WebSocket"),
            "remove http2_protocol_options from the cluster",
        );
    }
}

/// Reads a duration as protobuf's JSON has it, such as `300s` or `0.5s`.
pub(crate) fn duration(value: &Value) -> Option<Duration> {
    let seconds = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

const MINUTE: Duration = Duration::from_secs(60);
