//! Do the two profiles differ in the rules they name, and in nothing else?

use std::path::Path;

use host_test::case_file::{CaseFile, Runner, Schedule};
use host_test::{Plugin, Profile, Properties, StartOptions, Upstream, lines};

use crate::guest::{exchange, filter, texts};

fn started(guest: &str, profile: Profile) -> Plugin {
    let options = StartOptions {
        profile,
        ..StartOptions::default()
    };
    filter(guest).start(options).expect("the guest starts")
}

#[track_caller]
fn check(guest: &str, envoy: &str, spec: &str) {
    for (profile, want) in [(Profile::Envoy, envoy), (Profile::Spec, spec)] {
        let plugin = started(guest, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(crate::guest::request(), false);
        stream.request_body(b"abc".to_vec(), true);
        stream.response_headers(lines(&[(":status", "200")]), true);
        let outcome = stream.finish();
        let logs = [plugin.logs(), outcome.logs].concat();
        assert_eq!(texts(&logs), want, "{}", profile.name());
    }
}

#[test]
fn body_inner_range() {
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $report (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 32) (i32.const 5)))
        (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (call $say_result) i32.const 0)"#;
    check(body, "2 abc", "0 avaluec");
}

#[test]
fn broken_messages() {
    let module = filter(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 32) (i32.const 10))
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5))) i32.const 0)"#,
    );
    let mut runner = Runner::new(module);
    let path = Path::new("cases.json");
    for (profile, expected) in [
        (Profile::Envoy, r#""downstream": {"status": 503}"#),
        (
            Profile::Spec,
            r#""upstream": {"headers": {"x-one": ["\nalue"]}}"#,
        ),
    ] {
        runner.options.profile = profile;
        let text = format!(r#"{{"cases": [{{"name": "n", "request": {{}}, {expected}}}]}}"#);
        let file = CaseFile::parse(path, &text).unwrap();
        let missed = runner.misses(path, &file, &file.cases[0], Schedule::default());
        assert_eq!(missed.unwrap(), Vec::<String>::new(), "{}", profile.name());
    }
}

#[test]
fn buffer_outside_callback_and_range_overflow() {
    let outside = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $report (call $buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))) i32.const 0)"#;
    check(outside, "0", "1");
    let overflowing = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $report (call $buffer (i32.const 0) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 4))) i32.const 0)"#;
    check(overflowing, "0", "2");
}

#[test]
fn call_out_trailers() {
    let call = r#"(data (i32.const 300) "auth")
        (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
        (data (i32.const 450) "\01\00\00\00\05\00\00\00\05\00\00\00x-one\00value\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 61) (i32.const 32) (i32.const 5)
                (i32.const 450) (i32.const 24) (i32.const 0) (i32.const 500)))"#;
    for (profile, want) in [(Profile::Envoy, 0), (Profile::Spec, 1)] {
        let options = StartOptions {
            profile,
            upstreams: vec![Upstream {
                name: "auth".to_owned(),
                answers: Vec::new(),
            }],
            ..StartOptions::default()
        };
        let outcome = exchange(&filter(call).start(options).unwrap());
        assert_eq!(outcome.call_outs[0].trailers.len(), want);
    }
}

#[test]
fn counter_record() {
    let counter = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $define (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0)))
        (drop (call $record (i32.load (i32.const 0)) (i64.const 2)))
        (drop (call $record (i32.load (i32.const 0)) (i64.const 2)))
        (call $report (call $metric (i32.load (i32.const 0)) (i32.const 128)))
        (call $report (i32.load (i32.const 128))) i32.const 1)"#;
    check(counter, "0 4", "0 2");
}

#[test]
fn end_order() {
    let end = r#"(func (export "proxy_on_log") (param i32) (call $say (i32.const 65) (i32.const 1)))
        (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 66) (i32.const 1)) i32.const 1)
        (func (export "proxy_on_delete") (param i32) (call $say (i32.const 67) (i32.const 1)))"#;
    check(end, "1 2 3", "2 1 3");
}

#[test]
fn joined_lines() {
    let add = r#"(data (i32.const 300) "accept") (data (i32.const 310) "a") (data (i32.const 312) "\01\00\00\00\06\00\00\00\01\00\00\00accept\00b\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $add (i32.const 0) (i32.const 300) (i32.const 6) (i32.const 310) (i32.const 1)))
            (drop (call $add (i32.const 0) (i32.const 300) (i32.const 6) (i32.const 32) (i32.const 5)))
            (drop (call $get (i32.const 0) (i32.const 300) (i32.const 6) (i32.const 0) (i32.const 4)))
            (call $say_result) i32.const 0)"#;
    check(add, "a,value", "a");
}

#[test]
fn late_answer() {
    for callback in ["proxy_on_log", "proxy_on_done", "proxy_on_delete"] {
        for call in [
            "(call $close (i32.const 1))",
            "(call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))",
        ] {
            let result = if callback == "proxy_on_done" {
                ("(result i32)", "i32.const 1")
            } else {
                ("", "")
            };
            let guest = format!(
                r#"(func (export "{callback}") (param i32) {} (call $report {call}) {})"#,
                result.0, result.1
            );
            let outcome = exchange(&started(&guest, Profile::Envoy));
            let failure = outcome.failure.expect("a failure").to_string();
            assert!(failure.contains("Envoy 1.40 dies"), "{failure}");
            let outcome = exchange(&started(&guest, Profile::Spec));
            assert_eq!(
                (texts(&outcome.logs), outcome.failure),
                ("2".to_owned(), None)
            );
        }
    }
}

#[test]
fn map_lifetime_and_map_size() {
    let response = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $report (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
        (call $report (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
        (drop (call $size (i32.const 2) (i32.const 0)))
        (call $say_number (i32.load (i32.const 0))) i32.const 0)"#;
    // `:status` and `200`: 10 bytes; with count, lengths and terminators 24.
    check(response, "2 2 1 0", "0 2 2 4");
}

#[test]
fn own_property_path() {
    let property = r#"(data (i32.const 200) "a\00b")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $report (call $set_property (i32.const 200) (i32.const 3) (i32.const 32) (i32.const 5)))
            (call $report (call $property (i32.const 200) (i32.const 3) (i32.const 0) (i32.const 4))) i32.const 0)"#;
    check(property, "0 1", "0 0");
}

#[test]
fn vm_start() {
    let start = r#"(func (export "proxy_on_vm_start") (param $context i32) (param i32) (result i32)
        (call $report (local.get $context)) i32.const 1)"#;
    for (profile, want) in [(Profile::Envoy, "2"), (Profile::Spec, "")] {
        let first = started(start, profile);
        let second = first.start_in_same_vm(StartOptions::default()).unwrap();
        assert_eq!(
            (texts(&first.logs()), texts(&second.logs())),
            ("1".to_owned(), want.to_owned())
        );
    }
}

#[test]
fn every_rule_has_a_test_here_or_in_call_outs() {
    let tests = concat!(include_str!("profiles.rs"), include_str!("call_outs.rs"));
    for rule in Profile::RULES {
        let name = rule.name.replace('-', "_");
        let is_tested = tests.contains(&name)
            || rule.name == "call-out-failure" && tests.contains("failures_are_responses")
            || rule.name == "buffer-range-overflow" && tests.contains("range_overflow");
        assert!(is_tested, "{}", rule.name);
        let documented = include_str!("../../../docs/host-test.md");
        assert!(
            documented.contains(&format!("| {} |", rule.name)),
            "{}",
            rule.name
        );
    }
    assert_eq!(Profile::named("envoy-1.40"), Some(Profile::Envoy));
    assert_eq!(Profile::named("spec"), Some(Profile::Spec));
    assert_eq!(Profile::named("nginx"), None);
}

#[test]
fn stopping_at_the_headers_lets_the_body_go_on_where_it_is_allowed() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $report (local.get 1))
            (call $report (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
            i32.const 0)"#;
    for (allow, want) in [(false, None), (true, Some("3 0"))] {
        let options = StartOptions {
            allow_on_headers_stop_iteration: allow,
            ..StartOptions::default()
        };
        let plugin = filter(guest).start(options).unwrap();
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(crate::guest::request(), false);
        stream.request_body(b"abc".to_vec(), true);
        let outcome = stream.finish();
        assert_eq!(outcome.upstream.is_some(), allow);
        if let Some(want) = want {
            assert_eq!(texts(&outcome.logs), want);
            let upstream = outcome.upstream.unwrap();
            assert_eq!(upstream.body, b"abc");
            // Held headers can be written from the body's callback, as in Envoy.
            assert_eq!(upstream.headers.get("x-one"), Some(&b"value"[..]));
        }
    }
}

#[test]
fn environment_variables_come_as_wasi_has_them() {
    let guest = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $report (call $environ_sizes (i32.const 200) (i32.const 204)))
        (call $say_number (i32.load (i32.const 200)))
        (call $say_number (i32.load (i32.const 204)))
        (call $report (call $environ (i32.const 220) (i32.const 240)))
        (call $say (i32.load (i32.const 220)) (i32.const 3)) i32.const 1)"#;
    let options = StartOptions {
        environment: vec![("A".to_owned(), "1".to_owned())],
        ..StartOptions::default()
    };
    let plugin = filter(guest).start(options).unwrap();
    assert_eq!(texts(&plugin.logs()), "0 1 4 0 A=1");
    assert_eq!(exchange(&plugin).failure, None);
}
