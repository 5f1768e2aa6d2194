//! Tries to get the gateway's decision record: with the key, and as an attacker without it.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Barrier;
use std::time::SystemTime;

use fluxlit_policy::{
    DecisionReport, Hop, Nonce, PROBE_FIELD, PathForm, Probe, ProbeKey, SEAL_FIELD, TrustOutcome,
};
use uuid::Uuid;

use crate::client::Response;
use crate::support::{Gateway, command, eventually, recording};

const KEY: &str = "a probe key of the tests";
const KEY_SETTING: (&str, &str) = ("FLUXLIT_PROBE_KEY", KEY);
const ADMIN: (&str, &str) = ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0");
const METRICS: (&str, &str) = ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1");
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const PATH: &str = "/__fluxlit/record";

fn key() -> ProbeKey {
    ProbeKey::new(KEY).unwrap()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn nonce() -> Nonce {
    Uuid::new_v4().into_bytes()
}

/// A new request for the gateway's record.
fn probe() -> Probe {
    Probe::new(Hop::Gateway, "app.example", now(), nonce()).unwrap()
}

fn get(path: &str, field: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: app.example\r\n{PROBE_FIELD}: {field}\r\n\r\n")
}

fn ask(gateway: &Gateway, request: &str) -> Response {
    let mut client = gateway.client();
    client.send(request);
    client.response()
}

fn open(probe: &Probe, response: &Response) -> DecisionReport {
    let seal = response.values(SEAL_FIELD)[0].as_bytes();
    DecisionReport::open(&key(), probe, seal, response.body.as_bytes()).unwrap()
}

/// Returns the lines of a response that do not differ between two equal requests.
fn visible(response: &str) -> Vec<&str> {
    let differs = |line: &&str| line.starts_with("date:") || line.starts_with("x-request-id:");
    response.lines().filter(|line| !differs(line)).collect()
}

/// Returns the number of requests for the record with this result.
fn count(gateway: &Gateway, result: &str) -> u64 {
    let mut client = crate::client::Client::new(gateway.admin.unwrap());
    client.send("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
    let series = format!("fluxlit_gateway_probes_total{{result=\"{result}\"}} ");
    let body = client.response().body;
    let line = body.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

#[test]
fn the_holder_of_the_key_gets_the_record_at_the_mount_and_without_it() {
    let (address, seen) = recording(OK);
    let mount = ("FLUXLIT_ROOT_PATH", "/apps/my-app");
    let trust = ("FLUXLIT_TRUST_PROXY", "1");
    let list = ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1");
    let gateway = Gateway::in_front_of(address, &[KEY_SETTING, mount, trust, list]);
    let before = seen.requests().len();
    for (path, received) in [
        ("/apps/my-app/__fluxlit/record", PathForm::Full),
        ("/__fluxlit/record", PathForm::Stripped),
        ("/__fluxlit/record?x=1", PathForm::Stripped),
        ("/not/stripped/__fluxlit/record", PathForm::Stripped),
    ] {
        let probe = probe();
        let field = probe.field(&key());
        let forwarded =
            "x-forwarded-for: 203.0.113.7\r\nx-original-url: /v-url\r\ncookie: v-cookie";
        let request = get(path, &format!("{field}\r\n{forwarded}"));
        let response = ask(&gateway, &request);
        assert_eq!(response.status, 200, "{path}: {response:?}");
        assert_eq!(response.values("cache-control"), ["no-store"]);
        assert_eq!(response.values("content-type"), ["application/json"]);
        let report = open(&probe, &response);
        assert_eq!(report.hop, Hop::Gateway);
        assert_eq!(report.trust, TrustOutcome::TrustedHeader);
        assert_eq!(report.client, "203.0.113.7".parse().ok());
        assert_eq!(report.host.as_deref(), Some("app.example"));
        assert_eq!(report.received_path, Some(received), "{path}");
        assert_eq!(report.mount, "/apps/my-app");
        assert_eq!(report.reply, None);
        assert_eq!(report.removed, ["x-original-url"]);
        assert!(!response.body.contains("v-url") && !response.body.contains("v-cookie"));
    }
    let requests = seen.requests();
    let requests = &requests[before..];
    assert!(
        !requests.iter().any(|line| line.contains("record")),
        "{requests:?}"
    );
}

/// Such a request is answered before an app is found, so it can say why none is.
#[test]
fn a_record_says_why_a_request_would_be_rejected() {
    let (address, _seen) = recording(OK);
    let hosts = ("FLUXLIT_ALLOWED_HOSTS", "127.0.0.1,other.example");
    let full = ("FLUXLIT_ROOT_PATH_SHAPE", "full");
    let mount = ("FLUXLIT_ROOT_PATH", "/m");
    for (settings, reason) in [
        (&[KEY_SETTING, mount, full][..], "outside_mount"),
        (&[KEY_SETTING, hosts], "host_not_allowed"),
    ] {
        let mut all = vec![("FLUXLIT_STREAMLIT_UPSTREAM", "")];
        let upstream = format!("http://{address}");
        all[0].1 = &upstream;
        all.extend(settings);
        let gateway = Gateway::start(&all, &[]);
        let probe = probe();
        let response = ask(&gateway, &get("/x/__fluxlit/record", &probe.field(&key())));
        let reply = open(&probe, &response).reply;
        assert_eq!(reply.map(|reply| reply.label()), Some(reason));
    }
}

#[test]
fn an_attacker_sees_what_a_gateway_without_a_key_responds() {
    let (address, _seen) = recording(OK);
    let with = Gateway::in_front_of(address, &[KEY_SETTING, ADMIN, METRICS]);
    let without = Gateway::in_front_of(address, &[ADMIN, METRICS]);

    // What an attacker may have recorded, and what can be made of it.
    let recorded = probe();
    let time = recorded.time();
    let recorded = recorded.field(&key());
    let answered = ask(&with, &get(PATH, &recorded));
    assert_eq!(answered.status, 200, "{answered:?}");
    let of = |hop, time| Probe::new(hop, "app.example", time, nonce()).unwrap();
    let fresh = || of(Hop::Gateway, now()).field(&key());
    let (signed, mac) = recorded.rsplit_once(";mac=").unwrap();
    let renewed = recorded.replace(&format!("time={time}"), &format!("time={}", time + 1));
    let other_key = ProbeKey::new("another key of 16 bytes").unwrap();
    let post = get(PATH, &fresh()).replace("GET", "POST");
    let head = get(PATH, &fresh()).replace("GET", "HEAD");
    let two = format!("{}\r\n{PROBE_FIELD}: {}", fresh(), fresh());
    let seal = answered.values(SEAL_FIELD)[0];
    let upgrade = format!("{}\r\nconnection: upgrade\r\nupgrade: websocket", fresh());
    for (attack, request, result) in [
        (
            "no field",
            get(PATH, "").replace(PROBE_FIELD, "x-other"),
            None,
        ),
        ("an empty field", get(PATH, ""), Some("invalid")),
        (
            "a guess",
            get(PATH, &of(Hop::Gateway, now()).field(&other_key)),
            Some("invalid"),
        ),
        ("no MAC", get(PATH, signed), Some("invalid")),
        (
            "an empty MAC",
            get(PATH, &format!("{signed};mac=")),
            Some("invalid"),
        ),
        (
            "half of a MAC",
            get(PATH, &format!("{signed};mac={}", &mac[..32])),
            Some("invalid"),
        ),
        (
            "zeros",
            get(PATH, &format!("{signed};mac={}", "0".repeat(64))),
            Some("invalid"),
        ),
        (
            "the seal of an answer",
            get(PATH, &format!("{signed};mac={seal}")),
            Some("invalid"),
        ),
        ("a recorded request", get(PATH, &recorded), Some("replayed")),
        (
            "the same in capitals",
            get(PATH, &format!("{signed};mac={}", mac.to_uppercase())),
            Some("replayed"),
        ),
        (
            "the same below a path",
            get(&format!("/a/b{PATH}"), &recorded),
            Some("replayed"),
        ),
        ("a new time", get(PATH, &renewed), Some("invalid")),
        (
            "an old one",
            get(PATH, &of(Hop::Gateway, now() - 3600).field(&key())),
            Some("expired"),
        ),
        (
            "one from the future",
            get(PATH, &of(Hop::Gateway, now() + 3600).field(&key())),
            Some("expired"),
        ),
        (
            "one from 1970",
            get(PATH, &of(Hop::Gateway, 0).field(&key())),
            Some("expired"),
        ),
        (
            "one for the filter",
            get(PATH, &of(Hop::Filter, now()).field(&key())),
            None,
        ),
        ("two fields", get(PATH, &two), Some("invalid")),
        ("another method", post, None),
        ("HEAD", head, None),
        ("a WebSocket", get(PATH, &upgrade), None),
        (
            "an escaped path",
            get("/__fluxlit/%72ecord", &fresh()),
            None,
        ),
        ("a path below", get("/__fluxlit/record/x", &fresh()), None),
        (
            "a long field",
            get(PATH, &"v1;hop=gateway;".repeat(500)),
            Some("invalid"),
        ),
        (
            "octets that are no text",
            get(PATH, "v1;hop=\u{e9}"),
            Some("invalid"),
        ),
    ] {
        let before = result.map(|result| count(&with, result));
        let request = request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let got = with.send(&request);
        let want = without.send(&request);
        assert_eq!(visible(&got), visible(&want), "{attack}");
        assert!(
            got.starts_with("HTTP/1.1 ") && !got.contains(SEAL_FIELD),
            "{attack}: {got}"
        );
        let counted = result.map(|result| count(&with, result));
        assert_eq!(counted, before.map(|before| before + 1), "{attack}");
    }
    assert_eq!(count(&with, "answered"), 1);
    assert_eq!(count(&without, "invalid"), 0);
    // The listener for operators serves no app.
    let mut client = crate::client::Client::new(with.admin.unwrap());
    client.send(&get(PATH, &fresh()));
    assert_eq!(client.response().status, 404);
}

#[test]
fn of_many_equal_requests_at_once_one_is_answered() {
    let (address, _seen) = recording(OK);
    let workers = ("FLUXLIT_GATEWAY_WORKERS", "4");
    let gateway = Gateway::in_front_of(address, &[KEY_SETTING, workers]);
    for _ in 0..8 {
        let request = get(PATH, &probe().field(&key()));
        let start = Barrier::new(8);
        let answered = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = gateway.client();
                        start.wait();
                        client.send(&request);
                        client.response().status
                    })
                })
                .collect();
            let statuses = clients.into_iter().map(|client| client.join().unwrap());
            statuses.filter(|status| *status == 200).count()
        });
        assert_eq!(answered, 1);
    }
}

#[test]
fn too_many_requests_get_429_and_are_not_answered_later() {
    let (address, _seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[KEY_SETTING, ADMIN, METRICS]);
    let mut nonces = HashSet::new();
    // More are answered if the machine is slow, because one a second is.
    let (limited, response) = (0..250)
        .find_map(|_| {
            let probe = probe();
            let response = ask(&gateway, &get(PATH, &probe.field(&key())));
            assert!(nonces.insert(*probe.nonce()));
            match response.status {
                200 => None,
                _ => Some((probe, response)),
            }
        })
        .expect("a limit");
    assert!(nonces.len() > 20, "{}", nonces.len());
    assert_eq!(response.status, 429, "{response:?}");
    assert_eq!(response.values("retry-after"), ["1"]);
    let seal = response.values(SEAL_FIELD)[0].as_bytes();
    assert!(key().is_seal(seal, limited.nonce(), response.body.as_bytes()));
    assert_eq!(count(&gateway, "limited"), 1);
    let field = limited.field(&key());
    assert_eq!(ask(&gateway, &get(PATH, &field)).status, 404);
    assert_eq!(count(&gateway, "replayed"), 1);
    // After a second, another one is answered.
    assert!(eventually(|| {
        ask(&gateway, &get(PATH, &probe().field(&key()))).status == 200
    }));
}

#[test]
fn the_key_is_shown_nowhere() {
    let (address, _seen) = recording(OK);
    let debug = ("FLUXLIT_DEBUG", "1");
    let gateway = Gateway::in_front_of(address, &[KEY_SETTING, ADMIN, METRICS, debug]);
    let field = probe().field(&key());
    let record = ask(&gateway, &get(PATH, &field));
    assert_eq!(record.status, 200);
    let mut shown = vec![record.body, gateway.log()];
    for path in ["/__fluxlit/debug", "/metrics"] {
        let mut client = crate::client::Client::new(gateway.admin.unwrap());
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status, 200, "{path}");
        shown.push(response.body);
    }
    let run = |settings: &[(&str, &str)], subcommand: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"));
        command.env_clear().envs(settings.iter().copied());
        let output = command
            .args(subcommand)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&texts).into_owned(),
        )
    };
    let upstream = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1");
    for subcommand in [&["config"][..], &["config", "--json"]] {
        let (code, text) = run(&[KEY_SETTING, upstream], subcommand);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.to_ascii_lowercase().contains("probe_key"), "{text}");
        shown.push(text);
    }
    for text in shown {
        assert!(!text.contains(KEY), "{text}");
    }
    let (code, text) = run(&[("FLUXLIT_PROBE_KEY", "v-short"), upstream], &["config"]);
    assert_ne!(code, Some(0));
    assert!(text.contains("E18") && !text.contains("v-short"), "{text}");
}

#[test]
fn the_key_can_be_read_from_a_file() {
    let (address, _seen) = recording(OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe-key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let setting = ("FLUXLIT_PROBE_KEY_FILE", file.to_str().unwrap());
    let gateway = Gateway::in_front_of(address, &[setting]);
    let response = ask(&gateway, &get(PATH, &probe().field(&key())));
    assert_eq!(response.status, 200);
    let upstream = format!("http://{address}");
    let upstream = ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str());
    for (settings, text) in [
        (&[upstream, setting, KEY_SETTING][..], "use one of them"),
        (
            &[upstream, ("FLUXLIT_PROBE_KEY_FILE", "/nonexistent/key")],
            "/nonexistent/key",
        ),
    ] {
        let output = command(settings, &[])
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(text) && !error.contains(KEY), "{error}");
    }
}
