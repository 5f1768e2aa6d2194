//! Tests that a case has the same result in real Envoy as in this host.
//!
//! If `FLUXLIT_TEST_ENVOY` names an Envoy, each check runs its cases in both, with the command `diff`. Without one, it runs
//! the cases in this host only, and tests which cases are skipped and why.

mod buffers;
mod call_outs;
mod framing;
mod messages;
mod plugins;
mod properties;
mod replies;
mod sequences;
mod state;

use crate::support::cases;
use crate::support::program::{Files, ProgramRun, host_test};

/// Checks that a guest meets its cases in this host, and that Envoy does not differ if there is one.
#[track_caller]
fn check(guest: &str, cases: &str) {
    check_with_other(guest, "", cases);
}

/// Checks as [`check`] does, with a second guest in `other.wasm`.
#[track_caller]
fn check_with_other(guest: &str, other: &str, cases: &str) {
    let files = Files::new();
    files.write_guest("other.wasm", other);
    let count = cases::parse(cases).cases.len();
    let filter = files.write_guest("filter.wasm", guest);
    let path = files.write("cases.json", cases);
    let run = host_test(&["run", "--filter", &filter, "--cases", &path]);
    let want = format!("{count} met, 0 missed, 0 skipped\n");
    assert_eq!(run.stdout, want, "{}", run.stderr);
    if let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") {
        let run = diff(&envoy, &filter, &path);
        let want = format!("{count} the same, 0 differ, 0 skipped (host-test / Envoy)\n");
        assert_eq!(run.stdout, want, "{}", run.stderr);
    }
}

fn diff(envoy: &str, filter: &str, cases: &str) -> ProgramRun {
    host_test(&[
        "diff", "--envoy", envoy, "--filter", filter, "--cases", cases,
    ])
}

/// Checks that `diff` skips a case, given by its keys without the name, for this reason.
#[track_caller]
fn check_skipped(envoy: &str, guest: &str, case: &str, reason: &str) {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", guest);
    let text = format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#);
    let cases = files.write("cases.json", text);
    let run = diff(envoy, &filter, &cases);
    let want = format!(
        "skipped  {cases}: n: {reason}\n0 the same, 0 differ, 1 skipped (host-test / Envoy)\n"
    );
    assert_eq!((run.stdout, run.code), (want, Some(0)), "{}", run.stderr);
}

/// This host does not have the foreign function `verify_signature`, which Envoy has.
#[test]
fn different_logs_and_metrics_are_reported() {
    let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") else {
        return;
    };
    let counts_and_logs_status = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $status i32)
            (drop (call $define (i32.const 0) @"statuses" (i32.const 4)))
            (local.set $status (call $foreign @"verify_signature" @"x-one" (i32.const 0) (i32.const 0)))
            (drop (call $increment (i32.load (i32.const 4)) (i64.extend_i32_u (local.get $status))))
            (call $log_digit (local.get $status))
            i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", counts_and_logs_status);
    let path = files.write(
        "cases.json",
        r#"{"cases": [{"name": "a status", "request": {}, "upstream": {}, "logs": [{"text": "1"}],
        "finally": {"metrics": {"statuses": 1}}}]}"#,
    );
    let want = format!(
        "differs  {path}: a status\n         as expected / log: want `1`, having logged `2`\n         \
         metric `statuses`: +1 / +2\n0 the same, 1 differ, 0 skipped (host-test / Envoy)\n"
    );
    assert_eq!(diff(&envoy, &filter, &path).stdout, want);
}

#[test]
fn a_case_that_envoy_cannot_run_is_skipped_with_the_reason() {
    for (case, want) in [
        (
            r#""plugin": {"start_s": 5}, "request": {}"#,
            "Envoy's clock cannot be set",
        ),
        (
            r#""config": "\u00ff", "request": {}"#,
            "the configuration is not UTF-8, which Envoy's own configuration must be",
        ),
        (
            r#""finally": {"metrics": {"x": 1}}"#,
            "without a request there is nothing to compare",
        ),
        (
            r#""request": {"frames": ["a", "b"]}"#,
            "in HTTP/1 an empty frame ends a body that comes in frames",
        ),
        (
            r#""request": {"headers": [["content-length", "3"]], "body": "abc", "trailers": [["t", "1"]]}"#,
            "in HTTP/1 a request with `content-length` has no trailers",
        ),
        (
            r#""request": {"headers": [["content-length", "4"]], "body": "abc"}"#,
            "its `content-length` is not 3, the length of its body, so Envoy would look for its end elsewhere",
        ),
        (
            r#""request": {}, "plugin": {"faults": [{"at": "proxy_get_property", "status": "NOT_FOUND"}]}"#,
            "Envoy cannot be given faults of the host",
        ),
        (
            r#""request": {}, "upstreams": {"a": [{"body": "b"}, {"headers": [["content-length", "0"]]}]}"#,
            "some responses of a service have `content-length` and others do not; give it to all of them",
        ),
        (
            r#""request": {"http": "1.0", "trailers": [["t", "1"]]}"#,
            "HTTP/1.0 has neither frames nor trailers",
        ),
        (
            r#""request": {"http": "2", "host": null}"#,
            "the HTTP/2 client cannot send the request: it has no authority",
        ),
        (
            r#""request": {"properties": [{"path": ["request", "id"], "text": "1"}]}"#,
            "Envoy cannot be given the property `request.id` of that type",
        ),
        (
            r#""request": {}, "then": [{"after_ms": 60000, "request": {}}]"#,
            "it would take 60 s of real time",
        ),
        (
            r#""request": {"method": "HEAD"}, "answer": {"body": "a"}"#,
            "no response to HEAD, or of status 204 or 304, has a body",
        ),
        (
            r#""request": {}, "upstreams": {"a": [{"fails": "no-headers"}]}"#,
            "no service can make Envoy cancel its own call",
        ),
        (
            r#""request": {}, "upstreams": {"a": [{"fails": "refused"}, {}]}"#,
            "a rejected call cannot be observed, so its result cannot be played",
        ),
        (
            r#""request": {}, "except": {"envoy": "a reason"}"#,
            "a reason",
        ),
    ] {
        // No Envoy is started when all cases are skipped.
        check_skipped("/nonexistent", "", case, want);
    }
}

#[test]
fn a_case_that_envoy_rejects_is_skipped_with_its_reason() {
    let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") else {
        return;
    };
    let calls_during_start = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a") (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 400) (i32.const 500))) i32.const 1)"#;
    for (guest, case, want) in [
        (
            "",
            r#""request": {"target": "/a#b"}"#,
            "Envoy rejects it before it reaches a filter: path_normalization_failed",
        ),
        (
            "",
            r#""request": {"host": null}"#,
            "Envoy rejects it before it reaches a filter: missing_host_header",
        ),
        (
            calls_during_start,
            r#""request": {}, "upstreams": {"auth": [{}]}"#,
            "the filter calls out when it starts, and Envoy starts it several times",
        ),
    ] {
        check_skipped(&envoy, guest, case, want);
    }
}
