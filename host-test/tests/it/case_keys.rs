//! Does each thing that a case can say work, and does it say what is missed?
//!
//! A row is a guest's callbacks, a case that they meet, and that case with one wrong word, with the miss it causes.

use std::path::Path;

use host_test::Profile;
use host_test::case_file::{CaseFile, Runner, Schedule};

use crate::guest::filter;

#[track_caller]
fn misses(runner: &Runner, path: &Path, case: &str) -> Vec<String> {
    let text = format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#);
    let file = CaseFile::parse(path, &text).expect("the file is right");
    runner
        .misses(path, &file, &file.cases[0], Schedule::default())
        .unwrap()
}

/// The case is met; with the first of each pair in place of what it says, it misses by the second.
#[track_caller]
fn check(callbacks: &str, case: &str, wrong: &[(&str, &str, &str)]) {
    let runner = Runner::new(filter(callbacks));
    let path = Path::new("cases.json");
    assert_eq!(misses(&runner, path, case), Vec::<String>::new());
    for (right, wrong, miss) in wrong {
        assert!(case.contains(right), "{right}");
        assert_eq!(
            misses(&runner, path, &case.replace(right, wrong)),
            [*miss],
            "{wrong}"
        );
    }
}

/// Takes a message out of the queue `x-one` for each notice, and puts `value` into it for each request.
const QUEUE: &str = r#"
    (global $queue (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $register (i32.const 16) (i32.const 5) (i32.const 128)))
        (global.set $queue (i32.load (i32.const 128)))
        i32.const 1)
    (func (export "proxy_on_queue_ready") (param i32 i32)
        (drop (call $dequeue (global.get $queue) (i32.const 0) (i32.const 4)))
        (call $say_result))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $enqueue (global.get $queue) (i32.const 32) (i32.const 5)))
        i32.const 0)"#;

#[test]
fn queues() {
    // What lay there came first; each notice takes one, so as many stay as lay there.
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
    // Every start counts; each request counts where it runs, in the VM's memory, and reports that count.
    let callbacks = r#"
        (global $own (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 128)))
            (drop (call $increment (i32.load (i32.const 128)) (i64.const 1)))
            (call $say (i32.const 48) (i32.const 6))
            (i32.eqz (call $register (i32.const 16) (i32.const 5) (i32.const 132))))
        (func (export "proxy_on_queue_ready") (param i32 i32) (call $say (i32.const 32) (i32.const 5)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $increment (i32.load (i32.const 128)) (i64.const 1)))
            (global.set $own (i32.add (global.get $own) (i32.const 1)))
            (drop (call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (global.get $own) (i32.const 0)))
            (drop (call $enqueue (i32.load (i32.const 132)) (i32.const 32) (i32.const 5)))
            (call $report (global.get $own))
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
    let text = r#"{"cases": [{"name": "n", "workers": 2, "worker": 2, "request": {}}]}"#;
    let error = CaseFile::parse(Path::new("x.json"), text).unwrap_err();
    assert!(error.to_string().contains("no worker 2"), "{error}");
    let text = r#"{"cases": [{"name": "n", "workers": 0, "request": {}}]}"#;
    let error = CaseFile::parse(Path::new("x.json"), text).unwrap_err();
    assert!(error.to_string().contains("cases[0].workers"), "{error}");
}

#[test]
fn a_capability_that_is_not_allowed_answers_as_in_envoy() {
    let callbacks = r#"
        (data (i32.const 300) "0123456789")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5)
                (i32.const 300) (call $tick (i32.const 10))))
            (drop (call $add (i32.const 0) (i32.const 48) (i32.const 6)
                (i32.const 300) (i32.div_u (call $random (i32.const 0) (i32.const 4)) (i32.const 19))))
            i32.const 0)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable)"#;
    // The first ten digits are INTERNAL_FAILURE, four are 76 of WASI by 19.
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
    let path = Path::new("cases.json");
    // Without a word on capabilities everything is allowed, the trap in the body's callback included.
    let found = misses(&runner, path, r#""request": {"body": "x"}, "upstream": {}"#);
    assert!(found[0].starts_with("the filter failed: "), "{found:?}");
}

#[test]
fn metrics_by_kind() {
    check(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $define (i32.const 1) (i32.const 16) (i32.const 5) (i32.const 128)))
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
    let found = misses(&runner, Path::new("cases.json"), case);
    assert!(found[0].starts_with("the VM failed: "), "{found:?}");
}

#[test]
fn order_and_lines_that_must_not_be() {
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
fn an_answer_of_the_filters_own_in_each_callback() {
    for (callback, parameters) in [
        ("request_headers", "i32 i32 i32"),
        ("request_body", "i32 i32 i32"),
        ("request_trailers", "i32 i32"),
        ("response_headers", "i32 i32 i32"),
    ] {
        let guest = format!(
            r#"(func (export "proxy_on_{callback}") (param {parameters}) (result i32)
                (drop (call $reply (i32.const 418) (i32.const 32) (i32.const 5) (i32.const 32) (i32.const 5)
                    (i32.const 0) (i32.const 0) (i32.const -1)))
                i32.const 0)"#
        );
        let runner = Runner::new(filter(&guest));
        let path = Path::new("cases.json");
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
            misses(&runner, path, &case(callback)),
            Vec::<String>::new(),
            "{callback}"
        );
        let miss = format!("reply: want it in `tick`, got it in `{callback}`");
        assert_eq!(misses(&runner, path, &case("tick")), [miss]);
        if callback != "request_headers" {
            let case = r#""request": {"body": "x", "trailers": [["t", "1"]]}, "upstream": {}"#;
            let miss = format!("reply: want none, got 418 in `{callback}`");
            assert_eq!(misses(&runner, path, case), [miss]);
        }
    }
}

#[test]
fn a_request_that_is_held_for_a_while() {
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
fn exchanges_alongside_are_open_at_the_same_time() {
    // It writes the context of the last request into every response: mixed up as soon as two are open.
    check(
        r#"(global $last (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $last (local.get 0)) i32.const 0)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (if (i32.ne (global.get $last) (local.get 0)) (then (call $say (i32.const 32) (i32.const 5))))
            i32.const 0)"#,
        r#""request": {}, "upstream": {}, "logs": [{"text": "value"}],
           "alongside": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}],
           "then": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}]"#,
        &[(
            r#""alongside": [{"request": {}, "upstream": {}, "logs": [{"text": "value", "absent": true}]}]"#,
            r#""alongside": [{"request": {"target": "/b"}, "logs": [{"text": "value", "absent": true}]}]"#,
            "exchange 2: upstream: want it not asked, got GET /b",
        )],
    );
}

#[test]
fn plugins_that_share_a_vm() {
    let count = |at: &str, length: u32| {
        format!(
            "(drop (call $define (i32.const 0) (i32.const {at}) (i32.const {length}) (i32.const 128)))
             (i32.eqz (call $increment (i32.load (i32.const 128)) (i64.const 1)))"
        )
    };
    let mut runner = Runner::new(filter(&format!(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) {})
           (func (export "proxy_on_configure") (param i32 i32) (result i32) {})"#,
        count("16", 5),
        count("32", 5)
    )));
    // Here a VM is started once.
    runner.options.profile = Profile::Spec;
    let path = Path::new("cases.json");
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
                {{"name": "n", "finally": {{"metrics": {{"x-one": {vms}, "value": {plugins}}}}}}}]}}"#
        );
        let file = CaseFile::parse(path, &text).unwrap();
        let missed = runner.misses(path, &file, &file.cases[0], Schedule::default());
        assert_eq!(missed.unwrap(), Vec::<String>::new(), "{chained}");
    }
}

/// What a test answers for a foreign function comes before Envoy's own; what is unpacked is what was packed.
#[test]
fn foreign_functions_and_filter_state() {
    let runner = Runner::new(filter(
        r#"(data (i32.const 700) "compress") (data (i32.const 720) "uncompress") (data (i32.const 740) "own")
        (func $ask (param $name i32) (param $length i32) (param $at i32) (param $size i32)
            (call $report (call $foreign (local.get $name) (local.get $length) (local.get $at) (local.get $size)
                (i32.const 128) (i32.const 132))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $ask (i32.const 700) (i32.const 8) (i32.const 32) (i32.const 5))
            (call $ask (i32.const 720) (i32.const 10) (i32.load (i32.const 128)) (i32.load (i32.const 132)))
            (drop (call $set_property (i32.const 16) (i32.const 5) (i32.load (i32.const 128)) (i32.load (i32.const 132))))
            (call $ask (i32.const 740) (i32.const 3) (i32.const 0) (i32.const 0)) i32.const 0)"#,
    ));
    let path = Path::new("cases.json");
    let row = |plugin: &str, state: &str, logs: &str| {
        misses(
            &runner,
            path,
            &format!(
                r#""plugin": {{"foreign_functions": {{{plugin}}}}}, "request": {{}}, "upstream": {{}}, "logs": [{logs}],
                "filter_state": {{{state}}}"#
            ),
        )
    };
    let value = r#""wasm.x-one": "value", "wasm.value": null"#;
    let own = r#""own": {"status": "PARSE_FAILURE"}"#;
    assert_eq!(row("", value, r#"{"text": "1"}"#), Vec::<String>::new());
    assert_eq!(row(own, value, r#"{"text": "4"}"#), Vec::<String>::new());
    let other = r#""uncompress": {"result": "other"}"#;
    assert_eq!(
        row(other, value, ""),
        ["filter state `wasm.x-one`: want `value`, got `other`"]
    );
    assert_eq!(
        row("", r#""wasm.x-one": null"#, ""),
        ["filter state `wasm.x-one`: want none, got `value`"]
    );
}

/// The most common reason for a stream that stays paused is named.
#[test]
fn a_body_that_was_never_seen() {
    let pauses = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) i32.const 0)"#;
    let runner = Runner::new(filter(pauses));
    let path = Path::new("cases.json");
    for (body, setup, hints) in [
        (r#", "method": "POST", "body": "abc""#, "", true),
        ("", "", false),
        (
            r#", "method": "POST", "body": "abc""#,
            r#""allow_on_headers_stop_iteration": true"#,
            false,
        ),
    ] {
        let case = format!(
            r#""plugin": {{{setup}}}, "request": {{"target": "/"{body}}}, "upstream": {{}}"#
        );
        let missed = misses(&runner, path, &case).join("\n");
        assert_eq!(
            missed.contains("never saw its body"),
            hints,
            "{case}: {missed}"
        );
    }
}

#[test]
fn a_golden_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.json");
    let text = r#"{"golden": "golden.json", "cases": [{"name": "n", "request": {}, "upstream": {}, "workers": 1,
        "alongside": [{"request": {"target": "/b"}, "upstream": {}}]}]}"#;
    let without =
        CaseFile::parse(&path, &text.replace(r#""golden": "golden.json", "#, "")).unwrap();
    let runner = Runner::new(filter(""));
    let ran = runner.run(&path, &without, &without.cases[0], Schedule::default());
    let recording = CaseFile {
        cases: vec![ran.unwrap().recorded(&without.cases[0])],
        ..CaseFile::default()
    };
    std::fs::write(folder.path().join("golden.json"), recording.to_text()).unwrap();
    let file = CaseFile::parse(&path, text).unwrap();
    let missed = |runner: &Runner| {
        let case = &file.cases[0];
        runner
            .misses(&path, &file, case, Schedule::default())
            .unwrap()
    };
    assert_eq!(missed(&runner), Vec::<String>::new());
    let changed = Runner::new(filter(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $say (i32.const 32) (i32.const 5))
            (drop (call $replace (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
            i32.const 0)"#,
    ));
    // A field that the recording does not name is no miss, a status that it does is one.
    assert_eq!(missed(&changed), Vec::<String>::new());
    let trapping = Runner::new(filter(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $close (i32.const 0))) i32.const 0)"#,
    ));
    let found = missed(&trapping);
    assert!(
        found.contains(&"recording: exchange 1: the filter reset the stream".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_connection() {
    // Holds until it has seen five bytes or the end, puts `value` before what the upstream sends, logs each callback.
    let callbacks = r#"
        (func (export "proxy_on_new_connection") (param i32) (result i32) (call $report (i32.const 1)) i32.const 0)
        (func (export "proxy_on_downstream_data") (param $context i32) (param $size i32) (param $end i32) (result i32)
            (call $report (local.get $size))
            (i32.and (i32.lt_u (local.get $size) (i32.const 5)) (i32.eqz (local.get $end))))
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
            (call $report (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5)))
            i32.const 0)
        (func (export "proxy_on_upstream_connection_close") (param i32) (param $by i32) (call $report (local.get $by)))
        (func (export "proxy_on_downstream_connection_close") (param i32) (param $by i32) (call $report (local.get $by)))"#;
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
