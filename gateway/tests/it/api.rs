//! The part of the app that is an API: which paths it has, what it is sent, and what it counts for.

use std::net::SocketAddr;

use crate::support::{Gateway, eventually, recording, upstream};
use crate::tunnel::handshake;

const APP: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napp";
const API: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napi";

fn gateway(app: SocketAddr, api: &str, settings: &[(&str, &str)]) -> Gateway {
    let mut all = vec![("FLUXLIT_API_UPSTREAM", api)];
    all.extend(settings);
    Gateway::before(app, &all)
}

#[test]
fn paths_of_an_api() {
    let (app, _) = recording(APP);
    let (api, seen) = recording(API);
    for (base, mount, asked, received) in [
        ("", "", "/api/items?a=b", "/items?a=b"),
        ("", "", "/api", "/"),
        ("", "", "/api/", "/"),
        ("", "", "/api/a%2Fb", "/a%2Fb"),
        ("/api", "", "/api/items", "/api/items"),
        ("", "/m", "/m/api/items", "/items"),
        ("/api", "/m", "/m/api/items", "/api/items"),
        ("/m/api", "/m", "/m/api/items", "/m/api/items"),
        ("/m/api", "/m", "/api/items", "/m/api/items"),
    ] {
        let gateway = gateway(
            app,
            &format!("http://{api}{base}"),
            &[("FLUXLIT_ROOT_PATH", mount)],
        );
        let answer = gateway.get(asked);
        assert!(answer.ends_with("api"), "{base} {mount} {asked}: {answer}");
        assert_eq!(
            seen.last().head[0],
            format!("GET {received} HTTP/1.1"),
            "{base} {mount} {asked}"
        );
        assert!(gateway.get(&format!("{mount}/apix")).ends_with("app"));
        assert!(gateway.get(&format!("{mount}/x/api/")).ends_with("app"));
    }
}

#[test]
fn an_api_is_held_to_the_same_rules() {
    let (app, app_seen) = recording(APP);
    let (api, seen) = recording(API);
    let gateway = gateway(
        app,
        &format!("http://{api}"),
        &[
            ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "10"),
            ("FLUXLIT_DROP_COOKIES", "session"),
        ],
    );
    let mut client = gateway.client();
    client.say(
        "GET /api/x HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\nx-remote-user: root\r\ncookie: session=x\r\n\r\n",
    );
    assert_eq!(client.answer().body, "api");
    let received = seen.last();
    assert_eq!(received.lines("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.lines("x-remote-user"), [""; 0]);
    assert_eq!(received.lines("x-request-id").len(), 1);
    assert_eq!(
        received.lines("cookie"),
        ["session=x"],
        "only Streamlit is spared an auth proxy's cookies"
    );
    for (request, status) in [
        (
            "PUT /api/x HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n",
            413,
        ),
        ("GET /api/../x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n", 200),
    ] {
        let mut client = gateway.client();
        client.say(request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        assert_ne!(answer.body, "api", "{request}");
    }
    // Streamlit's limits of a handshake are not an API's.
    let before = seen.count();
    let mut client = gateway.client();
    let long = handshake(&format!("cookie: {}\r\n", "a".repeat(9000)));
    client.say(&long.replacen("/_stcore/stream", "/api/stream", 1));
    assert_eq!(
        client.answer().status,
        200,
        "the API has no WebSocket there"
    );
    assert_eq!(seen.count(), before + 1);
    assert_eq!(app_seen.count(), 0);
}

#[test]
fn ready_means_both() {
    let (app, _) = recording(APP);
    let api = upstream(|received, stream| {
        let status = if received.head[0].starts_with("GET /alive ") {
            "200 OK"
        } else {
            "500 Oops"
        };
        crate::support::say(
            stream,
            &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"),
        );
        true
    });
    let own = format!("http://{app}");
    let api = format!("http://{api}");
    for (upstream, says) in [
        (
            api.as_str(),
            r#"{"api":"ok","status":"ready","streamlit":"ok"}"#,
        ),
        (
            "http://127.0.0.1:1",
            "the API at 127.0.0.1:1 cannot be reached",
        ),
    ] {
        let gateway = Gateway::start(
            &[
                ("FLUXLIT_STREAMLIT_UPSTREAM", &own),
                ("FLUXLIT_API_UPSTREAM", upstream),
                ("FLUXLIT_API_HEALTH_PATH", "/alive"),
            ],
            &[],
        );
        assert!(
            eventually(|| gateway.get("/api/readyz").contains(says)),
            "{}",
            gateway.get("/api/readyz")
        );
    }
}
