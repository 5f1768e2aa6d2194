//! Pins the filter's cost for a typical request, in host calls and instructions, and checks that no status ends its VM.
//!
//! Each host call crosses from the module into Envoy and back, and each write makes Envoy select the route again. So the
//! calls of a typical request are pinned one by one, and its instructions by a bound. Neither depends on the speed of the
//! machine. A change that makes the filter cheaper lowers the bound.

#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use host_test::abi::{Status, Value};
use host_test::vm::{Fault, FaultPoint};
use host_test::{Filter, Outcome, Plugin, Properties, StartOptions, envoy, lines};

const REQUEST: [(&str, &str); 16] = [
    (":method", "GET"),
    (":path", "/apps/my-app/_stcore/host-config?x=1"),
    (":authority", "portal.example.com"),
    (":scheme", "https"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
    ("cache-control", "no-cache"),
    (
        "cookie",
        "_streamlit_xsrf=2|5c2b|a7d0a2d0ffb1|1763900000; theme=dark",
    ),
    ("referer", "https://portal.example.com/apps/my-app/"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    ),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "http"),
    ("x-request-id", "0b0e8f0e-6d5b-4d4e-9d5e-2f6d3c1c8a11"),
];

const RESPONSE: [(&str, &str); 6] = [
    (":status", "200"),
    ("cache-control", "no-cache"),
    ("content-length", "2"),
    ("content-type", "application/json"),
    ("server", "envoy"),
    (
        "set-cookie",
        "_streamlit_xsrf=2|5c2b|a7d0a2d0ffb1|1763900000; Path=/",
    ),
];

const SHIPPED: &str = include_str!("../plugin-config.json");

fn start(filter: &Filter, configuration: &str) -> Plugin {
    let options = StartOptions {
        plugin_configuration: configuration.as_bytes().to_vec(),
        ..StartOptions::default()
    };
    filter
        .start(options)
        .expect("the configuration is accepted")
}

/// Runs two streams and returns the second outcome, because the first one includes one-time costs.
fn typical(plugin: &Plugin) -> Outcome {
    typical_over(plugin, true)
}

/// The same, over TLS or not.
fn typical_over(plugin: &Plugin, is_tls: bool) -> Outcome {
    let stream = || {
        let peer = envoy::Peer::Ip("203.0.113.9:4711".parse().expect("an address"));
        let properties: Properties = envoy::with_recorded_peer(
            envoy::connection_properties(peer, is_tls),
            "fluxlit.peer",
            peer,
        );
        let version = if is_tls { "TLSv1.3" } else { "-" };
        let facts = format!("{version} 203.0.113.9:4711 -");
        let properties =
            properties.with(&["filter_state", "fluxlit.connection"], Value::Text(facts));
        let mut stream = plugin.stream(properties);
        stream.request_headers(lines(&REQUEST), true);
        stream.response_headers(lines(&RESPONSE), true);
        stream.finish()
    };
    stream();
    stream()
}

fn filter() -> Filter {
    Filter::load(&support::parts().module).expect("the filter can be loaded")
}

#[test]
fn a_typical_request_makes_these_host_calls() {
    let outcome = typical(&start(&filter(), SHIPPED));
    let want = BTreeMap::from([
        // Headers of the request, headers of the response.
        ("proxy_get_header_map_pairs", 2),
        // The recorded peer, the version of TLS.
        ("proxy_get_property", 2),
        // The client's address, for access logs, RBAC and rate limits.
        ("proxy_set_property", 1),
        // Absent fields: four forwarding fields and x-envoy-original-path in the request; HSTS and three security headers
        // in the response.
        ("proxy_add_header_map_value", 9),
        // Present fields: two forged forwarding fields and `:path` in the request, the cookie's path in the response.
        ("proxy_replace_header_map_value", 4),
    ]);
    assert_eq!(outcome.calls, want);
}

/// Each call that hands data to the module makes Envoy enter the module once more: two header maps and one text are the least.
#[test]
fn the_facts_about_a_connection_are_one_property() {
    let config = SHIPPED.replace(
        r#""peer_filter_state_key": "fluxlit.peer""#,
        r#""connection_facts_key": "fluxlit.connection""#,
    );
    let plugin = start(&filter(), &config);
    for is_tls in [true, false] {
        let outcome = typical_over(&plugin, is_tls);
        let reading: BTreeMap<&str, u64> = outcome
            .calls
            .iter()
            .filter(|(name, _)| name.starts_with("proxy_get_"))
            .map(|(name, count)| (*name, *count))
            .collect();
        let want = BTreeMap::from([("proxy_get_header_map_pairs", 2), ("proxy_get_property", 1)]);
        assert_eq!(reading, want, "TLS: {is_tls}");
        let sent = outcome.upstream.expect("the request is forwarded").headers;
        let scheme = if is_tls { "https" } else { "http" };
        assert_eq!(sent.get("x-forwarded-for"), Some(b"203.0.113.9".as_slice()));
        assert_eq!(sent.get("x-forwarded-proto"), Some(scheme.as_bytes()));
    }
}

/// Envoy calls every callback that the module exports, even one that does nothing: a body callback would run for each
/// chunk of a body and each WebSocket frame.
#[test]
fn the_module_exports_only_the_callbacks_that_it_implements() {
    let filter = filter();
    let callbacks: Vec<&str> = filter
        .inspection()
        .exports
        .iter()
        .filter(|name| name.starts_with("proxy_on_"))
        .map(String::as_str)
        .collect();
    let want = [
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_delete",
        "proxy_on_memory_allocate",
        "proxy_on_request_headers",
        "proxy_on_request_trailers",
        "proxy_on_response_headers",
        "proxy_on_tick",
    ];
    assert_eq!(callbacks, want);
}

/// The SDK panics on a status that it does not expect, and a panic ends the VM for all requests of the worker. The calls
/// whose status depends on a request, on its phase or on other filters do not go through the SDK.
#[test]
fn no_status_of_a_host_call_ends_the_vm() {
    let filter = filter();
    let statuses = Status::ALL
        .into_iter()
        .filter(|status| *status != Status::Ok);
    for status in statuses {
        for (function, is_vital) in [
            ("proxy_add_header_map_value", true),
            ("proxy_get_header_map_pairs", true),
            ("proxy_get_property", false),
            ("proxy_replace_header_map_value", true),
            ("proxy_send_local_response", false),
            ("proxy_set_property", false),
        ] {
            let what = format!("{function} returns {status:?}");
            let at = FaultPoint::HostCall {
                function: function.to_owned(),
                status,
            };
            let options = StartOptions {
                plugin_configuration: SHIPPED.as_bytes().to_vec(),
                faults: vec![Fault { at, occurrence: 0 }],
                ..StartOptions::default()
            };
            let plugin = filter
                .start(options)
                .expect("the configuration is accepted");
            let outcome = typical(&plugin);
            assert_eq!(outcome.failure, None, "{what}");
            assert_eq!(outcome.upstream.is_none(), is_vital, "{what}: {outcome:?}");
        }
    }
}

/// Compares the filter with its rules alone: in addition, it splits header maps, applies edits and counts.
#[test]
fn the_filter_costs_little_more_than_its_rules_and_the_copies_of_the_abi() {
    let ours = typical(&start(&filter(), SHIPPED));
    let alone =
        Filter::load(&support::named("FLUXLIT_TEST_POLICY")).expect("the rules can be loaded");
    let alone = typical(&start(&alone, SHIPPED));
    assert!(alone.calls.is_empty(), "{:?}", alone.calls);
    assert!(
        alone.paused.is_empty(),
        "the rules alone did not reach a decision"
    );
    let least = alone.fuel + ours.abi_fuel;
    println!(
        "fuel: {} in total; {} for the rules, {} for host calls and their copies",
        ours.fuel, alone.fuel, ours.abi_fuel
    );
    assert!(
        ours.fuel * 10 <= least * 15,
        "{} of {}",
        ours.fuel,
        least * 15 / 10
    );
}

#[test]
fn instructions_are_bounded_and_do_not_grow_with_the_configuration() {
    let filter = filter();
    let one_mount = typical(&start(&filter, SHIPPED)).fuel;
    let mut many_mounts = SHIPPED.replace(
        r#""root_path": "/apps/my-app","#,
        r#""mounts": [{"root_path": "/apps/my-app"}*],"#,
    );
    let mut others = String::new();
    for number in 1..500 {
        let _ = write!(others, r#", {{"root_path": "/apps/app-{number}"}}"#);
    }
    many_mounts = many_mounts.replace('*', &others);
    let many_mounts = typical(&start(&filter, &many_mounts)).fuel;

    let networks = |count: u32| {
        let list: Vec<String> = (0..count)
            .map(|number| format!("10.{}.{}.0/25", number >> 8, number & 255))
            .collect();
        let with_list = format!(
            r#"{{"trust_proxy": true, "forwarded_allow_ips": "{}","#,
            list.join(",")
        );
        typical(&start(&filter, &SHIPPED.replacen('{', &with_list, 1))).fuel
    };
    let (one_network, many_networks) = (networks(1), networks(1000));
    println!(
        "fuel: {one_mount}; 500 mounts {many_mounts}; networks: 1 {one_network}, 1000 {many_networks}"
    );
    assert!(one_mount <= FUEL, "{one_mount} of {FUEL}");
    assert!(
        many_mounts * 10 <= one_mount * 11,
        "{one_mount} becomes {many_mounts}"
    );
    assert!(
        many_networks * 10 <= one_network * 11,
        "{one_network} becomes {many_networks}"
    );
}

/// The fuel that a typical request and its response may cost.
const FUEL: u64 = 40_000;
