//! Asks Envoy with the filter, and the gateway behind it, for their decision records, and tries to get one without the key.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use fluxlit_envoy::{Bootstrap, Gateway};
use fluxlit_policy::{
    DecisionReport, Hop, Nonce, PROBE_FIELD, PathForm, PeerKind, Probe, ProbeKey, SEAL_FIELD,
    TrustOutcome,
};
use fluxlit_support::client::{connect, exchange};
use fluxlit_support::envoy::Envoy;
use fluxlit_support::http1::Response;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::script::ScriptedResponse;
use fluxlit_support::upstream::{Options, Upstream};
use fluxlit_support::wait::wait_until;
use fluxlit_system::named;

const KEY: &str = "a probe key of the tests";
const PATH: &str = "/apps/my-app/__fluxlit/record";
const LIMIT: Duration = Duration::from_secs(60);

/// Envoy with the filter in four workers, the gateway, and an app.
struct Edge {
    envoy: Envoy,
    address: SocketAddr,
    _gateway: Gateway,
    _app: Upstream,
    _folder: tempfile::TempDir,
}

impl Edge {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            answers_probes: true,
            ..Options::default()
        };
        let script = vec![ScriptedResponse::of_answer(
            &fluxlit_cases::Answer::default(),
        )];
        let app = Upstream::start(options, script).expect("a free port");
        let settings = [
            (
                "FLUXLIT_STREAMLIT_UPSTREAM",
                format!("http://{}", app.address),
            ),
            ("FLUXLIT_PROBE_KEY", KEY.to_owned()),
            ("FLUXLIT_TRUST_PROXY", "1".to_owned()),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1".to_owned()),
        ];
        let gateway = named("FLUXLIT_TEST_GATEWAY");
        let gateway =
            Gateway::start(&gateway, None, settings, folder.path()).expect("the gateway starts");
        assert!(gateway.wait_until_ready("", LIMIT), "the app is ready");
        let address = local(free_port().expect("a free port"));
        let filter = format!(
            r#"{{"root_path": "/apps/my-app", "outside_mount": "reject", "hsts": true,
                "peer_filter_state_key": "fluxlit.peer", "probe_key": "{KEY}"}}"#
        );
        let envoy = Bootstrap::shipped()
            .listening_on(address)
            .forwarding_to(gateway.address)
            .with_module(&named("FLUXLIT_TEST_FILTER"))
            .with_plugin_config(&filter)
            .start(
                &named("FLUXLIT_TEST_ENVOY"),
                folder.path(),
                &["--concurrency", "4"],
            )
            .expect("Envoy starts");
        Self {
            envoy,
            address,
            _gateway: gateway,
            _app: app,
            _folder: folder,
        }
    }

    fn ask(&self, field: &str) -> Response {
        let mut stream = connect(self.address).expect("a connection");
        exchange(&mut stream, &request(field), "GET").expect("a response")
    }
}

fn key() -> ProbeKey {
    ProbeKey::new(KEY).expect("a key")
}

/// Returns a new request. The numbers are different for each request of this process, which has its own Envoy.
fn probe(hop: Hop, number: u8) -> Probe {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nonce: Nonce = [number; 16];
    let now = since.expect("a clock").as_secs();
    Probe::new(hop, "portal.example.com", now, nonce).expect("a host")
}

fn request(field: &str) -> Vec<u8> {
    format!(
        "GET {PATH} HTTP/1.1\r\nhost: portal.example.com\r\nx-forwarded-for: 6.6.6.6\r\n\
         x-original-url: /v-url\r\ncookie: v-cookie\r\n{PROBE_FIELD}: {field}\r\n\r\n"
    )
    .into_bytes()
}

fn open(probe: &Probe, response: &Response) -> DecisionReport {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.values("cache-control"), ["no-store"]);
    assert_eq!(response.values("content-type"), ["application/json"]);
    let seal = response.values(SEAL_FIELD)[0].to_owned();
    DecisionReport::open(&key(), probe, seal.as_bytes(), &response.body).expect("a report")
}

#[test]
fn each_hop_answers_for_itself() {
    let edge = Edge::start();
    let of_filter = probe(Hop::Filter, 1);
    let response = edge.ask(&of_filter.field(&key()));
    let filter = open(&of_filter, &response);
    let of_gateway = probe(Hop::Gateway, 2);
    let response_of_gateway = edge.ask(&of_gateway.field(&key()));
    let gateway = open(&of_gateway, &response_of_gateway);

    let keys = |report: &DecisionReport| -> BTreeSet<String> {
        let report = serde_json::to_value(report).expect("JSON");
        report
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(keys(&filter), keys(&gateway));
    for report in [&filter, &gateway] {
        assert_eq!(report.peer, PeerKind::Ip);
        assert_eq!(report.client, "127.0.0.1".parse().ok());
        assert_eq!(report.host.as_deref(), Some("portal.example.com"));
        assert_eq!(report.reply, None);
        assert!(report.set.contains(&"x-forwarded-for".to_owned()));
    }
    // A client of Envoy is not trusted, and what it has forged is gone when the gateway sees the request.
    assert_eq!(filter.trust, TrustOutcome::Untrusted);
    assert!(filter.forwarded_ignored);
    assert!(filter.removed.contains(&"x-original-url".to_owned()));
    assert_eq!(filter.mount, "/apps/my-app");
    assert_eq!(filter.received_path, Some(PathForm::Full));
    assert_ne!(gateway.trust, TrustOutcome::Untrusted);
    assert!(!gateway.removed.contains(&"x-original-url".to_owned()));
    for response in [response, response_of_gateway] {
        let text = response.text();
        assert!(!text.contains("6.6.6.6") && !text.contains("v-"), "{text}");
    }
}

/// Each worker of Envoy has its own VM, and the kernel distributes connections among them.
#[test]
fn no_worker_of_envoy_answers_what_another_has_answered() {
    let edge = Edge::start();
    for round in 0..8 {
        let field = probe(Hop::Filter, round).field(&key());
        let start = Barrier::new(16);
        let sealed = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let mut stream = connect(edge.address).expect("a connection");
                        start.wait();
                        let response = exchange(&mut stream, &request(&field), "GET");
                        let response = response.expect("a response");
                        !response.values(SEAL_FIELD).is_empty()
                    })
                })
                .collect();
            let answers = clients
                .into_iter()
                .map(|client| client.join().expect("no panic"));
            answers.filter(|is_sealed| *is_sealed).count()
        });
        assert_eq!(sealed, 1, "round {round}");
        for _ in 0..16 {
            assert!(edge.ask(&field).values(SEAL_FIELD).is_empty());
        }
    }
    assert!(wait_until(LIMIT, || {
        let counts = edge
            .envoy
            .admin()
            .get("/stats/prometheus")
            .unwrap_or_default();
        counts.contains("fluxlit_probes_answered{} 8")
            && counts.contains("fluxlit_probes_replayed{} 248")
    }));
}

#[test]
fn without_the_key_a_request_is_forwarded_like_any_other() {
    let edge = Edge::start();
    let other = ProbeKey::new("another key of 16 bytes").expect("a key");
    let none = edge.ask("");
    for field in [
        probe(Hop::Filter, 1).field(&other),
        probe(Hop::Gateway, 2).field(&other),
        probe(Hop::Filter, 3)
            .field(&key())
            .replace("hop=filter", "hop=gateway"),
        "v1".to_owned(),
    ] {
        let response = edge.ask(&field);
        assert_eq!(response.status, none.status, "{field}");
        assert_eq!(response.body, none.body, "{field}");
        assert!(response.values(SEAL_FIELD).is_empty(), "{field}");
    }
}
