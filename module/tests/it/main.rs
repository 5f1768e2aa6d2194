//! Calls the module as Envoy does, without Envoy: with faults, and with passes that a client makes look like redirects.

mod fake_envoy;

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

/// How a stream ends whose request was handed on, and what comes next on the same thread.
struct Ending {
    name: &'static str,
    /// `x-envoy-original-url` when the stream ends.
    original_url: Option<&'static str>,
    has_response: bool,
    /// The next request: its connection, path and `x-envoy-original-url`.
    next: (u64, &'static str, &'static str),
    is_decided_again: bool,
}

#[test]
fn only_a_redirect_of_envoy_is_not_decided_again() {
    const URL: &str = "http://portal.example/app/x";
    let ending = |name, original_url, has_response, next, is_decided_again| Ending {
        name,
        original_url,
        has_response,
        next,
        is_decided_again,
    };
    for ending in [
        ending(
            "Envoy redirects",
            Some(URL),
            false,
            (7, "/next", URL),
            false,
        ),
        ending(
            "the client ends it early",
            None,
            false,
            (7, "/next", URL),
            true,
        ),
        ending(
            "it has a response",
            Some(URL),
            true,
            (7, "/next", URL),
            true,
        ),
        ending(
            "another connection",
            Some(URL),
            false,
            (8, "/next", URL),
            true,
        ),
        ending("another path", Some(URL), false, (7, "/other", URL), true),
        ending(
            "another URL",
            Some(URL),
            false,
            (7, "/next", "http://portal.example/"),
            true,
        ),
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
        envoy(|envoy| {
            let fields = &mut envoy.maps[0];
            fields.retain(|(name, _)| name != b":path");
            fields.extend(lines(&[(":path", "/next")]));
            if let Some(url) = ending.original_url {
                fields.extend(lines(&[("x-envoy-original-url", url)]));
            }
        });
        stream.complete();
        drop(stream);
        let (connection, path, url) = ending.next;
        request(
            path,
            &[
                ("x-envoy-original-url", url),
                ("x-forwarded-prefix", "/app"),
                ("x-forwarded-for", "192.0.2.1"),
            ],
        );
        envoy(|envoy| envoy.connection = connection);
        // Outside the mount, the request is rejected if it is decided again.
        let is_forwarded = module.stream().request_headers();
        assert_eq!(is_forwarded, !ending.is_decided_again, "{}", ending.name);
    }
}
