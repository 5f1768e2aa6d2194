//! Calls the module as Envoy does, without Envoy: with faults, and with passes that a client makes look like redirects.

mod fake_envoy;
mod random;

use fake_envoy::{Module, envoy, lines};

const CONFIGURATION: &str = r#"{"root_path": "/app", "hsts": true, "security_headers": true, "peer_filter_state_key": "peer"}"#;

/// Begins a request from 192.0.2.1.
fn request(path: &str, more: &[(&str, &str)]) {
    let head = [
        (":method", "GET"),
        (":path", path),
        (":authority", "portal.example"),
    ];
    envoy(|envoy| {
        envoy.maps = [lines(&[&head, more].concat()), Vec::new(), Vec::new()];
        envoy.filter_state.clear();
        envoy
            .filter_state
            .insert(b"peer".to_vec(), b"192.0.2.1:4711".to_vec());
        envoy.reply = None;
        envoy.connection = 7;
    });
}

fn values(name: &str) -> Vec<String> {
    envoy(|envoy| {
        envoy.maps[0]
            .iter()
            .filter(|(other, _)| other == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    })
}

#[test]
fn a_forged_field_is_replaced_and_counted() {
    let module = Module::configure(CONFIGURATION).expect("valid");
    request(
        "/app/x",
        &[("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "6.6.6.6")],
    );
    let stream = module.stream();
    assert!(stream.request_headers());
    assert_eq!(values("x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(values("x-real-ip"), ["192.0.2.1"]);
    assert_eq!(values(":path"), ["/x"]);
    let mark = envoy(|envoy| {
        envoy
            .filter_state
            .get(b"wasm.fluxlit.client".as_slice())
            .cloned()
    });
    assert_eq!(mark.as_deref(), Some(b"192.0.2.1".as_slice()));
    let untrusted = envoy(|envoy| {
        envoy
            .counters
            .iter()
            .find(|(name, _)| name == "fluxlit.requests.untrusted")
            .cloned()
    });
    assert_eq!(
        untrusted,
        Some(("fluxlit.requests.untrusted".to_owned(), 1))
    );
}

#[test]
fn an_invalid_configuration_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", "there is no plugin configuration"),
        ("[]", "is not a JSON object"),
        (r#"{"root_paht": "/x"}"#, "root_paht"),
    ] {
        envoy(|envoy| envoy.log.clear());
        assert!(Module::configure(text).is_none(), "{text}");
        let log = envoy(|envoy| envoy.log.join("\n"));
        assert!(log.contains(reason), "{text}: {log}");
    }
}

/// A panic of the module must not reach Envoy. Here the functions of Envoy cause it.
#[test]
fn a_panic_is_a_500_for_one_request() {
    let module = Module::configure(CONFIGURATION).expect("valid");
    for fault in [
        "get_headers_size",
        "get_headers",
        "get_filter_state",
        "increment_counter",
        "add_header",
        "set_header",
        "set_filter_state",
        "clear_route_cache",
    ] {
        request("/app/x", &[("x-forwarded-for", "6.6.6.6")]);
        envoy(|envoy| envoy.fault = Some(fault));
        let stream = module.stream();
        assert!(!stream.request_headers(), "{fault}");
        let status = envoy(|envoy| envoy.reply.as_ref().map(|(status, ..)| *status));
        assert_eq!(status, Some(500), "{fault}");
        stream.complete();
        drop(stream);
        envoy(|envoy| envoy.fault = None);
        request("/app/x", &[]);
        assert!(module.stream().request_headers(), "after {fault}");
    }
}

#[test]
fn a_panic_in_a_response_is_a_500_with_the_headers_of_every_response() {
    let module = Module::configure(CONFIGURATION).expect("valid");
    request("/app/x", &[]);
    let stream = module.stream();
    assert!(stream.request_headers());
    envoy(|envoy| {
        envoy.maps[2] = lines(&[(":status", "200")]);
        envoy.fault = Some("add_header");
    });
    assert!(!stream.response_headers());
    let (status, fields, _) = envoy(|envoy| envoy.reply.take()).expect("a reply");
    envoy(|envoy| envoy.fault = None);
    assert_eq!(status, 500);
    assert!(
        fields.iter().any(|(name, _)| name == b"x-frame-options"),
        "{fields:?}"
    );
}

/// A trailer that names a client is removed, whatever its bytes are.
#[test]
fn a_forged_trailer_is_removed() {
    let module = Module::configure(CONFIGURATION).expect("valid");
    request("/app/x", &[]);
    envoy(|envoy| {
        envoy.maps[1] = vec![
            (b"x-real-ip".to_vec(), b"\xff\x00".to_vec()),
            (b"x-sum".to_vec(), b"1".to_vec()),
        ];
    });
    let stream = module.stream();
    assert!(stream.request_headers() && stream.request_trailers());
    let trailers = envoy(|envoy| envoy.maps[1].clone());
    assert_eq!(trailers, lines(&[("x-sum", "1")]));
}

/// Envoy refuses a line break in a field of an upstream. If one arrives all the same, it begins no other field.
#[test]
fn a_line_break_in_a_cookie_is_not_sent_on() {
    let module = Module::configure(CONFIGURATION).expect("valid");
    request("/app/x", &[]);
    let stream = module.stream();
    assert!(stream.request_headers());
    envoy(|envoy| {
        envoy.maps[2] = lines(&[
            (":status", "200"),
            ("set-cookie", "a=1\r\nx-forged: 1"),
            // It is rewritten, so all of them are written again.
            ("set-cookie", "b=1; Path=/"),
        ]);
    });
    assert!(stream.response_headers());
    let cookies = envoy(|envoy| {
        let fields = envoy.maps[2].iter();
        let cookies = fields.filter(|(name, _)| name == b"set-cookie");
        cookies.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    });
    assert_eq!(cookies, [b"b=1; Path=/app"]);
}

/// What a listener records is believed, and nothing takes its place if it is absent or invalid: Envoy's own address can be
/// that of a header.
#[test]
fn facts_about_the_connection() {
    const SOURCE_ADDRESS: u32 = 24;
    const TLS_VERSION: u32 = 31;
    const URI_NAME: u32 = 37;
    const BY_ADDRESS: &str = r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.0/8", "connection_facts_key": "facts"}"#;
    const BY_NAME: &str = r#"{"trust_proxy": true, "trusted_hops": 1, "trusted_identities": ["spiffe://mesh/proxy"],
        "connection_facts_key": "facts"}"#;
    let client = Some("198.51.100.7");
    let peer = Some("10.0.0.1");
    // Settings, the recorded text, the version of TLS and the name of the connection itself; the client and the scheme.
    for (settings, recorded, tls, name, address, scheme) in [
        (
            BY_ADDRESS,
            Some("TLSv1.3 10.0.0.1:1 -"),
            None,
            None,
            client,
            "https",
        ),
        (
            BY_ADDRESS,
            Some("- 10.0.0.1:1 -"),
            Some("TLSv1.3"),
            None,
            client,
            "http",
        ),
        (
            BY_ADDRESS,
            Some("- 192.0.2.1:1 -"),
            None,
            None,
            Some("192.0.2.1"),
            "http",
        ),
        (
            BY_ADDRESS,
            Some("10.0.0.1:1"),
            Some("TLSv1.3"),
            None,
            None,
            "https",
        ),
        (
            BY_ADDRESS,
            Some("- /run/x 10.0.0.1:1 -"),
            None,
            None,
            None,
            "http",
        ),
        (BY_ADDRESS, None, Some("TLSv1.3"), None, None, "https"),
        (BY_ADDRESS, None, None, None, None, "http"),
        (
            BY_NAME,
            Some("TLSv1.3 10.0.0.1:1 spiffe://mesh/proxy"),
            None,
            None,
            client,
            "https",
        ),
        (
            BY_NAME,
            Some("TLSv1.3 10.0.0.1:1 spiffe://mesh/other"),
            None,
            Some("spiffe://mesh/proxy"),
            peer,
            "https",
        ),
        // Recorded before the handshake.
        (
            BY_NAME,
            Some("TLSv1.2 10.0.0.1:1 -"),
            None,
            Some("spiffe://mesh/proxy"),
            client,
            "https",
        ),
        (
            BY_NAME,
            Some("TLSv1.2 10.0.0.1:1 -"),
            None,
            None,
            peer,
            "https",
        ),
    ] {
        let module = Module::configure(settings).expect("valid");
        request("/", &[("x-forwarded-for", "198.51.100.7")]);
        envoy(|envoy| {
            let recorded = recorded.map(|text| (b"facts".to_vec(), text.as_bytes().to_vec()));
            envoy.filter_state.extend(recorded);
            envoy.is_mutual_tls = name.is_some();
            let texts = [
                (SOURCE_ADDRESS, Some("10.0.0.1:1")),
                (TLS_VERSION, tls),
                (URI_NAME, name),
            ];
            let texts = texts.into_iter().filter_map(|(id, text)| Some((id, text?)));
            envoy.texts = texts
                .map(|(id, text)| (id, text.as_bytes().to_vec()))
                .collect();
        });
        let context = format!("{settings} {recorded:?} {tls:?} {name:?}");
        assert!(module.stream().request_headers(), "{context}");
        let addresses: Vec<String> = address.into_iter().map(str::to_owned).collect();
        assert_eq!(values("x-real-ip"), addresses, "{context}");
        // Envoy's own field is not in this request, so the policy has added its own.
        assert_eq!(values("x-forwarded-proto"), [scheme], "{context}");
    }
}

/// A client can send `x-envoy-original-url` itself, and end the stream before there is a response.
#[test]
fn a_client_cannot_make_an_ended_stream_look_like_a_redirect() {
    const URL: &str = "http://portal.example/app/x";
    let module = Module::configure(
        r#"{"root_path": "/app", "outside_mount": "reject", "peer_filter_state_key": "peer"}"#,
    )
    .expect("valid");
    request("/app/x", &[("x-envoy-original-url", URL)]);
    let stream = module.stream();
    assert!(stream.request_headers());
    assert_eq!(values(":path"), ["/x"]);
    assert_eq!(values("x-envoy-original-url"), [URL]);
    stream.complete();
    drop(stream);
    request(
        "/x",
        &[
            ("x-envoy-original-url", URL),
            ("x-forwarded-prefix", "/app"),
            ("x-forwarded-for", "6.6.6.6"),
        ],
    );
    // Outside the mount, the request is rejected because it is decided again.
    assert!(!module.stream().request_headers());
}

/// How a stream ends whose request was handed on, and what comes next on the same thread.
struct Ending {
    name: &'static str,
    /// `x-envoy-original-url` when the stream ends.
    original_url: Option<&'static str>,
    has_response: bool,
    /// The connection of the next request.
    next_connection: u64,
    /// How the next request differs: a field, and its value if it has one.
    next_change: Option<(&'static str, Option<&'static str>)>,
    is_decided_again: bool,
}

#[test]
fn only_a_redirect_of_envoy_is_not_decided_again() {
    const URL: &str = "http://portal.example/app/x";
    let redirect = |name, next_change, is_decided_again| Ending {
        name,
        original_url: Some(URL),
        has_response: false,
        next_connection: 7,
        next_change,
        is_decided_again,
    };
    for ending in [
        redirect("Envoy redirects", None, false),
        Ending {
            original_url: None,
            ..redirect("the client ends it early", None, true)
        },
        Ending {
            has_response: true,
            ..redirect("it has a response", None, true)
        },
        Ending {
            next_connection: 8,
            ..redirect("another connection", None, true)
        },
        redirect(
            "a filter in front adds a field",
            Some(("x-filter", Some("1"))),
            false,
        ),
        // Envoy has made no second pass, and the client sends a request that resembles it.
        redirect("another path", Some((":path", Some("/other"))), true),
        redirect(
            "another host",
            Some((":authority", Some("other.example"))),
            true,
        ),
        redirect(
            "another URL",
            Some(("x-envoy-original-url", Some("http://portal.example/"))),
            true,
        ),
        redirect(
            "another client",
            Some(("x-forwarded-for", Some("6.6.6.6"))),
            true,
        ),
        redirect(
            "another scheme",
            Some(("x-forwarded-proto", Some("https"))),
            true,
        ),
        redirect("no prefix", Some(("x-forwarded-prefix", None)), true),
        redirect("a user", Some(("x-auth-request-user", Some("eve"))), true),
    ] {
        let module = Module::configure(
            r#"{"root_path": "/app", "outside_mount": "reject", "peer_filter_state_key": "peer"}"#,
        )
        .expect("valid");
        request("/app/x", &[]);
        let stream = module.stream();
        assert!(stream.request_headers(), "{}", ending.name);
        if ending.has_response {
            envoy(|envoy| envoy.maps[2] = lines(&[(":status", "200")]));
            assert!(stream.response_headers());
        }
        set(":path", Some("/next"));
        set("x-envoy-original-url", ending.original_url);
        stream.complete();
        drop(stream);
        envoy(|envoy| {
            envoy.filter_state.remove(b"wasm.fluxlit.client".as_slice());
            envoy.connection = ending.next_connection;
        });
        set("x-envoy-original-url", Some(URL));
        if let Some((name, value)) = ending.next_change {
            set(name, value);
        }
        // Outside the mount, the request is rejected if it is decided again.
        let is_forwarded = module.stream().request_headers();
        assert_eq!(is_forwarded, !ending.is_decided_again, "{}", ending.name);
    }
}

/// Changes a field of the request.
fn set(name: &str, value: Option<&str>) {
    envoy(|envoy| {
        let fields = &mut envoy.maps[0];
        fields.retain(|(other, _)| other != name.as_bytes());
        fields.extend(value.map(|value| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    });
}
