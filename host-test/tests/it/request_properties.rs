//! Tests that a filter reads the properties of a case's request as in Envoy.

use host_test::case_file::Runner;

use crate::support::cases::mismatches_of_file;
use crate::support::guest::filter;

/// Checks that the property at `path` has this value for the request of a case.
#[track_caller]
fn check(request: &str, path: &str, want: Option<&str>) {
    let runner = Runner::new(filter(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.eqz (call $property @"{path}" @to_result))
                (then (drop (call $replace @request @"x-one" @result))))
            i32.const 0)"#
    )));
    let lines = want.map_or_else(String::new, |want| format!("\"{want}\""));
    let text = format!(
        r#"{{"config": {{"peer_filter_state_key": "peer"}},
            "cases": [{{"name": "n", "request": {request}, "upstream": {{"headers": {{"x-one": [{lines}]}}}}}}]}}"#
    );
    let mismatches = mismatches_of_file(&runner, &text);
    assert_eq!(mismatches, Vec::<String>::new(), "{path}");
}

#[test]
fn the_peer_address() {
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
fn the_tls_version() {
    let version = "connection\\00tls_version";
    check(r#"{"peer": "unix", "tls": true}"#, version, Some("TLSv1.3"));
    check(r#"{"peer": "unix"}"#, version, None);
}

#[test]
fn host_fields_are_joined_in_http_1_and_dropped_in_http_2() {
    let headers = r#""headers": [["Host", "b"]], "host": "a""#;
    let authority = "request\\00host";
    check(&format!("{{{headers}}}"), authority, Some("a,b"));
    let http_2 = format!(r#"{{"http": "2", {headers}}}"#);
    check(&http_2, authority, Some("a"));
    let message = r#"{"message": "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"}"#;
    check(message, authority, Some("a,b"));
}
