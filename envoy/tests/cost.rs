//! What does the filter cost for the typical request, in host calls and instructions?
//!
//! Each host call crosses from the module into Envoy and back, and each write makes Envoy forget the route it had
//! chosen. So the calls of a typical request are pinned one by one, and its instructions by a bound. Neither is a time:
//! both are the same on every machine. Who makes the filter cheaper lowers the bound.

#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;

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

/// The second of two streams: the first pays for what is made once.
fn typical(plugin: &Plugin) -> Outcome {
    let stream = || {
        let peer = envoy::Peer::Ip("203.0.113.9:4711".parse().expect("an address"));
        let properties: Properties = envoy::with_recorded_peer(
            envoy::connection_properties(peer, true),
            "fluxlit.peer",
            peer,
        );
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
        // Six forwarding fields and x-envoy-original-path, `:path`; on the way back HSTS, three security headers and
        // the cookie's path.
        ("proxy_replace_header_map_value", 13),
        // The route is chosen by the path without the mount.
        ("proxy_call_foreign_function", 1),
    ]);
    assert_eq!(outcome.calls, want);
}

/// What the filter adds to its rules: maps taken apart, edits carried out, the account kept.
#[test]
fn the_filter_costs_little_more_than_its_rules_and_the_copies_of_the_abi() {
    let ours = typical(&start(&filter(), SHIPPED));
    let alone = Filter::load(&support::named("FLUXLIT_TEST_POLICY")).expect("it can be loaded");
    let alone = typical(&start(&alone, SHIPPED));
    assert!(alone.calls.is_empty(), "{:?}", alone.calls);
    assert!(alone.paused.is_empty(), "it has not decided");
    let least = alone.fuel + ours.abi_fuel;
    println!(
        "fuel: {} in all; {} for the rules, {} for host calls and their copies",
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

/// What a typical exchange may cost, both ways.
const FUEL: u64 = 48_000;
