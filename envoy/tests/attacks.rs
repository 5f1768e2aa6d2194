//! Attacks on the listener that is shipped, in real Envoy, by a client that is bound by no rule.
//!
//! Whatever a client sends, one of two things may happen. Either the request is refused, with a 4xx or by closing the
//! connection or stream, and the upstream is never asked. Or the upstream receives it with the true client, scheme, host,
//! port and mount, one line each, and nothing else under any name that a framework may read them from.
//!
//! The attacks are tables (`attacks/table.rs`). Each is run on each form of the listener ([`Form`]), as a plain request and
//! as a WebSocket handshake over HTTP/1.1 and as a plain request over HTTP/2, from an untrusted peer and through a trusted
//! one that passes on what its client forged.

#[path = "attacks/edge.rs"]
mod edge;
#[path = "attacks/http2.rs"]
mod http2;
#[path = "attacks/request.rs"]
mod request;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;
#[path = "attacks/table.rs"]
mod table;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use fluxlit_cases::latin1;
use fluxlit_envoy::MOUNT;
use fluxlit_support::http1::read_head_blocking;
use fluxlit_support::port::local;

use edge::Fate::{Forwarded, Refused};
use edge::{Edge, Form, Gate, Peer, Way};
use request::{Attack, to_field};
use table::{
    BELIEVED_IF_TRUSTED, BODIES, GOVERNED, HOST, HOSTS, HTTP1_LINES, HTTP2_FIELDS, HTTP2_TARGETS,
    LINES, PASSED, Pair, REQUEST_LINES, TARGETS, TRUSTED,
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

#[track_caller]
fn attack(form: Form) {
    let mut edge = Edge::start(form);
    let honest = Attack::new("an honest request");
    edge.run(&honest, ALL, BOTH);
    governed_names(&mut edge);
    lines(&mut edge);
    long_lists(&mut edge);
    bytes(&mut edge);
    targets(&mut edge);
    hosts(&mut edge);
    bodies_and_trailers(&mut edge);
    http2_fields(&mut edge);
    trusted_peers(&mut edge);
    // Still standing, and honest to the honest.
    edge.run(&honest, ALL, BOTH);
    edge.end();
}

/// Each governed name, in every spelling.
fn governed_names(edge: &mut Edge) {
    let is_alone = edge.form == Form::FilterAlone;
    for (name, lie) in GOVERNED {
        let is_believed = edge.form != Form::Shipped && BELIEVED_IF_TRUSTED.contains(name);
        let peers = if is_believed { ATTACKER } else { BOTH };
        for (spelling, ways) in [
            ((*name).to_owned(), ALL),
            // Over HTTP/2 there is only the lower case.
            (name.to_ascii_uppercase(), HTTP1),
            (mixed_case(name), HTTP1),
        ] {
            let line = format!("{spelling}: {lie}");
            edge.run(&Attack::lines(&line, &[&line], Forwarded), ways, peers);
            let what = format!("the trailer {line}, twice");
            edge.run(&Attack::trailers(what, &[&line, &line]), BODIED, BOTH);
        }
        if !name.contains('-') {
            continue;
        }
        let twin = name.replace('-', "_");
        for twin in [name.replacen('-', "_", 1), twin.to_ascii_uppercase(), twin] {
            let line = format!("{twin}: {lie}");
            let fate = if is_alone { Forwarded } else { Refused };
            edge.run(&Attack::lines(&line, &[&line], fate), ALL, BOTH);
            // Where Envoy refuses such a trailer, the head is on its way already.
            if is_alone {
                let what = format!("the trailer {line}");
                edge.run(&Attack::trailers(what, &[&line]), BODIED, BOTH);
            }
        }
    }
    let all: Vec<String> = GOVERNED
        .iter()
        .filter(|(name, _)| !BELIEVED_IF_TRUSTED.contains(name))
        .map(|(name, lie)| format!("{name}: {lie}"))
        .collect();
    let attack = Attack::lines("everything at once", &all, Forwarded);
    edge.run(&attack, ALL, BOTH);
}

fn lines(edge: &mut Edge) {
    for (what, lines) in LINES {
        edge.run(&Attack::lines(*what, lines, Forwarded), ALL, BOTH);
    }
    for (what, lines, plain, handshake) in HTTP1_LINES {
        for (way, fate) in [(Way::Http1, plain), (Way::WebSocket, handshake)] {
            edge.run(&Attack::lines(*what, lines, *fate), &[way], BOTH);
        }
    }
}

fn long_lists(edge: &mut Edge) {
    for (count, fate) in [(40, Forwarded), (5_000, Forwarded), (8_000, Refused)] {
        let list = format!("X-Forwarded-For: {}", ["6.6.6.6"].repeat(count).join(", "));
        let what = format!("a list of {count} addresses");
        edge.run(&Attack::lines(what, &[list], fate), ALL, BOTH);
    }
    for (count, fate) in [(80, Forwarded), (120, Refused)] {
        let lines = vec!["X-Real-IP: 6.6.6.6"; count];
        let attack = Attack::lines(format!("{count} lines"), &lines, fate);
        edge.run(&attack, ALL, BOTH);
    }
}

/// Each byte above ASCII, in what is read and in what is not.
fn bytes(edge: &mut Edge) {
    for byte in '\u{80}'..='\u{ff}' {
        let names = [
            "X-Forwarded-For",
            "Forwarded",
            "X-Auth-Request-User",
            "X-Note",
        ];
        let lines = names.map(|name| format!("{name}: for={byte}"));
        let what = format!("the byte {:#04x}", u32::from(byte));
        edge.run(&Attack::lines(what, &lines, Forwarded), BODIED, BOTH);
    }
}

fn targets(edge: &mut Edge) {
    for (table, ways) in [(TARGETS, ALL), (HTTP2_TARGETS, &[Way::Http2])] {
        for (target, by_listener, by_filter) in table {
            let is_alone = edge.form == Form::FilterAlone;
            let want = if is_alone { by_filter } else { by_listener };
            let mut attack = Attack::new(format!("the target {target:?}"));
            attack.target = (*target).to_owned();
            match want.parse() {
                Ok(status) => (attack.fate, attack.status) = (Refused, Some(status)),
                Err(_) => attack.truth.target = (*want).to_owned(),
            }
            edge.run(&attack, ways, BOTH);
        }
    }
    for (line, fate) in REQUEST_LINES {
        let mut attack = Attack::new(format!("the request line {line:?}"));
        attack.request_line = Some((*line).to_owned());
        attack.fate = *fate;
        edge.run(&attack, HTTP1, BOTH);
    }
}

fn hosts(edge: &mut Edge) {
    for (hosts, host) in HOSTS {
        let mut attack = Attack::new(format!("the host {hosts:?}"));
        attack.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        match host {
            Some(host) => {
                (*host).clone_into(&mut attack.truth.authority);
                hosts[0].clone_into(&mut attack.truth.host);
            }
            None => attack.fate = Refused,
        }
        edge.run(&attack, ALL, BOTH);
        attack.what.push_str(" beside a forged one");
        attack.lines = vec!["X-Forwarded-Host: evil.example".to_owned()];
        edge.run(&attack, ALL, ATTACKER);
    }
    let mut attack = Attack::lines("no host", &["X-Forwarded-Host: evil.example"], Forwarded);
    attack.hosts = vec![String::new()];
    for place in [&mut attack.truth.authority, &mut attack.truth.host] {
        place.clear();
    }
    edge.run(&attack, HTTP1, ATTACKER);
    // The authority of an absolute target counts and `Host` does not. Its scheme is the client's word: Envoy refuses
    // https without TLS where it does not leave that to the filter.
    let https = match edge.form {
        Form::Shipped | Form::Trusting => Refused,
        Form::Tls | Form::FilterAlone => Forwarded,
    };
    for (start, fate) in [
        ("http://", Forwarded),
        ("HTTP://", Forwarded),
        ("http://evil@", Forwarded),
        ("https://", https),
    ] {
        let line = format!("GET {start}other.example{MOUNT}/x HTTP/1.1");
        let mut attack = Attack::new(format!("the request line {line:?}"));
        attack.request_line = Some(line);
        attack.hosts = vec!["evil.example".to_owned()];
        attack.fate = fate;
        for place in [&mut attack.truth.authority, &mut attack.truth.host] {
            "other.example".clone_into(place);
        }
        edge.run(&attack, HTTP1, BOTH);
    }
}

fn bodies_and_trailers(edge: &mut Edge) {
    for (what, lines, body, status) in BODIES {
        let mut attack = Attack::lines(format!("a body: {what}"), lines, Refused);
        attack.status = Some(*status);
        attack.body = format!("{body}{}", hidden_request());
        edge.run(&attack, &[Way::Http1], BOTH);
    }
    // Where trailers pass at all, an honest one does: so those of the table are removed and not lost.
    let mut attack = Attack::trailers("an honest trailer", &["x-checksum: 1"]);
    if edge.form == Form::FilterAlone {
        attack.truth.trailers = vec![to_field("x-checksum: 1")];
    }
    edge.run(&attack, BODIED, BOTH);
}

fn http2_fields(edge: &mut Edge) {
    for (what, fields, fate) in HTTP2_FIELDS {
        let mut attack = Attack::new(format!("HTTP/2: {what}"));
        let owned = |(name, value): &Pair| ((*name).to_owned(), (*value).to_owned());
        attack.fields = fields.iter().map(owned).collect();
        attack.fate = *fate;
        edge.run(&attack, &[Way::Http2], BOTH);
    }
}

fn trusted_peers(edge: &mut Edge) {
    let trusts = edge.form.trusts(Peer::Trusted);
    for (what, lines, [client, scheme, authority]) in TRUSTED {
        let mut attack = Attack::lines(format!("a trusted peer says {what}"), lines, Forwarded);
        if trusts {
            attack.truth.client = Some((*client).to_owned());
            attack.truth.scheme = Some((*scheme).to_owned()).filter(|scheme| !scheme.is_empty());
            (*authority).clone_into(&mut attack.truth.authority);
        }
        edge.run(&attack, ALL, &[Peer::Trusted]);
    }
    let line = format!("{PASSED}: ann");
    let mut attack = Attack::lines("a user, by the name that may pass", &[&line], Forwarded);
    edge.run(&attack, ALL, ATTACKER);
    if trusts {
        attack.truth.passed = vec![to_field(&line)];
    }
    edge.run(&attack, ALL, &[Peer::Trusted]);
}

/// What a client sends behind a handshake is not HTTP to Envoy, so no filter sees it. An upstream that refuses the
/// handshake would read it as the next request, from a peer that it trusts.
#[test]
fn nothing_gets_past_the_filter_behind_a_handshake() {
    for form in [Form::Shipped, Form::Tls, Form::FilterAlone] {
        for lines in [
            &[][..],
            &["Content-Length: 0"],
            &["Transfer-Encoding: chunked"],
        ] {
            let (head, behind) = refuse_handshake(form, lines);
            let behind = latin1::text(&behind);
            assert!(
                !behind.contains("evil"),
                "{form:?}, {lines:?}: behind {head:?} arrived {behind:?}"
            );
        }
    }
}

/// Sends a handshake and a hidden request behind it to an upstream that refuses, and returns what that received: the
/// lines of the head, and all bytes behind it.
fn refuse_handshake(form: Form, lines: &[&str]) -> (Vec<String>, Vec<u8>) {
    let listener = TcpListener::bind(local(0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let upstream = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let reading = stream.try_clone().expect("a second handle");
        let mut reader = BufReader::new(reading);
        let head = read_head_blocking(&mut reader).expect("the head or the end");
        let head = head.map_or_else(Vec::new, |head| head.lines);
        let mut behind = Vec::new();
        if !head.is_empty() {
            stream
                .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                .expect("the answer is sent");
            reader.read_to_end(&mut behind).expect("the end");
        }
        (head, behind)
    });
    let gate = Gate::start(form, address);
    let mut attack = Attack::lines("a handshake", lines, Forwarded);
    attack.body = format!("0\r\n\r\n{}", hidden_request());
    let request = attack.http1(1, Peer::Untrusted, true);
    let mut stream = gate.connect(Peer::Untrusted, Way::WebSocket);
    let status = edge::exchange(&mut stream, &request);
    assert!(
        status.is_none_or(|status| (400..500).contains(&status)),
        "{form:?}, {lines:?}: {status:?}"
    );
    // The end of Envoy ends its connection to the upstream; if there was none, this one takes its place.
    drop((stream, gate));
    drop(TcpStream::connect(address));
    upstream.join().expect("the upstream ends well")
}

/// A request that no filter must miss.
fn hidden_request() -> String {
    format!(
        "GET {MOUNT}/evil HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Auth-Request-User: evil\r\n\r\n"
    )
}

/// A name with every other letter in upper case.
fn mixed_case(name: &str) -> String {
    let mixed = name.char_indices().map(|(place, letter)| match place % 2 {
        0 => letter,
        _ => letter.to_ascii_uppercase(),
    });
    mixed.collect()
}

const ALL: &[Way] = &[Way::Http1, Way::WebSocket, Way::Http2];
const HTTP1: &[Way] = &[Way::Http1, Way::WebSocket];
/// The ways of a request that can have a body.
const BODIED: &[Way] = &[Way::Http1, Way::Http2];

const BOTH: &[Peer] = &[Peer::Untrusted, Peer::Proxy];
const ATTACKER: &[Peer] = &[Peer::Untrusted];
