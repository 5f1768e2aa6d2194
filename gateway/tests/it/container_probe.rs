//! Tests `fluxlit-gateway probe`, which health checks of containers run.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::{Gateway, upstream};

/// Runs the command; returns its exit code and what it has written.
fn probe(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
        .env_clear()
        .envs(variables.iter().copied())
        .arg("probe")
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The usual result of an app that does not respond to anything but health checks.
fn app() -> std::net::SocketAddr {
    upstream(|_, _| false)
}

#[test]
fn the_exit_code_says_whether_the_gateway_is_ready() {
    let gateway = Gateway::in_front_of(app(), &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    let url = |path: &str| format!("http://{}{path}", gateway.address);
    for (path, code, expected) in [
        ("/apps/my-app/api/readyz", 0, "is ready"),
        (
            "/apps/my-app/api/nope",
            1,
            "is not ready: the status is 404",
        ),
    ] {
        let (found, said) = probe(&["--url", &url(path)], &[]);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let (code, said) = probe(&["--quiet", "--url", &url("/apps/my-app/api/readyz")], &[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let port = gateway.address.port().to_string();
    let variables = [
        ("FLUXLIT_GATEWAY_PORT", port.as_str()),
        ("FLUXLIT_GATEWAY_HOST", "0.0.0.0"),
        ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
    ];
    let (code, said) = probe(&[], &variables);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&url("/apps/my-app/api/readyz")), "{said}");
}

#[test]
fn an_app_that_is_not_ready_is_a_failure() {
    // The port is bound, and nobody listens.
    let reserved = fluxlit_gateway::ReservedPort::any().expect("a port");
    let upstream = format!("http://127.0.0.1:{}", reserved.number());
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", &upstream)], &[]);
    let url = format!("http://{}/api/readyz", gateway.address);
    let (code, said) = probe(&["--url", &url], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the status is 503"), "{said}");
    let nobody = format!("http://127.0.0.1:{}/", reserved.number());
    let (code, said) = probe(&["--url", &nobody], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot connect to 127.0.0.1:"), "{said}");
}

#[test]
fn a_gateway_that_does_not_respond_is_a_failure() {
    // The kernel accepts the connection; nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let (code, said) = probe(&["--url", &url, "--timeout", "0.2"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there was no response in time"), "{said}");
    assert!(!said.contains("waiting"), "{said}");
    // After two seconds it says what it waits for, unless it is to be quiet.
    let slowly = ["--url", &url, "--timeout", "2.5"];
    let (code, said) = probe(&slowly, &[]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(lines[0], format!("waiting for {url} ..."), "{said}");
    assert!(lines[1].contains("is not ready"), "{said}");
    let (_, said) = probe(&[&slowly[..], &["--quiet"]].concat(), &[]);
    assert!(!said.contains("waiting"), "{said}");
}

#[test]
fn a_certificate_is_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let own = rcgen::generate_simple_self_signed(["app.example".to_owned()]).expect("a key");
    let other = rcgen::generate_simple_self_signed(["app.example".to_owned()]).expect("a key");
    let certificate = written("own.pem", &own.cert.pem());
    let key = written("own.key", &own.signing_key.serialize_pem());
    let other = written("other.pem", &other.cert.pem());
    let upstream = format!("http://{}", app());
    let gateway = Gateway::start(
        &[
            ("FLUXLIT_STREAMLIT_UPSTREAM", &upstream),
            ("FLUXLIT_TLS_CERTIFICATE", &certificate),
            ("FLUXLIT_TLS_KEY", &key),
        ],
        &[],
    );
    let address = gateway.address.to_string();
    // Liveness, which is 200 whatever the state of the app.
    let ask = |name: &str, ca: &str| {
        let url = format!("https://{name}/api/healthz");
        probe(&["--url", &url, "--connect", &address, "--ca", ca], &[])
    };
    let (code, said) = ask("app.example", &certificate);
    assert_eq!(code, Some(0), "{said}");
    for (name, ca, expected) in [
        ("other.example", &certificate, "not valid for name"),
        ("app.example", &other, "invalid peer certificate"),
    ] {
        let (code, said) = ask(name, ca);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn wrong_usage_and_settings_exit_with_2() {
    let missing = Path::new("/no/such/file.pem").display().to_string();
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let table: [Row<'_>; 6] = [
        (&["--url", "127.0.0.1:8000"], &[], "is not a"),
        (
            &["--url", "ftp://a/"],
            &[],
            "http://127.0.0.1:8000/api/readyz",
        ),
        (&["--url", "https://a/", "--ca", &missing], &[], &missing),
        (
            &["--url", "http://a/", "--timeout", "0"],
            &[],
            "from 0.1 to 600",
        ),
        (
            &[],
            &[("FLUXLIT_GATEWAY_PORT", "x")],
            "FLUXLIT_GATEWAY_PORT",
        ),
        (&[], &[("FLUXLIT_GATEWAY_PORT", "0")], "give --url"),
    ];
    for (arguments, variables, expected) in table {
        let (code, said) = probe(arguments, variables);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
