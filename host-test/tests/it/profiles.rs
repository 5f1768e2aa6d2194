//! Tests each rule in which the two profiles differ. A test is named like its rule.

use std::time::Duration;

use host_test::case_file::Runner;
use host_test::envoy::Profile;
use host_test::vm::Cluster;
use host_test::{Flow, Plugin, Properties, StartOptions, lines};

use crate::support::cases::mismatches;
use crate::support::guest::{exchange, filter, request, start, texts};

fn start_with_profile(guest: &str, profile: Profile) -> Plugin {
    let options = StartOptions {
        profile,
        ..StartOptions::default()
    };
    start(guest, options)
}

/// Checks what a guest logs during its start, a request with a body and a response, under each profile.
#[track_caller]
fn check(guest: &str, envoy: &str, spec: &str) {
    for (profile, want) in [(Profile::Envoy, envoy), (Profile::Spec, spec)] {
        let plugin = start_with_profile(guest, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
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
        (call $log_digit (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) @"value"))
        (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const -1) @to_result))
        (call $log_result) i32.const 0)"#;
    check(body, "2 abc", "0 avaluec");
}

#[test]
fn broken_messages() {
    let mut runner = Runner::new(filter(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $add @request @"x-one" @"\nvalue")) i32.const 0)"#,
    ));
    for (profile, want) in [
        (Profile::Envoy, r#""downstream": {"status": 503}"#),
        (
            Profile::Spec,
            r#""upstream": {"headers": {"x-one": ["\nvalue"]}}"#,
        ),
    ] {
        runner.options.profile = profile;
        let mismatches = mismatches(&runner, &format!(r#""request": {{}}, {want}"#));
        assert_eq!(mismatches, Vec::<String>::new(), "{}", profile.name());
    }
}

#[test]
fn buffer_limit() {
    let holds =
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) i32.const 1)"#;
    let body = vec![0; 1024 * 1024];
    for (profile, want) in [
        (Profile::Envoy, Flow::Replied),
        (Profile::Spec, Flow::Paused),
    ] {
        let plugin = start_with_profile(holds, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
        assert_eq!(stream.request_body(body.clone(), false), Flow::Paused);
        assert_eq!(stream.request_body(vec![0], false), want);
    }
}

#[test]
fn buffer_outside_callback() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log_digit (call $buffer (i32.const 0) (i32.const 0) (i32.const 9) @to_result)) i32.const 0)"#;
    check(body, "0", "1");
}

#[test]
fn buffer_range_overflow() {
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $log_digit (call $buffer (i32.const 0) (i32.const 1) (i32.const -1) @to_result)) i32.const 0)"#;
    check(body, "0", "2");
}

#[test]
fn call_out_trailers() {
    let call = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a") @"value"
                @pairs("x-one" "value") (i32.const 0) (i32.const 500)))"#;
    for (profile, want) in [(Profile::Envoy, 0), (Profile::Spec, 1)] {
        let options = StartOptions {
            profile,
            clusters: vec![Cluster {
                name: "auth".to_owned(),
                responses: Vec::new(),
            }],
            ..StartOptions::default()
        };
        let outcome = exchange(&start(call, options));
        assert_eq!(outcome.call_outs[0].trailers.len(), want);
    }
}

#[test]
fn continue_order() {
    let continues_and_holds = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $continue (i32.const 0))) i32.const 1)"#;
    for (profile, want) in [
        (Profile::Envoy, Flow::Paused),
        (Profile::Spec, Flow::Continue),
    ] {
        let plugin = start_with_profile(continues_and_holds, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
        assert_eq!(stream.request_body(b"abc".to_vec(), true), want);
    }
}

#[test]
fn forbidden_calls() {
    let continues_response = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $continue (i32.const 1))) i32.const 0)"#;
    let outcome = exchange(&start_with_profile(continues_response, Profile::Envoy));
    let failure = outcome.failure.expect("a failure").to_string();
    let want = "proxy_on_request_headers: the filter continues the response before there is one, which crashes Envoy 1.40";
    assert_eq!(failure, want);
    let outcome = exchange(&start_with_profile(continues_response, Profile::Spec));
    assert!(outcome.failure.is_none() && outcome.downstream.is_some());
}

#[test]
fn last_reply() {
    let replies_twice = r#"
        (func $answer (param i32) (drop (call $reply (local.get 0) @"x-one" @"value" (i32.const 0) (i32.const 0) (i32.const -1))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eqz (call $tick (i32.const 10))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
            (drop (call $effective (i32.const 2))) (call $answer (i32.const 401)) (call $answer (i32.const 402)))"#;
    for (profile, want) in [(Profile::Envoy, b"402"), (Profile::Spec, b"401")] {
        let plugin = start_with_profile(replies_twice, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), true);
        plugin.advance(Duration::from_millis(10));
        let downstream = stream.finish().downstream.unwrap();
        assert_eq!(downstream.headers.get(":status"), Some(&want[..]));
    }
}

#[test]
fn counter_record() {
    let counter = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $define (i32.const 0) @"x-one" (i32.const 0)))
        (drop (call $record (i32.load (i32.const 0)) (i64.const 2)))
        (drop (call $record (i32.load (i32.const 0)) (i64.const 2)))
        (call $log_digit (call $metric (i32.load (i32.const 0)) (i32.const 128)))
        (call $log_digit (i32.load (i32.const 128))) i32.const 1)"#;
    check(counter, "0 4", "0 2");
}

#[test]
fn end_order() {
    let end = r#"(func (export "proxy_on_log") (param i32) (call $log_text @"1"))
        (func (export "proxy_on_done") (param i32) (result i32) (call $log_text @"2") i32.const 1)
        (func (export "proxy_on_delete") (param i32) (call $log_text @"3"))"#;
    check(end, "1 2 3", "2 1 3");
}

#[test]
fn joined_lines() {
    let add = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $add @request @"accept" @"a"))
            (drop (call $add @request @"accept" @"value"))
            (drop (call $get @request @"accept" @to_result))
            (call $log_result) i32.const 0)"#;
    check(add, "a,value", "a");
}

#[test]
fn late_answer() {
    for callback in ["proxy_on_log", "proxy_on_done", "proxy_on_delete"] {
        for call in [
            "(call $close (i32.const 1))",
            "(call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))",
        ] {
            let (result, value) = match callback {
                "proxy_on_done" => ("(result i32)", "i32.const 1"),
                _ => ("", ""),
            };
            let guest = format!(
                r#"(func (export "{callback}") (param i32) {result} (call $log_digit {call}) {value})"#
            );
            let outcome = exchange(&start_with_profile(&guest, Profile::Envoy));
            let failure = outcome.failure.expect("a failure").to_string();
            assert!(failure.contains("crashes Envoy 1.40"), "{failure}");
            let outcome = exchange(&start_with_profile(&guest, Profile::Spec));
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
        (call $log_digit (call $get @request @"x-one" @to_result))
        (call $log_digit (call $replace @request @"x-one" @"value"))
        (drop (call $size @response (i32.const 0)))
        (call $log_number (i32.load (i32.const 0))) i32.const 0)"#;
    // `:status` and `200`: 10 bytes; with count, lengths and terminators 24.
    check(response, "2 2 1 0", "0 2 2 4");
}

#[test]
fn own_property_path() {
    let property = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log_digit (call $set_property @"a\00b" @"value"))
            (call $log_digit (call $property @"a\00b" @to_result)) i32.const 0)"#;
    check(property, "0 1", "0 0");
}

#[test]
fn vm_start() {
    let start = r#"(func (export "proxy_on_vm_start") (param $context i32) (param i32) (result i32)
        (call $log_digit (local.get $context)) i32.const 1)"#;
    for (profile, want) in [(Profile::Envoy, "2"), (Profile::Spec, "")] {
        let first = start_with_profile(start, profile);
        let second = first.start_in_same_vm(StartOptions::default()).unwrap();
        assert_eq!(
            (texts(&first.logs()), texts(&second.logs())),
            ("1".to_owned(), want.to_owned())
        );
    }
}

/// The headers of the second stream continue the first.
#[test]
fn resumed_body() {
    let guest = r#"(global $first (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (global.get $first) (then
                (drop (call $effective (global.get $first)))
                (drop (call $continue (i32.const 0)))
                (return (i32.const 0))))
            (global.set $first (local.get 0))
            i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $log_number (local.get 1)) (i32.eqz (local.get 2)))"#;
    for (profile, want) in [(Profile::Envoy, ""), (Profile::Spec, "hello")] {
        let plugin = start_with_profile(guest, profile);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
        stream.request_body(b"he".to_vec(), false);
        stream.request_body(b"llo".to_vec(), false);
        stream.request_trailers(lines(&[("t", "1")]));
        exchange(&plugin);
        let outcome = stream.finish();
        assert_eq!(texts(&outcome.logs), "5", "{profile:?}");
        let upstream = outcome.upstream.unwrap();
        assert_eq!(upstream.body, want.as_bytes(), "{profile:?}");
        assert_eq!(upstream.trailers, lines(&[("t", "1")]), "{profile:?}");
    }
}

#[test]
fn every_rule_has_a_test_here_or_in_call_outs() {
    let tests = concat!(include_str!("profiles.rs"), include_str!("call_outs.rs"));
    for rule in Profile::RULES {
        let name = rule.name.replace('-', "_");
        assert!(
            tests.contains(&format!("fn {name}")) || tests.contains(&format!("_{name}")),
            "{name}"
        );
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
fn held_headers_do_not_hold_the_body_with_allow_on_headers_stop_iteration() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (call $log_digit (local.get 1))
            (call $log_digit (call $replace @request @"x-one" @"value"))
            i32.const 0)"#;
    for (allow, want) in [(false, None), (true, Some("3 0"))] {
        let options = StartOptions {
            allow_on_headers_stop_iteration: allow,
            ..StartOptions::default()
        };
        let plugin = start(guest, options);
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), false);
        stream.request_body(b"abc".to_vec(), true);
        let outcome = stream.finish();
        assert_eq!(outcome.upstream.is_some(), allow);
        if let Some(want) = want {
            assert_eq!(texts(&outcome.logs), want);
            let upstream = outcome.upstream.unwrap();
            assert_eq!(upstream.body, b"abc");
            // The body's callback can edit held headers, as in Envoy.
            assert_eq!(upstream.headers.get("x-one"), Some(&b"value"[..]));
        }
    }
}

#[test]
fn environment_variables_can_be_read_through_wasi() {
    let guest = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $log_digit (call $environ_sizes (i32.const 200) (i32.const 204)))
        (call $log_number (i32.load (i32.const 200)))
        (call $log_number (i32.load (i32.const 204)))
        (call $log_digit (call $environ (i32.const 220) (i32.const 240)))
        (call $log_text (i32.load (i32.const 220)) (i32.const 3)) i32.const 1)"#;
    let options = StartOptions {
        environment: vec![("A".to_owned(), "1".to_owned())],
        ..StartOptions::default()
    };
    let plugin = start(guest, options);
    assert_eq!(texts(&plugin.logs()), "0 1 4 0 A=1");
    assert_eq!(exchange(&plugin).failure, None);
}
