//! Tests that each expectation of a case file can be met and can be missed.

use std::path::Path;

use host_test::case_file::{CaseFile, Ending, Runner, Schedule};

use crate::support::cases::{PATH, mismatches_of_file, parse};
use crate::support::guest::filter;

/// Calls the service `auth` and continues the request if the status begins with 2; otherwise replies with 403. Counts
/// and logs each request.
const GATE: &str = r#"
    (global $stream (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $define (i32.const 0) @"gate.asked" (i32.const 500)))
        (i32.eqz (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result)))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $stream (local.get $context))
        (call $log_text @"asked")
        (drop (call $increment (i32.load (i32.const 500)) (i64.const 1)))
        (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a") @"value"
            (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 400))
        if (result i32) (i32.const 0) else (i32.const 1) end)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $get (i32.const 6) @":status" @to_result))
        (drop (call $effective (global.get $stream)))
        ;; The status's first digit.
        (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) @'2')
            (then (drop (call $continue (i32.const 0))))
            (else (drop (call $reply (i32.const 403) @"not_allowed" @"value"
                (i32.const 0) (i32.const 0) (i32.const 7))))))
"#;

/// Runs every case of a file on the gate.
#[track_caller]
fn mismatches(text: &str) -> Vec<String> {
    mismatches_of_file(&Runner::new(filter(GATE)), text)
}

/// Checks that every case of a file is met.
#[track_caller]
fn check_met(text: &str) {
    assert_eq!(mismatches(text), Vec::<String>::new());
}

#[test]
fn every_expectation_can_be_met() {
    let text = r#"{
        // The gate calls `auth`.
        "upstreams": {"auth": [{"status": 200, "delay_ms": 100}, {"fails": "time-out"}, {"fails": "refused"}]},
        "cases": [{
            "name": "allowed, then not",
            "request": {"headers": [["a", "1"]]},
            "upstream": {"method": "GET", "headers": {"a": ["1"], "b": []}, "matches": {"a": "[0-9]"}, "body": ""},
            "answer": {"status": 201, "body": "fine", "trailers": [["t", "1"]]},
            "downstream": {"status": 201, "body_matches": "f.*e", "trailers": {"t": ["1"]}},
            "logs": [{"level": "info", "text": "asked"}, {"matches": "answered.*", "absent": true}],
            "calls": [{"upstream": "auth", "headers": {":path": ["/"]}, "body": "value", "timeout_ms": 2000}],
            "then": [
                {"request": {}, "downstream": {"status": 403, "body": "value"},
                 "reply": {"status": 403, "details": "not_allowed", "grpc_status": 7}},
                {"after_ms": 50, "request": {"peer": "unix"}, "downstream": {"status": 403}}],
            "finally": {"metrics": {"gate.asked": 3}}
        }]}"#;
    check_met(text);
}

#[test]
fn a_call_that_fails_reaches_the_filter() {
    let text = r#"{"upstreams": {"auth": [{"fails": "no-headers"}]}, "cases": [
        {"name": "n", "request": {}, "downstream": {"status": 403}}]}"#;
    check_met(text);
    // Without the service the call fails at once, and the gate lets the request pass.
    let open = r#"{"cases": [{"name": "n", "request": {}, "upstream": {}}]}"#;
    check_met(open);
}

#[test]
fn every_expectation_can_be_missed() {
    let good = r#"{"upstreams": {"auth": [{"status": 200}]}, "cases": [{"name": "n", "request": {}, "upstream": {}, "#;
    for (expectation, want) in [
        (
            r#""upstream": null"#,
            "upstream: want no request, got GET /",
        ),
        (
            r#""upstream": {"target": "/x"}"#,
            "upstream target: want `/x`, got `/`",
        ),
        (
            r#""upstream": {"method": "PUT"}"#,
            "upstream method: want `PUT`, got `GET`",
        ),
        (
            r#""upstream": {"host": "x"}"#,
            "upstream host: want `x`, got `app.example`",
        ),
        (
            r#""upstream": {"headers": {"x": ["1"]}}"#,
            "upstream `x`: want [\"1\"], got []",
        ),
        (
            r#""upstream": {"matches": {"x": "1"}}"#,
            "upstream `x`: want a line like `1`, got []",
        ),
        (
            r#""upstream": {"body": "x"}"#,
            "upstream body: want \"x\", got \"\"",
        ),
        (
            r#""upstream": {"trailers": {"x": ["1"]}}"#,
            "upstream trailer `x`: want [\"1\"], got []",
        ),
        (
            r#""downstream": {"status": 404}"#,
            "downstream status: want 404, got 200",
        ),
        (
            r#""downstream": {"body_matches": "x+"}"#,
            "downstream body: want it like `x+`, got \"\"",
        ),
        (r#""reply": {}"#, "reply: want a local reply, got none"),
        (
            r#""logs": [{"text": "x"}]"#,
            "log: want `x`, having logged `asked`",
        ),
        (
            r#""logs": [{"text": "asked", "absent": true}]"#,
            "log: want no `asked`, having logged `asked`",
        ),
        (
            r#""logs": [{"text": "asked", "level": "warn"}]"#,
            "log: want `asked`, having logged `asked`",
        ),
        (r#""calls": []"#, "call-outs: want 0, got 1 (auth)"),
        (
            r#""calls": [{"upstream": "x"}]"#,
            "call-out 1: want one to `x`, got one to `auth`",
        ),
        (
            r#""paused": true"#,
            "want the filter to leave the stream paused",
        ),
        (r#""reset": true"#, "want the filter to reset the stream"),
        (r#""fails": "x""#, "want the filter to fail with `x`"),
        (
            r#""finally": {"metrics": {"x": 1}}"#,
            "metric `x`: want 1, got none",
        ),
        (
            r#""finally": {"logs": [{"text": "x"}]}"#,
            "plugin log: want `x`",
        ),
        (
            r#""finally": {"shared_data": {"x": "1"}}"#,
            "shared data `x`: want `1`, got None",
        ),
    ] {
        // A key must not be given twice, so another `upstream` replaces the usual one.
        let good = if expectation.starts_with("\"upstream\"") {
            good.replace(r#""upstream": {}, "#, "")
        } else {
            good.to_owned()
        };
        assert_eq!(mismatches(&format!("{good}{expectation}}}]}}")), [want]);
    }
    let refused = r#"{"cases": [{"name": "n", "refused": ["x"]}]}"#;
    assert_eq!(
        mismatches(refused),
        ["configuration: want it refused, but it was accepted"]
    );
    let wrong = r#"{"upstreams": {"auth": [{"status": 500}]}, "cases": [{"name": "n", "request": {}, "upstream": {},
        "reply": {"status": 1, "details": "x", "grpc_status": 2}}]}"#;
    assert_eq!(
        mismatches(wrong),
        [
            "upstream: want a request, got the local reply 403",
            "reply details: want Some(\"x\"), got \"not_allowed\"",
            "reply gRPC status: want Some(2), got Some(7)",
            "reply status: want Some(1), got 403",
        ]
    );
}

#[test]
fn a_recording_is_met_and_complete() {
    let text = r#"{"upstreams": {"auth": [{"status": 200}, {"status": 500}]}, "cases": [
        {"name": "n", "request": {}, "answer": {"body": "b", "headers": [["x", "1"]]}, "then": [{"request": {}}]}]}"#;
    let file = parse(text);
    let case = &file.cases[0];
    let ran = Runner::new(filter(GATE))
        .run(Path::new(PATH), &file, case, Schedule::default())
        .unwrap();
    assert!(matches!(&ran.ending, Ending::Served(outcomes) if outcomes.len() == 2));
    let recorded = ran.recorded(case);
    let downstream = recorded.downstream.as_ref().unwrap();
    assert_eq!(downstream.headers["x"], ["1"]);
    assert_eq!(recorded.then[0].reply.as_ref().unwrap().status, Some(403));
    let recording = CaseFile {
        cases: vec![recorded],
        ..file
    };
    check_met(&recording.to_text());
}

#[test]
fn a_chain_runs_the_tested_filter_too() {
    let text = r#"{"chain": [{}], "cases": [{"name": "n", "request": {}, "upstream": {}, "finally": {"metrics": {"gate.asked": 2}}}]}"#;
    check_met(text);
}
