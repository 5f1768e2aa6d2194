//! Tests the keys of a case file, each with the mismatch that a wrong expectation causes.
//!
//! A check consists of a guest, a case that the guest meets, and changes of that case with the mismatch of each.

use std::path::Path;

use host_test::case_file::{CaseFile, Runner, Schedule};
use host_test::envoy::Profile;

use crate::support::cases::{mismatches, mismatches_of_file};
use crate::support::guest::filter;
use crate::support::program::Files;

/// Checks that the case is met, and that replacing the first text of each row by the second causes the mismatch.
#[track_caller]
fn check(callbacks: &str, case: &str, rows: &[(&str, &str, &str)]) {
    let runner = Runner::new(filter(callbacks));
    assert_eq!(mismatches(&runner, case), Vec::<String>::new());
    for (right, wrong, mismatch) in rows {
        assert!(case.contains(right), "{right}");
        let wrong = case.replace(right, wrong);
        assert_eq!(mismatches(&runner, &wrong), [*mismatch], "{wrong}");
    }
}

/// Puts `value` into the queue `x-one` for each request. Takes out and logs a message when it is notified of one.
const QUEUE: &str = r#"
    (global $queue (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $register @"x-one" (i32.const 128)))
        (global.set $queue (i32.load (i32.const 128)))
        i32.const 1)
    (func (export "proxy_on_queue_ready") (param i32 i32)
        (drop (call $dequeue (global.get $queue) @to_result))
        (call $log_result))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $enqueue (global.get $queue) @"value"))
        i32.const 0)"#;

#[test]
fn queues() {
    // The initial messages come first. Each new message takes one out, so two messages remain.
    check(
        QUEUE,
        r#""queues": [{"name": "x-one", "messages": ["a", "b"]}], "request": {}, "upstream": {},
           "enqueue": [{"name": "x-one", "messages": ["c"]}],
           "finally": {"logs": [{"text": "a"}, {"text": "b"}], "queues": [{"name": "x-one", "messages": ["c", "value"]}]}"#,
        &[
            (
                r#"["c", "value"]"#,
                r#"["value"]"#,
                r#"queue `x-one`: want ["value"], got ["c", "value"]"#,
            ),
            (
                r#"{"name": "x-one", "messages": ["c", "value"]}"#,
                r#"{"name": "x", "messages": []}"#,
                "queue `x`: want [], got no queue",
            ),
            (
                r#"{"name": "x-one", "messages": ["c", "value"]}"#,
                r#"{"name": "x-one", "vm_id": "other", "messages": []}"#,
                "queue `x-one`: want [], got no queue",
            ),
        ],
    );
}

#[test]
fn workers_share_data_queues_and_metrics() {
    // Each start and each request increments a metric. Each request also counts in the VM's memory and logs that count.
    let callbacks = r#"
        (global $count (mut i32) (i32.const 0))
        (data (i32.const 700) "value")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) @"x-one" (i32.const 128)))
            (drop (call $increment (i32.load (i32.const 128)) (i64.const 1)))
            (call $log_text @"absent")
            (i32.eqz (call $register @"x-one" (i32.const 132))))
        (func (export "proxy_on_queue_ready") (param i32 i32) (call $log_text @"value"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $increment (i32.load (i32.const 128)) (i64.const 1)))
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (drop (call $set_data @"x-one" (i32.const 700) (global.get $count) (i32.const 0)))
            (drop (call $enqueue (i32.load (i32.const 132)) @"value"))
            (call $log_digit (global.get $count))
            i32.const 0)"#;
    check(
        callbacks,
        r#""workers": 2, "request": {}, "upstream": {}, "logs": [{"text": "1"}],
           "then": [{"worker": 1, "request": {}, "upstream": {}, "logs": [{"text": "1"}]},
                    {"worker": 1, "request": {}, "upstream": {}, "logs": [{"text": "2"}]}],
           "finally": {"metrics": {"x-one": 7}, "shared_data": {"x-one": "va"},
                       "queues": [{"name": "x-one", "messages": ["value", "value", "value"]}],
                       "logs": [{"text": "absent"}, {"text": "value"}]}"#,
        &[
            (
                r#"{"worker": 1, "request": {}, "upstream": {}, "logs": [{"text": "2"}]}"#,
                r#"{"worker": 0, "request": {}, "upstream": {}, "logs": [{"text": "1"}]}"#,
                "exchange 3: log: want `1`, having logged `2`",
            ),
            (
                r#""x-one": 7"#,
                r#""x-one": 5"#,
                "metric `x-one`: want 5, got 7",
            ),
            (
                "\"va\"",
                "\"v\"",
                "shared data `x-one`: want `v`, got Some(\"va\")",
            ),
        ],
    );
    for (keys, want) in [
        (r#""workers": 2, "worker": 2"#, "no worker 2"),
        (r#""workers": 0"#, "cases[0].workers"),
    ] {
        let text = format!(r#"{{"cases": [{{"name": "n", {keys}, "request": {{}}}}]}}"#);
        let error = CaseFile::parse(Path::new("x.json"), &text).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn a_capability_that_is_not_allowed_behaves_as_in_envoy() {
    let callbacks = r#"
        (data (i32.const 300) "0123456789")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $add @request @"x-one"
                (i32.const 300) (call $tick (i32.const 10))))
            (drop (call $add @request @"absent"
                (i32.const 300) (i32.div_u (call $random (i32.const 0) (i32.const 4)) (i32.const 19))))
            i32.const 0)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable)"#;
    // `x-one` has as many digits as the status says: 10, INTERNAL_FAILURE. `absent` has 76 / 19 = 4: 76 is WASI's ENOTCAPABLE.
    check(
        callbacks,
        r#""plugin": {"allowed_capabilities": ["proxy_on_request_headers", "proxy_add_header_map_value"]},
           "request": {"body": "x"}, "upstream": {"body": "x", "matches": {"x-one": "0123456789"}, "headers": {"absent": ["0123"]}},
           "logs": [{"level": "error", "text": "Attempted call to restricted proxy-wasm capability: proxy_set_tick_period_milliseconds"}]"#,
        &[(
            r#""proxy_on_request_headers", "#,
            r#""proxy_on_request_headers", "random_get", "#,
            "upstream `absent`: want [\"0123\"], got [\"\"]",
        )],
    );
    check(
        callbacks,
        r#""plugin": {"allowed_capabilities": ["proxy_on_request_headers"]}, "request": {}, "upstream": {"headers": {"x-one": []}},
           "logs": [{"level": "error", "text": "Attempted call to restricted WASI capability: random_get"}]"#,
        &[(
            r#""proxy_on_request_headers"]"#,
            r#""proxy_on_request_headers", "proxy_set_tick_period_milliseconds", "proxy_add_header_map_value"]"#,
            "upstream `x-one`: want [], got [\"\"]",
        )],
    );
    let runner = Runner::new(filter(callbacks));
    // Without `allowed_capabilities` everything is allowed, also the body's callback, which traps.
    let found = mismatches(&runner, r#""request": {"body": "x"}, "upstream": {}"#);
    assert!(found[0].starts_with("the filter failed: "), "{found:?}");
}

#[test]
fn metrics_by_kind() {
    check(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 1) @"x-one" (i32.const 128)))
            (i32.eqz (call $record (i32.load (i32.const 128)) (i64.const 3))))"#,
        r#""finally": {"metrics": {"x-one": {"kind": "gauge", "value": 3}}}"#,
        &[
            (
                "gauge",
                "counter",
                "metric `x-one`: want a counter, got a gauge",
            ),
            (
                r#""value": 3"#,
                r#""value": 4"#,
                "metric `x-one`: want 4, got 3",
            ),
        ],
    );
}

#[test]
fn a_failure_outside_streams() {
    let callbacks = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 100))))
        (func (export "proxy_on_tick") (param i32) unreachable)"#;
    check(
        callbacks,
        r#""request": {}, "upstream": {}, "finally": {"after_ms": 100, "fails": "proxy_on_tick"}"#,
        &[(
            r#""after_ms": 100"#,
            r#""after_ms": 99"#,
            "want the VM to fail with `proxy_on_tick`",
        )],
    );
    let runner = Runner::new(filter(callbacks));
    let case = r#""request": {}, "upstream": {}, "finally": {"after_ms": 100}"#;
    let found = mismatches(&runner, case);
    assert!(found[0].starts_with("the VM failed: "), "{found:?}");
}

#[test]
fn order_and_unlike() {
    check(
        "",
        r#""request": {"headers": [["a", "1"], ["b", "2"], ["a", "3"]]}, "upstream": {"order": ["a", "b", "a"], "unlike": {"a": "[4-9]"}},
           "answer": {"headers": [["b", "1"], ["a", "2"]]}, "downstream": {"order": ["b", "a"], "unlike": {"a": "1"}}"#,
        &[
            (
                r#"["a", "b", "a"]"#,
                r#"["a", "a", "b"]"#,
                r#"upstream order: want ["a", "a", "b"], got ["a", "b", "a"]"#,
            ),
            (
                r#"["b", "a"], "unlike""#,
                r#"["a", "b"], "unlike""#,
                r#"downstream order: want ["a", "b"], got ["b", "a"]"#,
            ),
            (
                r#"{"a": "[4-9]"}"#,
                r#"{"a": "[3-9]"}"#,
                r#"upstream `a`: want no line like `[3-9]`, got ["1", "3"]"#,
            ),
            (
                r#"{"a": "1"}"#,
                r#"{"a": "."}"#,
                r#"downstream `a`: want no line like `.`, got ["2"]"#,
            ),
        ],
    );
}

#[test]
fn a_reply_during_each_callback() {
    for (callback, parameters) in [
        ("request_headers", "i32 i32 i32"),
        ("request_body", "i32 i32 i32"),
        ("request_trailers", "i32 i32"),
        ("response_headers", "i32 i32 i32"),
    ] {
        let guest = format!(
            r#"(func (export "proxy_on_{callback}") (param {parameters}) (result i32)
                (drop (call $reply (i32.const 418) @"value" @"value"
                    (i32.const 0) (i32.const 0) (i32.const -1)))
                i32.const 0)"#
        );
        let runner = Runner::new(filter(&guest));
        let upstream = match callback {
            "request_headers" => "",
            _ => r#""upstream": {}, "#,
        };
        let case = |during: &str| {
            format!(
                r#""request": {{"body": "x", "trailers": [["t", "1"]]}}, {upstream}
                "reply": {{"during": "{during}"}}, "downstream": {{"status": 418}}"#
            )
        };
        assert_eq!(
            mismatches(&runner, &case(callback)),
            Vec::<String>::new(),
            "{callback}"
        );
        let want = format!("reply: want it in `tick`, got it in `{callback}`");
        assert_eq!(mismatches(&runner, &case("tick")), [want]);
        if callback != "request_headers" {
            let case = r#""request": {"body": "x", "trailers": [["t", "1"]]}, "upstream": {}"#;
            let want = format!("reply: want none, got 418 in `{callback}`");
            assert_eq!(mismatches(&runner, case), [want]);
        }
    }
}

#[test]
fn held_ms() {
    check(
        r#"(global $stream (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 100))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $stream (local.get 0)) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (if (i32.eqz (call $effective (global.get $stream)))
                (then (drop (call $continue (i32.const 0))))))"#,
        r#""request": {}, "upstream": {}, "held_ms": 100, "answer": {"delay_ms": 50},
           "then": [{"after_ms": 10, "request": {}, "upstream": {}, "held_ms": 40}]"#,
        &[
            (
                r#""held_ms": 100"#,
                r#""held_ms": 7"#,
                "exchange 1: held: want 7 ms, got 100 ms",
            ),
            (
                r#""held_ms": 40"#,
                r#""held_ms": 7"#,
                "exchange 2: held: want 7 ms, got 40 ms",
            ),
        ],
    );
}

#[test]
fn exchanges_alongside_overlap() {
    // Logs `value` in a response whose request was not the last one, which happens only when exchanges overlap.
    check(
        r#"(global $last (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $last (local.get 0)) i32.const 0)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (if (i32.ne (global.get $last) (local.get 0)) (then (call $log_text @"value")))
            i32.const 0)"#,
        r#""request": {}, "upstream": {}, "logs": [{"text": "value"}],
           "alongside": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}],
           "then": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}]"#,
        &[(
            r#""alongside": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}]"#,
            r#""alongside": [{"request": {"target": "/b"}, "logs": [{"text": "value", "absent": true}]}]"#,
            "exchange 2: upstream: want no request, got GET /b",
        )],
    );
}

#[test]
fn plugins_that_share_a_vm() {
    let count = |metric: &str| {
        format!(
            r#"(drop (call $define (i32.const 0) @"{metric}" (i32.const 128)))
             (i32.eqz (call $increment (i32.load (i32.const 128)) (i64.const 1)))"#
        )
    };
    let mut runner = Runner::new(filter(&format!(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) {})
           (func (export "proxy_on_configure") (param i32 i32) (result i32) {})"#,
        count("vms"),
        count("plugins")
    )));
    // Under this profile a VM is started once.
    runner.options.profile = Profile::Spec;
    for (chained, vms, plugins) in [
        ("{}", 1, 1),
        (r#"{"config": "b"}"#, 1, 2),
        (r#"{"plugin": {"root_id": "b"}}"#, 1, 2),
        (r#"{"plugin": {"name": "b"}}"#, 1, 2),
        (r#"{"plugin": {"vm_id": "b"}}"#, 2, 2),
        (r#"{"plugin": {"vm_config": "b"}}"#, 2, 2),
        (
            r#"{"plugin": {"vm_id": "b"}}, {"plugin": {"vm_id": "b"}, "config": "c"}"#,
            2,
            3,
        ),
    ] {
        let text = format!(
            r#"{{"config": "", "chain": [{chained}], "cases": [
                {{"name": "n", "finally": {{"metrics": {{"vms": {vms}, "plugins": {plugins}}}}}}}]}}"#
        );
        let found = mismatches_of_file(&runner, &text);
        assert_eq!(found, Vec::<String>::new(), "{chained}");
    }
}

/// The guest compresses `value`, uncompresses the result, and stores it in the property `x-one`. A foreign function that
/// the case defines takes precedence over Envoy's.
#[test]
fn foreign_functions_and_filter_state() {
    let runner = Runner::new(filter(
        r#"
        (func $ask (param $name i32) (param $length i32) (param $at i32) (param $size i32)
            (call $log_digit (call $foreign (local.get $name) (local.get $length) (local.get $at) (local.get $size)
                (i32.const 128) (i32.const 132))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $ask @"compress" @"value")
            (call $ask @"uncompress" (i32.load (i32.const 128)) (i32.load (i32.const 132)))
            (drop (call $set_property @"x-one" (i32.load (i32.const 128)) (i32.load (i32.const 132))))
            (call $ask @"own" (i32.const 0) (i32.const 0)) i32.const 0)"#,
    ));
    let run = |functions: &str, state: &str, logs: &str| {
        let case = format!(
            r#""plugin": {{"foreign_functions": {{{functions}}}}}, "request": {{}}, "upstream": {{}},
            "logs": [{logs}], "filter_state": {{{state}}}"#
        );
        mismatches(&runner, &case)
    };
    let value = r#""wasm.x-one": "value", "wasm.value": null"#;
    assert_eq!(run("", value, r#"{"text": "1"}"#), Vec::<String>::new());
    let own = r#""own": {"status": "PARSE_FAILURE"}"#;
    assert_eq!(run(own, value, r#"{"text": "4"}"#), Vec::<String>::new());
    let other = r#""uncompress": {"result": "other"}"#;
    assert_eq!(
        run(other, value, ""),
        ["filter state `wasm.x-one`: want `value`, got `other`"]
    );
    assert_eq!(
        run("", r#""wasm.x-one": null"#, ""),
        ["filter state `wasm.x-one`: want none, got `value`"]
    );
}

/// The mismatch names the most common reason for a stream that stays paused.
#[test]
fn a_paused_stream_whose_body_the_filter_never_saw() {
    let pauses = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) i32.const 0)"#;
    let runner = Runner::new(filter(pauses));
    for (body, plugin, is_named) in [
        (r#", "method": "POST", "body": "abc""#, "", true),
        ("", "", false),
        (
            r#", "method": "POST", "body": "abc""#,
            r#""allow_on_headers_stop_iteration": true"#,
            false,
        ),
    ] {
        let case = format!(
            r#""plugin": {{{plugin}}}, "request": {{"target": "/"{body}}}, "upstream": {{}}"#
        );
        let found = mismatches(&runner, &case).join("\n");
        assert_eq!(
            found.contains("never received its body"),
            is_named,
            "{case}: {found}"
        );
    }
}

#[test]
fn a_golden_run() {
    let files = Files::new();
    let run = |file: &CaseFile, runner: &Runner| {
        let path = files.path("cases.json");
        let ran = runner.run(Path::new(&path), file, &file.cases[0], Schedule::default());
        ran.unwrap()
    };
    let with = |golden: &str| {
        let text = format!(
            r#"{{{golden} "cases": [{{"name": "n", "request": {{}}, "upstream": {{}}, "workers": 1,
            "alongside": [{{"request": {{"target": "/b"}}, "upstream": {{}}}}]}}]}}"#
        );
        CaseFile::parse(Path::new(&files.path("cases.json")), &text).unwrap()
    };
    let nothing = Runner::new(filter(""));
    let without = with("");
    let recording = CaseFile {
        cases: vec![run(&without, &nothing).recorded(&without.cases[0])],
        ..CaseFile::default()
    };
    files.write("golden.json", recording.to_text());
    let file = with(r#""golden": "golden.json","#);
    let found = |runner: &Runner| {
        let path = files.path("cases.json");
        let case = &file.cases[0];
        let found = runner.mismatches(Path::new(&path), &file, case, Schedule::default());
        found.unwrap()
    };
    assert_eq!(found(&nothing), Vec::<String>::new());
    // A field that the recording does not have is not a mismatch.
    let adds_field = Runner::new(filter(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $log_text @"value")
            (drop (call $replace @response @"x-one" @"value"))
            i32.const 0)"#,
    ));
    assert_eq!(found(&adds_field), Vec::<String>::new());
    let resets = Runner::new(filter(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $close (i32.const 0))) i32.const 0)"#,
    ));
    let want = "recording: exchange 1: the filter reset the stream".to_owned();
    let found = found(&resets);
    assert!(found.contains(&want), "{found:?}");
}

#[test]
fn a_connection() {
    // Holds data until there are five bytes or the end, inserts `value` before what the upstream sends, logs each callback.
    let callbacks = r#"
        (func (export "proxy_on_new_connection") (param i32) (result i32) (call $log_digit (i32.const 1)) i32.const 0)
        (func (export "proxy_on_downstream_data") (param $context i32) (param $size i32) (param $end i32) (result i32)
            (call $log_digit (local.get $size))
            (i32.and (i32.lt_u (local.get $size) (i32.const 5)) (i32.eqz (local.get $end))))
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
            (call $log_digit (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) @"value"))
            i32.const 0)
        (func (export "proxy_on_upstream_connection_close") (param i32) (param $by i32) (call $log_digit (local.get $by)))
        (func (export "proxy_on_downstream_connection_close") (param i32) (param $by i32) (call $log_digit (local.get $by)))"#;
    check(
        callbacks,
        r#""connections": [{"events": [{"downstream": "abc"}, {"after_ms": 5}, {"downstream": "def"}, {"upstream": "x"},
              {"upstream_end": ""}, {"downstream": "g"}, {"close": "remote"}, {"downstream": "too late"}],
            "upstream": "abcdef", "downstream": "valuexvalue", "paused": true,
            "logs": [{"text": "3"}, {"text": "6"}, {"text": "0"}, {"text": "2"}]}]"#,
        &[
            (
                r#""upstream": "abcdef""#,
                r#""upstream": "abc""#,
                "upstream data: want \"abc\", got \"abcdef\"",
            ),
            (
                "valuexvalue",
                "valuex",
                "downstream data: want \"valuex\", got \"valuexvalue\"",
            ),
            (
                r#""paused": true"#,
                r#""paused": false"#,
                "the filter left the request paused, having logged `1\n3\n6\n0\n0\n0\n1\n2`",
            ),
            (
                r#"{"text": "6"}"#,
                r#"{"text": "7"}"#,
                "log: want `7`, having logged `1\n3\n6\n0\n0\n0\n1\n2`",
            ),
        ],
    );
}
