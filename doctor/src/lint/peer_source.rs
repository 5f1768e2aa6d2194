//! Finds listeners where the filter cannot tell the direct peer (F01).
//!
//! Envoy's `source.address` is the address of the connection only if no header can replace it. By default any client
//! replaces it by `X-Forwarded-For`. What the listener records before it reads a header is independent of that.

use fluxlit_policy::ConnectionFacts;
use serde_json::Value;

use crate::lint::envoy::{HttpFilter, Manager, Ours};
use crate::lint::message::{items, text};
use crate::outcome::Outcome;

/// Checks one connection manager with the FluxLit filter.
pub(crate) fn check(ours: &Ours<'_>, outcome: &mut Outcome) {
    let settings = ours.filter.settings();
    match Record::of(&settings) {
        Some(record) => recorded(ours, &record, outcome),
        None if ours.filter.config.is_null() => {}
        // As at a waypoint, which has no address and no certificate of the peer.
        None if ours.manager.is_internal && settings["trust_proxy"] == false => {
            outcome.right(format!(
                "{}: trust_proxy is false, so no forwarded header is believed, whoever the peer is",
                ours.place()
            ));
        }
        None => source_address(ours.manager, &ours.place(), outcome),
    }
    forwarded_scheme(ours, &settings, outcome);
    proxy_protocol(ours.manager, &ours.place(), outcome);
}

/// What the settings say that the listener records.
pub(crate) struct Record<'a> {
    /// The setting with the key.
    pub(crate) setting: &'static str,
    /// The filter-state key.
    pub(crate) key: &'a str,
    /// The formats that the filter reads, recorded by a network filter and by an HTTP filter.
    formats: [&'static [&'static str]; 2],
}

impl<'a> Record<'a> {
    /// Returns what is recorded; `None` if the settings have no key.
    pub(crate) fn of(settings: &'a Value) -> Option<Self> {
        let peer = (
            "peer_filter_state_key",
            [NETWORK_FORMATS.as_slice(), HTTP_FORMATS.as_slice()],
        );
        let facts = (
            "connection_facts_key",
            [FACTS_FORMATS.as_slice(), [].as_slice()],
        );
        [peer, facts].into_iter().find_map(|(setting, formats)| {
            Some(Self {
                setting,
                key: settings[setting].as_str()?,
                formats,
            })
        })
    }
}

/// The peer is what a `set_filter_state` has recorded.
fn recorded(ours: &Ours<'_>, record: &Record<'_>, outcome: &mut Outcome) {
    let place = ours.place();
    let key = record.key;
    let [network_formats, http_formats] = record.formats;
    let filters = &ours.manager.network_filters;
    let recorded = |filter: &'_ Value| -> Vec<Value> {
        CONNECTION_EVENTS
            .iter()
            .flat_map(|event| values(&filter["typed_config"], event, key))
            .cloned()
            .collect()
    };
    let last = filters
        .iter()
        .rposition(|filter| !recorded(filter).is_empty());
    let Some(position) = last else {
        return recorded_by_http_filter(ours, record, http_formats, outcome);
    };
    for value in filters.get(position).into_iter().flat_map(recorded) {
        recorded_value(&value, key, &place, network_formats, outcome);
    }
    for later in filters.iter().skip(position).skip(1) {
        let kind = later["typed_config"]["@type"].as_str().unwrap_or_default();
        if CAN_SET_STATE.iter().any(|part| kind.contains(part)) {
            outcome.warn(
                format!(
                    "{place}: the network filter `{}` runs after the one that records `{key}`, and could overwrite it",
                    text(&later["name"])
                ),
                "put the set_filter_state filter directly before the connection manager",
            );
        }
    }
    outcome.right(format!(
        "{place}: the peer is recorded before any header is read"
    ));
}

fn recorded_by_http_filter(
    ours: &Ours<'_>,
    record: &Record<'_>,
    formats: &[&str],
    outcome: &mut Outcome,
) {
    let place = ours.place();
    let Record { setting, key, .. } = *record;
    let before = ours.manager.filters.iter().take(ours.position);
    let mut recorded = before
        .filter(|filter| !filter.is_disabled)
        .flat_map(|filter: &HttpFilter| values(&filter.config, "on_request_headers", key))
        .peekable();
    if recorded.peek().is_none() {
        outcome.fail(
            format!(
                "{place}: no filter before the connection manager records `{key}` ({setting}), so every peer is unknown and \
                 untrusted"
            ),
            format!(
                "directly before the connection manager, add {}",
                snippet(key, record.formats[0].first().copied().unwrap_or_default())
            ),
        );
        return;
    }
    for value in recorded {
        recorded_value(value, key, &place, formats, outcome);
    }
    outcome.right(format!("{place}: an HTTP filter records the direct peer"));
}

/// Returns what a `set_filter_state` message stores under a key.
fn values<'a>(config: &'a Value, event: &str, key: &'a str) -> impl Iterator<Item = &'a Value> {
    items(&config[event]).filter(move |value| value["object_key"] == key)
}

fn recorded_value(value: &Value, key: &str, place: &str, formats: &[&str], outcome: &mut Outcome) {
    let source = &value["format_string"];
    let format = source["text_format_source"]["inline_string"]
        .as_str()
        .or_else(|| source["text_format"].as_str());
    if !format.is_some_and(|format| formats.contains(&format)) {
        outcome.fail(
            format!(
                "{place}: `{key}` records {}, which is not the address of the connection",
                format.map_or("no inline text".to_owned(), |format| format!("`{format}`"))
            ),
            match formats {
                [] => "record it by a network filter before the connection manager".to_owned(),
                formats => format!("record one of {}", formats.join(", ")),
            },
        );
    }
    if value["factory_key"] != "envoy.string" {
        outcome.fail(
            format!(
                "{place}: `{key}` has the factory `{}`, which the filter cannot read",
                text(&value["factory_key"])
            ),
            "set factory_key: envoy.string",
        );
    }
}

/// The peer is `source.address`.
fn source_address(manager: &Manager, place: &str, outcome: &mut Outcome) {
    let config = &manager.config;
    let replaced = if items(&config["original_ip_detection_extensions"])
        .next()
        .is_some()
    {
        Some("original_ip_detection_extensions takes it from a header")
    } else if config["use_remote_address"] != true {
        Some(
            "use_remote_address is not true, so it is the last X-Forwarded-For element of any client",
        )
    } else if config["xff_num_trusted_hops"].as_u64().unwrap_or(0) > 0 {
        Some("xff_num_trusted_hops takes it from X-Forwarded-For")
    } else {
        None
    };
    match replaced {
        Some(reason) => outcome.fail(
            format!(
                "{place}: the address of the peer comes from a header ({reason}), so the filter treats the peer as unknown"
            ),
            format!(
                "set peer_filter_state_key: fluxlit.peer in the plugin configuration and, directly before the connection \
                 manager, add {}",
                snippet("fluxlit.peer", "%DOWNSTREAM_REMOTE_ADDRESS%")
            ),
        ),
        None => outcome.right(format!("{place}: no header can replace source.address")),
    }
}

/// Finds what changes the headers of a trusted peer before the filter reads them.
fn forwarded_scheme(ours: &Ours<'_>, settings: &Value, outcome: &mut Outcome) {
    let config = &ours.manager.config;
    if settings["trust_proxy"] != true || config["use_remote_address"] != true {
        return;
    }
    let hops = config["xff_num_trusted_hops"].as_u64().unwrap_or(0);
    if !ours.manager.has_tls && hops == 0 {
        outcome.warn(
            format!(
                "{}: trust_proxy is on, but with use_remote_address Envoy overwrites X-Forwarded-Proto by `http` before the \
                 filter reads it",
                ours.place()
            ),
            "set use_remote_address: false together with peer_filter_state_key, or terminate TLS in Envoy",
        );
    }
    if config["skip_xff_append"] != true {
        outcome.warn(
            format!(
                "{}: Envoy appends the peer to X-Forwarded-For before the filter reads it (skip_xff_append is not true)",
                ours.place()
            ),
            "set skip_xff_append: true; the filter writes X-Forwarded-For itself",
        );
    }
}

fn proxy_protocol(manager: &Manager, place: &str, outcome: &mut Outcome) {
    let accepts_both = manager
        .proxy_protocol()
        .is_some_and(|config| config["allow_requests_without_proxy_protocol"] == true);
    if accepts_both {
        outcome.warn(
            format!(
                "{place}: allow_requests_without_proxy_protocol lets every client that can connect choose its address by a \
                 PROXY header"
            ),
            "remove it, or make sure that only the load balancer can connect to this listener",
        );
    }
}

fn snippet(key: &str, format: &str) -> String {
    format!(
        "envoy.filters.network.set_filter_state with on_new_connection: [{{object_key: {key}, factory_key: envoy.string, \
         format_string: {{text_format_source: {{inline_string: \"{format}\"}}}}}}]"
    )
}

/// What names the connection, before the connection manager.
const NETWORK_FORMATS: [&str; 4] = [
    "%DOWNSTREAM_REMOTE_ADDRESS%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
];

/// The same in an HTTP filter, where headers have replaced the other one.
const HTTP_FORMATS: [&str; 2] = [
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
];

/// What names the connection, its TLS and its certificate.
const FACTS_FORMATS: [&str; 1] = [ConnectionFacts::FORMAT];

/// The events at which a network filter records.
pub(crate) const CONNECTION_EVENTS: [&str; 2] =
    ["on_new_connection", "on_downstream_tls_handshake"];

/// Parts of the types of network filters that can store filter state under any key.
const CAN_SET_STATE: [&str; 4] = [
    ".filters.network.wasm.",
    ".filters.network.golang.",
    ".filters.network.dynamic_modules.",
    ".filters.network.ext_proc.",
];
