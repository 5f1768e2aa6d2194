//! Tests liveness and readiness.

use crate::support::{Gateway, eventually, upstream, write};

#[test]
fn live_without_the_app() {
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")], &[]);
    let live = gateway.get("/api/healthz");
    assert!(
        live.starts_with("HTTP/1.1 200") && live.ends_with("{\"status\":\"ok\"}"),
        "{live}"
    );
    let head = gateway.send("HEAD /api/healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let post = gateway.send(
        "POST /api/healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    assert!(
        post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"),
        "{post}"
    );
}

/// An app that starts with the gateway is not a fault.
#[test]
fn an_app_that_does_not_listen_yet_is_no_warning() {
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")], &[]);
    let waits = eventually(|| gateway.log().contains("waiting for Streamlit"));
    let log = gateway.log();
    assert!(waits && !log.contains("WARN"), "{log}");
}

#[test]
fn not_ready_has_a_reason() {
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")], &[]);
    assert!(eventually(|| {
        let answer = gateway.get("/api/readyz");
        answer.starts_with("HTTP/1.1 503")
            && answer.contains("cannot be reached: Connection refused")
    }));
    let page =
        gateway.send("GET / HTTP/1.1\r\nhost: a\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    assert!(
        page.starts_with("HTTP/1.1 503") && page.contains("retry-after: 2"),
        "{page}"
    );
    assert!(
        page.contains("http-equiv=refresh"),
        "the page reloads itself: {page}"
    );
    let script = gateway.get("/data.json");
    assert!(
        script.starts_with("HTTP/1.1 503") && !script.contains("<html"),
        "{script}"
    );
}

/// Streamlit responds to every path with its page, so the health check compares the body too (FluxLit's defect 11).
#[test]
fn a_page_is_not_a_health_check() {
    let page = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = page.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in page.incoming().flatten() {
            let mut stream = std::io::BufReader::new(stream);
            crate::support::head(&mut stream);
            write(
                &mut stream,
                "HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n<html>Streamlit</html>",
            );
        }
    });
    let gateway = Gateway::start(
        &[("FLUXLIT_STREAMLIT_UPSTREAM", &format!("http://{address}"))],
        &[],
    );
    assert!(eventually(|| gateway
        .get("/api/readyz")
        .contains("did not return ok")));
}

#[test]
fn an_api_path_is_never_forwarded_to_the_app() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napp");
            true
        }),
        &[],
    );
    for path in ["/api", "/api/", "/api/nope"] {
        let answer = gateway.get(path);
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.ends_with("{\"detail\":\"Not Found\"}"),
            "{path}: {answer}"
        );
    }
    for path in ["/apix", "/second/_stcore/health", "/_stcore/health"] {
        assert!(
            gateway.get(path).ends_with("app"),
            "{path} is forwarded to the app"
        );
    }
}
