//! Does the request of a case come to the filter as Envoy would bring it?

use std::path::Path;

use host_test::case_file::{CaseFile, Runner, Schedule};

use crate::guest::filter;

/// The property at `path`, which the filter writes into `x-one`, must be `want`.
#[track_caller]
fn check(request: &str, path: &str, want: Option<&str>) {
    let runner = Runner::new(filter(&format!(
        r#"(data (i32.const 200) "{path}")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.eqz (call $property (i32.const 200) (i32.const {length}) (i32.const 0) (i32.const 4)))
                (then (drop (call $replace (i32.const 0) (i32.const 16) (i32.const 5)
                    (i32.load (i32.const 0)) (i32.load (i32.const 4))))))
            i32.const 0)"#,
        length = path.replace("\\00", "0").len(),
    )));
    let lines = want.map_or_else(String::new, |want| format!("\"{want}\""));
    let text = format!(
        r#"{{"config": {{"peer_filter_state_key": "peer"}},
            "cases": [{{"name": "n", "request": {request}, "upstream": {{"headers": {{"x-one": [{lines}]}}}}}}]}}"#
    );
    let file_path = Path::new("cases.json");
    let file = CaseFile::parse(file_path, &text).unwrap();
    let misses = runner.misses(file_path, &file, &file.cases[0], Schedule::default());
    assert_eq!(misses.unwrap(), Vec::<String>::new(), "{path}");
}

#[test]
fn the_peer_is_in_envoys_properties() {
    let (v6, unix, unknown) = (
        r#"{"peer": "2001:db8::1"}"#,
        r#"{"peer": "unix"}"#,
        r#"{"peer": "unknown"}"#,
    );
    let address = "source\\00address";
    check(v6, address, Some("[2001:db8::1]:49152"));
    check(unix, address, Some("/run/downstream.sock"));
    check(unknown, address, Some("203.0.113.99:0"));
    let recorded = "filter_state\\00peer";
    check(v6, recorded, Some("[2001:db8::1]:49152"));
    check(unix, recorded, Some("/run/downstream.sock"));
    check(unknown, recorded, None);
    check(unix, "source\\00port", None);
}

#[test]
fn tls_is_seen_by_its_version_alone() {
    let version = "connection\\00tls_version";
    check(r#"{"peer": "unix", "tls": true}"#, version, Some("TLSv1.3"));
    check(r#"{"peer": "unix"}"#, version, None);
}

#[test]
fn host_lines_are_joined_in_http_1_and_dropped_in_http_2() {
    let headers = r#""headers": [["Host", "b"]], "host": "a""#;
    let authority = "request\\00host";
    check(&format!("{{{headers}}}"), authority, Some("a,b"));
    let http_2 = format!(r#"{{"http": "2", {headers}}}"#);
    check(&http_2, authority, Some("a"));
    let message = r#"{"message": "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"}"#;
    check(message, authority, Some("a,b"));
}
