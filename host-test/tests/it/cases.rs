//! Does a case come to the filter as Envoy would bring it, and is every ending told apart?

use fluxlit_cases::{Case, CaseFile, Outcome};
use host_test::cases::{self, Error};

use crate::guest::filter;

fn case(request: &str) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.json");
    let text = format!(
        r#"{{"about": "a", "config": {{"peer_filter_state_key": "peer"}},
            "cases": [{{"name": "n", "why": "w", "request": {request}, "upstream": {{}}}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    CaseFile::load(&path).unwrap().cases.remove(0)
}

fn from_loopback() -> Case {
    case(r#"{"peer": "127.0.0.1", "body": "abc"}"#)
}

/// A guest that writes the property at `path` into `x-one`.
fn showing(path: &str) -> String {
    format!(
        r#"(data (i32.const 200) "{path}")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.eqz (call $property (i32.const 200) (i32.const {length}) (i32.const 0) (i32.const 4)))
                (then (drop (call $replace (i32.const 0) (i32.const 16) (i32.const 5)
                    (i32.load (i32.const 0)) (i32.load (i32.const 4))))))
            i32.const 0)"#,
        length = path.replace("\\00", "0").len(),
    )
}

#[track_caller]
fn check(request: &str, path: &str, want: Option<&str>) {
    let outcome = cases::run(&filter(&showing(path)), &case(request)).unwrap();
    let Outcome::Served(served) = outcome else {
        panic!("{outcome:?}");
    };
    let headers = &served[0].upstream.as_ref().unwrap().headers;
    let got = headers.iter().find(|(name, _)| name == "x-one");
    assert_eq!(got.map(|(_, value)| value.as_str()), want, "{path}");
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
    let headers = r#""headers": [["Host", "b"]], "host": "a", "peer": "unix""#;
    let authority = "request\\00host";
    check(&format!("{{{headers}}}"), authority, Some("a,b"));
    check(
        &format!(r#"{{"http": "2", {headers}}}"#),
        authority,
        Some("a"),
    );
}

#[test]
fn a_refused_configuration_is_an_outcome() {
    let refusing = filter(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $say (i32.const 32) (i32.const 5)) (call $say (i32.const 48) (i32.const 6)) i32.const 0)"#,
    );
    let outcome = cases::run(&refusing, &from_loopback()).unwrap();
    assert_eq!(outcome, Outcome::Refused("value\nabsent".to_owned()));
}

#[test]
fn a_filter_that_does_not_come_to_an_end_is_an_error() {
    let run = |body: &str| {
        let guest = format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#
        );
        cases::run(&filter(&guest), &from_loopback()).unwrap_err()
    };
    assert!(matches!(run("unreachable"), Error::Failed { .. }));
    assert!(matches!(
        run("(drop (call $close (i32.const 0))) i32.const 0"),
        Error::Reset { .. }
    ));
    let paused = run("(call $say (i32.const 32) (i32.const 5)) i32.const 1").to_string();
    let want = "the filter left the request paused, having logged `value`";
    assert_eq!(paused, want);
}

#[test]
fn text_that_is_no_bytes_is_an_error() {
    let error = cases::run(&filter(""), &case(r#"{"peer": "unix", "target": "/€"}"#)).unwrap_err();
    assert_eq!(error.to_string(), "`/€` has a character above U+00FF");
}
