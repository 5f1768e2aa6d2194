//! Does a case file say what a filter must do, and is every expectation one that can be missed?

use std::path::Path;

use host_test::case_file::{CaseFile, Ending, Runner, Schedule};

use crate::guest::filter;

/// Asks a service before it lets a request on: its status decides. Counts, logs, and answers 403 itself.
const GATE: &str = r#"
    (data (i32.const 300) "auth")
    (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
    (data (i32.const 280) ":status")
    (data (i32.const 600) "asked") (data (i32.const 610) "gate.asked") (data (i32.const 630) "not_allowed")
    (global $stream (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $define (i32.const 0) (i32.const 610) (i32.const 10) (i32.const 500)))
        (i32.eqz (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $stream (local.get $context))
        (call $say (i32.const 600) (i32.const 5))
        (drop (call $increment (i32.load (i32.const 500)) (i64.const 1)))
        (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 61) (i32.const 32) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 400))
        if (result i32) (i32.const 0) else (i32.const 1) end)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $get (i32.const 6) (i32.const 280) (i32.const 7) (i32.const 0) (i32.const 4)))
        (drop (call $effective (global.get $stream)))
        ;; The status's first digit.
        (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 50))
            (then (drop (call $continue (i32.const 0))))
            (else (drop (call $reply (i32.const 403) (i32.const 630) (i32.const 11) (i32.const 32) (i32.const 5)
                (i32.const 0) (i32.const 0) (i32.const 7))))))
"#;

fn misses(text: &str) -> Vec<String> {
    let file = CaseFile::parse(Path::new("cases.json"), text).expect("the file is right");
    let runner = Runner::new(filter(GATE));
    file.cases
        .iter()
        .flat_map(|case| {
            runner
                .misses(Path::new("cases.json"), &file, case, Schedule::default())
                .unwrap()
        })
        .collect()
}

#[test]
fn everything_a_case_can_say_is_met() {
    let text = r#"{
        // The gate asks `auth`.
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
    assert_eq!(misses(text), Vec::<String>::new());
}

#[test]
fn a_filter_that_waits_for_ever_is_paused() {
    let text = r#"{"upstreams": {"auth": [{"fails": "no-headers"}]}, "cases": [
        {"name": "n", "request": {}, "downstream": {"status": 403}}]}"#;
    assert_eq!(misses(text), Vec::<String>::new());
    // Without the service the call fails, and the gate is open; without an answer nothing ever comes.
    let open = r#"{"cases": [{"name": "n", "request": {}, "upstream": {}}]}"#;
    assert_eq!(misses(open), Vec::<String>::new());
}

#[test]
fn every_expectation_can_be_missed() {
    let good = r#"{"upstreams": {"auth": [{"status": 200}]}, "cases": [{"name": "n", "request": {}, "upstream": {}, "#;
    for (expectation, want) in [
        (
            r#""upstream": null"#,
            "upstream: want it not asked, got GET /",
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
        (r#""reply": {}"#, "reply: want the filter to answer itself"),
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
        // The last of two equal keys would be an error, so `upstream` is put in place of the usual one.
        let good = if expectation.starts_with("\"upstream\"") {
            good.replace(r#""upstream": {}, "#, "")
        } else {
            good.to_owned()
        };
        assert_eq!(misses(&format!("{good}{expectation}}}]}}")), [want]);
    }
    let refused = r#"{"cases": [{"name": "n", "refused": ["x"]}]}"#;
    assert_eq!(
        misses(refused),
        ["configuration: want it refused, got it accepted"]
    );
    let wrong = r#"{"upstreams": {"auth": [{"status": 500}]}, "cases": [{"name": "n", "request": {}, "upstream": {},
        "reply": {"status": 1, "details": "x", "grpc_status": 2}}]}"#;
    assert_eq!(
        misses(wrong),
        [
            "upstream: want it asked, got the local answer 403",
            "reply details: want Some(\"x\"), got \"not_allowed\"",
            "reply gRPC status: want Some(2), got Some(7)",
            "reply status: want Some(1), got 403",
        ]
    );
}

#[test]
fn a_recording_is_met_and_says_everything() {
    let text = r#"{"upstreams": {"auth": [{"status": 200}, {"status": 500}]}, "cases": [
        {"name": "n", "request": {}, "answer": {"body": "b", "headers": [["x", "1"]]}, "then": [{"request": {}}]}]}"#;
    let path = Path::new("cases.json");
    let file = CaseFile::parse(path, text).unwrap();
    let runner = Runner::new(filter(GATE));
    let ran = runner
        .run(path, &file, &file.cases[0], Schedule::default())
        .unwrap();
    assert!(matches!(&ran.ending, Ending::Served(outcomes) if outcomes.len() == 2));
    let recorded = ran.recorded(&file.cases[0]);
    let downstream = recorded.downstream.as_ref().unwrap();
    assert_eq!(downstream.headers["x"], ["1"]);
    assert_eq!(recorded.then[0].reply.as_ref().unwrap().status, Some(403));
    let again = CaseFile {
        cases: vec![recorded],
        ..file
    };
    let again = CaseFile::parse(path, &again.to_text()).unwrap();
    let misses = runner
        .misses(path, &again, &again.cases[0], Schedule::default())
        .unwrap();
    assert_eq!(misses, Vec::<String>::new());
}

#[test]
fn a_chain_has_the_tested_filter_first() {
    let text = r#"{"chain": [{}], "cases": [{"name": "n", "request": {}, "upstream": {}, "finally": {"metrics": {"gate.asked": 2}}}]}"#;
    assert_eq!(misses(text), Vec::<String>::new());
}
