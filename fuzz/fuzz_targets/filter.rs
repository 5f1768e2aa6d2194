//! Fuzzes the whole filter under wasmtime with headers in both directions. A trap would end the VM of an Envoy worker.
//!
//! `FLUXLIT_TEST_FILTER` is the path of the module.
#![no_main]

use std::cell::OnceCell;

use host_test::{Filter, HeaderMap, Plugin, StartOptions, envoy};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 20] = [
    ":path",
    ":authority",
    ":method",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "forwarded",
    "x-real-ip",
    "connection",
    "upgrade",
    "content-type",
    "x-envoy-original-url",
    "location",
    "content-location",
    "refresh",
    "set-cookie",
    "strict-transport-security",
    ":status",
];

const CONFIGURATION: &str = r#"{
    "trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "xff_mode": "chain", "prefix_from_header": true,
    "mounts": [{"root_path": "/a"}, {"root_path": "/b", "upstream_path": "full"}], "hsts": true,
    "security_headers": true, "peer_filter_state_key": "fluxlit.peer"
}"#;

thread_local! {
    static PLUGIN: OnceCell<Plugin> = const { OnceCell::new() };
}

fn start() -> Plugin {
    let module =
        std::env::var_os("FLUXLIT_TEST_FILTER").expect("FLUXLIT_TEST_FILTER names the module");
    let filter = Filter::load(std::path::Path::new(&module)).expect("the filter can be loaded");
    filter
        .start(StartOptions {
            plugin_configuration: CONFIGURATION.as_bytes().to_vec(),
            ..StartOptions::default()
        })
        .expect("the configuration is accepted")
}

fuzz_target!(|bytes: &[u8]| {
    let peer = envoy::Peer::Ip("10.0.0.1:4711".parse().expect("an address"));
    let map = || -> HeaderMap {
        let mut map = HeaderMap::default();
        for (name, value) in fluxlit_fuzz::lines(&NAMES, bytes) {
            map.add(name, value);
        }
        map
    };
    PLUGIN.with(|plugin| {
        let plugin = plugin.get_or_init(start);
        let properties = envoy::with_recorded_peer(
            envoy::connection_properties(peer, true),
            "fluxlit.peer",
            peer,
        );
        let mut stream = plugin.stream(properties);
        stream.request_headers(map(), false);
        stream.request_trailers(map());
        stream.response_headers(map(), true);
        let outcome = stream.finish();
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    });
});
