//! Tests the part of an app that is an API: its paths, what it receives, and its readiness.

use std::net::SocketAddr;

use crate::support::{Gateway, eventually, recording, upstream};
use crate::tunnel::handshake;

const APP: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napp";
const API: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napi";

fn gateway(app: SocketAddr, api: &str, settings: &[(&str, &str)]) -> Gateway {
    let mut all = vec![("FLUXLIT_API_UPSTREAM", api)];
    all.extend(settings);
    Gateway::in_front_of(app, &all)
}

#[test]
fn the_api_receives_the_paths_that_its_upstream_says() {
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
fn the_api_is_subject_to_the_same_rules() {
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
    client.send(
        "GET /api/x HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\nx-remote-user: root\r\ncookie: session=x\r\n\r\n",
    );
    assert_eq!(client.response().body, "api");
    let received = seen.last();
    assert_eq!(received.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.values("x-remote-user"), [""; 0]);
    assert_eq!(received.values("x-request-id").len(), 1);
    assert_eq!(
        received.values("cookie"),
        ["session=x"],
        "cookies are dropped only for Streamlit"
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
        client.send(request);
        let answer = client.response();
        assert_eq!(answer.status, status, "{request}");
        assert_ne!(answer.body, "api", "{request}");
    }
    // Streamlit's limits of a handshake do not apply to an API.
    let before = seen.count();
    let mut client = gateway.client();
    let long = handshake(&format!("cookie: {}\r\n", "a".repeat(9000)));
    client.send(&long.replacen("/_stcore/stream", "/api/stream", 1));
    assert_eq!(
        client.response().status,
        200,
        "the API's response is forwarded"
    );
    assert_eq!(seen.count(), before + 1);
    assert_eq!(app_seen.count(), 0);
}

#[test]
fn ready_means_that_both_upstreams_are_ready() {
    let (app, _) = recording(APP);
    let api = upstream(|received, stream| {
        let status = if received.head[0].starts_with("GET /alive ") {
            "200 OK"
        } else {
            "500 Oops"
        };
        crate::support::write(
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
