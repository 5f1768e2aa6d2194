//! Attacks the shipped listener in real Envoy with a client that ignores the rules of the protocol.
//!
//! A request may have one of two results. Either it is rejected, with a 4xx or by closing the connection or stream, and
//! never reaches the upstream. Or the upstream receives it with the true client, scheme, host, port and mount, one line
//! each, and with no other field that a framework may read them from.
//!
//! The attacks are tables (`attacks/table.rs`). Each runs on each form of the listener ([`Form`]), as a plain request and
//! as a WebSocket handshake over HTTP/1.1 and as a plain request over HTTP/2, from an untrusted peer and through a trusted
//! peer that forwards what its client forged. The listeners that control planes make get all but the spellings of each name
//! and the single bytes, which no setting of Envoy affects.

#[path = "attacks/http2.rs"]
mod http2;
#[path = "attacks/request.rs"]
mod request;
#[path = "attacks/runner.rs"]
mod runner;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;
#[path = "attacks/table.rs"]
mod table;
#[path = "support/version.rs"]
mod version;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use fluxlit_cases::latin1;
use fluxlit_envoy::{MOUNT, Place};
use fluxlit_support::http1::read_head_blocking;
use fluxlit_support::port::local;

use request::{Attack, CERTIFICATE, to_field};
use runner::Expected::{Forwarded, Rejected};
use runner::{AttackRunner, Form, Listener, Paths, Peer, Protocol};
use table::{
    BODIES, HOST, HOSTS, HTTP1_LINES, HTTP2_FIELDS, HTTP2_TARGETS, LINES, PASSED, PROTECTED, Pair,
    REQUEST_LINES, TARGETS, TRUSTED, TRUSTED_FIELDS,
};

#[test]
fn the_listener_as_shipped() {
    attack(Form::Shipped);
}

#[test]
fn the_listener_behind_a_trusted_proxy() {
    attack(Form::Trusting);
}

#[test]
fn the_listener_with_tls() {
    attack(Form::Tls);
}

#[test]
fn the_filter_alone() {
    attack(Form::FilterAlone);
}

#[test]
fn the_listener_of_envoy_gateway() {
    attack(Form::Made(Place::EnvoyGateway));
}

#[test]
fn the_ingress_gateway_of_istio() {
    attack(Form::Made(Place::IstioGateway));
}

#[test]
fn the_sidecar_of_istio() {
    attack(Form::Made(Place::IstioSidecar));
}

#[test]
fn the_waypoint_of_istio() {
    attack(Form::Made(Place::IstioWaypoint));
}

#[track_caller]
fn attack(form: Form) {
    if matches!(form, Form::Made(place) if place != Place::EnvoyGateway)
        && support::parts().is_dynamic_module()
    {
        println!("{form:?}: Istio has no API for dynamic modules");
        return;
    }
    let mut runner = AttackRunner::start(form);
    let honest = Attack::new("an honest request");
    runner.run(&honest, ALL, BOTH);
    if !matches!(form, Form::Made(_)) {
        protected_names(&mut runner);
        bytes(&mut runner);
    }
    all_names(&mut runner);
    lines(&mut runner);
    long_lists(&mut runner);
    targets(&mut runner);
    hosts(&mut runner);
    bodies_and_trailers(&mut runner);
    http2_fields(&mut runner);
    trusted_peers(&mut runner);
    // The listener still serves honest requests.
    runner.run(&honest, ALL, BOTH);
    runner.end();
}

/// Sends each protected field, in every spelling.
fn protected_names(runner: &mut AttackRunner) {
    let is_alone = runner.form == Form::FilterAlone;
    let has_underscores = !runner.form.rejects_underscores();
    for (name, forged) in PROTECTED {
        let is_trusted = runner.form.trusts(Peer::Proxy) && TRUSTED_FIELDS.contains(name);
        let peers = if is_trusted { ATTACKER } else { BOTH };
        for (spelling, protocols) in [
            ((*name).to_owned(), ALL),
            // Names in HTTP/2 are in lower case.
            (name.to_ascii_uppercase(), HTTP1),
            (mixed_case(name), HTTP1),
        ] {
            let line = format!("{spelling}: {forged}");
            runner.run(&Attack::lines(&line, &[&line], Forwarded), protocols, peers);
            let what = format!("the trailer {line}, twice");
            runner.run(&Attack::trailers(what, &[&line, &line]), BODIED, BOTH);
        }
        if !name.contains('-') {
            continue;
        }
        let twin = name.replace('-', "_");
        for twin in [name.replacen('-', "_", 1), twin.to_ascii_uppercase(), twin] {
            let line = format!("{twin}: {forged}");
            let expected = if has_underscores { Forwarded } else { Rejected };
            runner.run(&Attack::lines(&line, &[&line], expected), ALL, BOTH);
            // Otherwise Envoy rejects such a trailer, but only after it has forwarded the head.
            if is_alone {
                let what = format!("the trailer {line}");
                runner.run(&Attack::trailers(what, &[&line]), BODIED, BOTH);
            }
        }
    }
}

/// Sends all protected fields together, and those with underscores.
fn all_names(runner: &mut AttackRunner) {
    let adds_certificate = runner.form.adds_certificate();
    let all = PROTECTED
        .iter()
        .filter(|(name, _)| !TRUSTED_FIELDS.contains(name))
        .filter(|(name, _)| !adds_certificate || *name != CERTIFICATE);
    let lines: Vec<String> = all
        .clone()
        .map(|(name, forged)| format!("{name}: {forged}"))
        .collect();
    let twins: Vec<String> = all
        .filter(|(name, _)| name.contains('-'))
        .map(|(name, forged)| format!("{}: {forged}", name.replace('-', "_")))
        .collect();
    let twins_are = if runner.form.rejects_underscores() {
        Rejected
    } else {
        Forwarded
    };
    for (what, lines, expected) in [
        ("everything at once", lines, Forwarded),
        ("everything with underscores", twins, twins_are),
    ] {
        // Envoy accepts a hundred fields.
        for (place, some) in lines.chunks(60).enumerate() {
            let what = format!("{what}, part {place}");
            runner.run(&Attack::lines(what, some, expected), ALL, BOTH);
        }
    }
}

fn lines(runner: &mut AttackRunner) {
    for (what, lines) in LINES {
        runner.run(&Attack::lines(*what, lines, Forwarded), ALL, BOTH);
    }
    for (what, lines, plain, handshake) in HTTP1_LINES {
        for (protocol, expected) in [(Protocol::Http1, plain), (Protocol::WebSocket, handshake)] {
            runner.run(&Attack::lines(*what, lines, *expected), &[protocol], BOTH);
        }
    }
}

fn long_lists(runner: &mut AttackRunner) {
    for (count, expected) in [(40, Forwarded), (5_000, Forwarded), (8_000, Rejected)] {
        let list = format!("X-Forwarded-For: {}", ["6.6.6.6"].repeat(count).join(", "));
        let what = format!("a list of {count} addresses");
        runner.run(&Attack::lines(what, &[list], expected), ALL, BOTH);
    }
    for (count, expected) in [(80, Forwarded), (120, Rejected)] {
        let lines = vec!["X-Real-IP: 6.6.6.6"; count];
        let attack = Attack::lines(format!("{count} lines"), &lines, expected);
        runner.run(&attack, ALL, BOTH);
    }
}

/// Sends each byte above ASCII, in fields that the filter reads and in one that it does not.
fn bytes(runner: &mut AttackRunner) {
    for byte in '\u{80}'..='\u{ff}' {
        let names = [
            "X-Forwarded-For",
            "Forwarded",
            "X-Auth-Request-User",
            "X-Note",
        ];
        let lines = names.map(|name| format!("{name}: for={byte}"));
        let what = format!("the byte {:#04x}", u32::from(byte));
        runner.run(&Attack::lines(what, &lines, Forwarded), BODIED, BOTH);
    }
}

fn targets(runner: &mut AttackRunner) {
    // Since 1.39, Envoy takes `..;a=b` for a dot segment. Older versions leave it to the filter.
    let version = version::version(&support::parts().envoy);
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok());
    let resolves_parameters = minor.is_some_and(|minor: u32| minor >= 39);
    for (table, protocols) in [(TARGETS, ALL), (HTTP2_TARGETS, &[Protocol::Http2])] {
        for (target, by_listener, by_filter) in table {
            // A listener that resolves dot segments alone leaves these to the filter.
            let is_left = ["%2f", "%5c"].iter().any(|slash| target.contains(slash))
                || target.starts_with("//");
            let want = match runner.form.paths() {
                _ if !resolves_parameters && target.contains("..;") => by_filter,
                Paths::Strict => by_listener,
                Paths::Resolved if !is_left => by_listener,
                Paths::Resolved | Paths::Unchanged => by_filter,
            };
            let mut attack = Attack::new(format!("the target {target:?}"));
            attack.target = (*target).to_owned();
            match want.parse() {
                Ok(status) => (attack.expected, attack.status) = (Rejected, Some(status)),
                Err(_) => attack.forwarded.target = (*want).to_owned(),
            }
            runner.run(&attack, protocols, BOTH);
        }
    }
    for (line, expected) in REQUEST_LINES {
        let mut attack = Attack::new(format!("the request line {line:?}"));
        attack.request_line = Some((*line).to_owned());
        attack.expected = *expected;
        runner.run(&attack, HTTP1, BOTH);
    }
}

fn hosts(runner: &mut AttackRunner) {
    for (hosts, host) in HOSTS {
        let mut attack = Attack::new(format!("the host {hosts:?}"));
        attack.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        match host {
            Some(host) if runner.form.serves(host) => {
                (*host).clone_into(&mut attack.forwarded.authority);
                hosts[0].clone_into(&mut attack.forwarded.host);
            }
            _ => attack.expected = Rejected,
        }
        runner.run(&attack, ALL, BOTH);
        attack.what.push_str(" with a forged X-Forwarded-Host");
        attack.lines = vec!["X-Forwarded-Host: evil.example".to_owned()];
        runner.run(&attack, ALL, ATTACKER);
    }
    let mut attack = Attack::lines("no host", &["X-Forwarded-Host: evil.example"], Rejected);
    attack.hosts = vec![String::new()];
    for place in [&mut attack.forwarded.authority, &mut attack.forwarded.host] {
        place.clear();
    }
    runner.run(&attack, HTTP1, ATTACKER);
    // The authority of an absolute target replaces `Host`. The client chooses the scheme: Envoy rejects https without TLS,
    // unless it leaves that to the filter.
    let https = match runner.form {
        Form::Shipped | Form::Trusting => Rejected,
        Form::Tls | Form::FilterAlone | Form::Made(_) => Forwarded,
    };
    for (start, expected) in [
        ("http://", Forwarded),
        ("HTTP://", Forwarded),
        ("http://evil@", Forwarded),
        ("https://", https),
    ] {
        let line = format!("GET {start}other.example{MOUNT}/x HTTP/1.1");
        let mut attack = Attack::new(format!("the request line {line:?}"));
        attack.request_line = Some(line);
        attack.hosts = vec!["evil.example".to_owned()];
        attack.expected = if runner.form.serves("other.example") {
            expected
        } else {
            Rejected
        };
        for place in [&mut attack.forwarded.authority, &mut attack.forwarded.host] {
            "other.example".clone_into(place);
        }
        runner.run(&attack, HTTP1, BOTH);
    }
}

fn bodies_and_trailers(runner: &mut AttackRunner) {
    for (what, lines, body, status) in BODIES {
        let mut attack = Attack::lines(format!("a body: {what}"), lines, Rejected);
        attack.status = Some(*status);
        attack.body = format!("{body}{}", hidden_request());
        runner.run(&attack, &[Protocol::Http1], BOTH);
    }
    // Where trailers are forwarded, an honest one arrives. This shows that the filter removes the forged ones of the table.
    let mut attack = Attack::trailers("an honest trailer", &["x-checksum: 1"]);
    if runner.form == Form::FilterAlone {
        attack.forwarded.trailers = vec![to_field("x-checksum: 1")];
    }
    runner.run(&attack, BODIED, BOTH);
}

fn http2_fields(runner: &mut AttackRunner) {
    for (what, fields, expected) in HTTP2_FIELDS {
        let mut attack = Attack::new(format!("HTTP/2: {what}"));
        let owned = |(name, value): &Pair| ((*name).to_owned(), (*value).to_owned());
        attack.fields = fields.iter().map(owned).collect();
        attack.expected = *expected;
        runner.run(&attack, &[Protocol::Http2], BOTH);
    }
}

fn trusted_peers(runner: &mut AttackRunner) {
    let trusts = runner.form.trusts(Peer::Trusted);
    for (what, lines, [client, scheme, authority]) in TRUSTED {
        // Where an identity is trusted, no address is.
        if runner.form == Form::Made(Place::IstioSidecar) && *what == "two trusted peers" {
            continue;
        }
        let mut attack = Attack::lines(format!("a trusted peer sends {what}"), lines, Forwarded);
        if trusts {
            attack.forwarded.client = Some((*client).to_owned());
            attack.forwarded.scheme =
                Some((*scheme).to_owned()).filter(|scheme| !scheme.is_empty());
            (*authority).clone_into(&mut attack.forwarded.authority);
        }
        runner.run(&attack, ALL, &[Peer::Trusted]);
    }
    let line = format!("{PASSED}: ann");
    let mut attack = Attack::lines("a user, in the field that may pass", &[&line], Forwarded);
    runner.run(&attack, ALL, ATTACKER);
    if runner.form.passes_user() {
        attack.forwarded.passed = vec![to_field(&line)];
    }
    runner.run(&attack, ALL, &[Peer::Trusted]);
}

/// Envoy does not parse the bytes after a handshake as HTTP, so no filter sees them. An upstream that rejects the handshake
/// would read them as the next request, from a peer that it trusts.
#[test]
fn no_request_after_a_handshake_bypasses_the_filter() {
    for form in [Form::Shipped, Form::Tls, Form::FilterAlone] {
        for lines in [
            &[][..],
            &["Content-Length: 0"],
            &["Transfer-Encoding: chunked"],
        ] {
            let (head, rest) = reject_handshake(form, lines);
            let rest = latin1::text(&rest);
            assert!(
                !rest.contains("evil"),
                "{form:?}, {lines:?}: after {head:?} came {rest:?}"
            );
        }
    }
}

/// Sends a handshake and a hidden request after it to an upstream that rejects the handshake. Returns what the upstream
/// received: the lines of the head, and all bytes after it.
fn reject_handshake(form: Form, lines: &[&str]) -> (Vec<String>, Vec<u8>) {
    let listener = TcpListener::bind(local(0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let upstream = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let reading = stream.try_clone().expect("a second handle");
        let mut reader = BufReader::new(reading);
        let head = read_head_blocking(&mut reader).expect("the head or the end");
        let head = head.map_or_else(Vec::new, |head| head.lines);
        let mut rest = Vec::new();
        if !head.is_empty() {
            stream
                .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                .expect("the response is sent");
            reader.read_to_end(&mut rest).expect("the end");
        }
        (head, rest)
    });
    let listener = Listener::start(form, address);
    let mut attack = Attack::lines("a handshake", lines, Forwarded);
    attack.body = format!("0\r\n\r\n{}", hidden_request());
    let request = attack.http1(1, Peer::Untrusted, true);
    let mut stream = listener.connect(Peer::Untrusted, Protocol::WebSocket);
    let status = runner::exchange(&mut stream, &request);
    assert!(
        status.is_none_or(|status| (400..500).contains(&status)),
        "{form:?}, {lines:?}: {status:?}"
    );
    // Ending Envoy closes its connection to the upstream. If there was none, the new connection unblocks the upstream.
    drop((stream, listener));
    drop(TcpStream::connect(address));
    upstream.join().expect("the upstream does not panic")
}

/// Returns a request that must not bypass the filter.
fn hidden_request() -> String {
    format!(
        "GET {MOUNT}/evil HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Auth-Request-User: evil\r\n\r\n"
    )
}

/// Writes every other letter of a name in upper case.
fn mixed_case(name: &str) -> String {
    let mixed = name.char_indices().map(|(place, letter)| match place % 2 {
        0 => letter,
        _ => letter.to_ascii_uppercase(),
    });
    mixed.collect()
}

const ALL: &[Protocol] = &[Protocol::Http1, Protocol::WebSocket, Protocol::Http2];
const HTTP1: &[Protocol] = &[Protocol::Http1, Protocol::WebSocket];
/// The protocols in which a request can have a body.
const BODIED: &[Protocol] = &[Protocol::Http1, Protocol::Http2];

const BOTH: &[Peer] = &[Peer::Untrusted, Peer::Proxy];
const ATTACKER: &[Peer] = &[Peer::Untrusted];
