//! Tests an API on real WSGI servers, which read less of HTTP/1.1 than the gateway does.
//!
//! Cheroot does not read trailers: it takes the first one for the next request. Waitress says 100 to a request without a body
//! that expects it, and never responds.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fluxlit_envoy::Gateway;
use fluxlit_support::client::get;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::service::Service;

use crate::pair::HOST;
use crate::support::{connect, exchange, named, parts};

/// A WSGI server, and a gateway in front of it.
struct Api {
    gateway: Gateway,
    server: SocketAddr,
    _service: Service,
    _folder: tempfile::TempDir,
}

impl Api {
    fn start(server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port().expect("a free port");
        let address = local(port);
        let mut command = Command::new(named("FLUXLIT_TEST_WSGI_PYTHON"));
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/wsgi.py"))
            .args([server, &port.to_string()]);
        let log = folder.path().join("wsgi.log");
        let service = Service::start("the WSGI server", command, &log, |_| {
            get(address, "/requests", None).is_ok()
        });
        let service = service.unwrap_or_else(|error| panic!("{error}"));
        let url = format!("http://{address}");
        let settings = [
            ("FLUXLIT_API_UPSTREAM", url.as_str()),
            ("FLUXLIT_API_HEALTH_PATH", "/requests"),
            // Nothing else is asked of it.
            ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1"),
        ];
        let gateway = Gateway::start(&parts().gateway, None, settings, folder.path())
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            gateway,
            server: address,
            _service: service,
            _folder: folder,
        }
    }

    /// Sends requests on one connection, and returns those that the server has received.
    #[track_caller]
    fn received(&self, requests: &[&str]) -> Vec<String> {
        let mut stream = connect(self.gateway.address);
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a connection");
        for request in requests {
            let (line, rest) = request.split_once("\r\n").expect("a request");
            let request = format!("{line}\r\nhost: {HOST}\r\n{rest}");
            let response = exchange(&mut stream, request.as_bytes(), "POST");
            assert_eq!(response.status, 200, "{request}: {}", response.text());
        }
        let list = get(self.server, "/requests", None).expect("a list");
        list.text().lines().map(str::to_owned).collect()
    }
}

const SERVERS: [&str; 2] = ["cheroot", "waitress"];

#[test]
fn a_trailer_is_no_request() {
    for server in SERVERS {
        let received = Api::start(server).received(&[
            "POST /api/a HTTP/1.1\r\ntransfer-encoding: chunked\r\ntrailer: X-A\r\n\r\n\
             3\r\nabc\r\n0\r\nDELETE: /smuggled HTTP/1.1\r\nX-A: b\r\n\r\n",
            "GET /api/b HTTP/1.1\r\n\r\n",
        ]);
        assert_eq!(received, ["POST /a abc", "GET /b"], "{server}");
    }
}

#[test]
fn an_expectation_without_a_body_gets_a_response() {
    for server in SERVERS {
        let received = Api::start(server).received(&[
            "GET /api/a HTTP/1.1\r\nexpect: 100-continue\r\n\r\n",
            "POST /api/b HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n",
            "POST /api/c HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
            "DELETE /api/d HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        ]);
        let expected = ["GET /a", "POST /b", "POST /c abc", "DELETE /d"];
        assert_eq!(received, expected, "{server}");
    }
}
