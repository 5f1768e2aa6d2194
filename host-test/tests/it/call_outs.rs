//! Tests that call-outs are sent, fail and complete as in Envoy.

use std::time::Duration;

use host_test::envoy::Profile;
use host_test::event::Side;
use host_test::vm::{CallKind, CallResponse, Cluster, DelayedResponse, GrpcEvent};
use host_test::{Flow, Plugin, Properties, StartOptions, lines};

use crate::support::guest::{request, start, texts};

/// Calls `auth`. The id of the call is stored at 400.
const CALL: &str = r#"
    (func $http (param $timeout i32) (result i32)
        (call $call @"auth" @pairs(":method" "POST" ":path" "/" ":authority" "a") @"value"
            (i32.const 0) (i32.const 0) (local.get $timeout) (i32.const 400)))
"#;

/// Pauses the request for a call; when the call completes, logs its id, headers, body and status, and continues.
const CALLS_AND_WAITS: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log_digit (call $http (i32.const 1000)))
        i32.const 1)
    (func (export "proxy_on_http_call_response") (param $context i32) (param $id i32) (param $headers i32) (param $body i32) (param $trailers i32)
        (call $log_digit (i32.ne (local.get $id) (i32.load (i32.const 400))))
        (call $log_digit (local.get $headers))
        (call $log_number (local.get $body))
        (call $log_digit (call $get (i32.const 6) @":status" @to_result))
        (call $log_result)
        (call $log_digit (call $status (i32.const 404) @to_result))
        (call $log_result)
        (drop (call $effective (i32.const 2)))
        (drop (call $continue (i32.const 0))))
"#;

/// The options with the service `auth`, which answers the calls in this order.
fn with_auth(answers: Vec<DelayedResponse>) -> StartOptions {
    StartOptions {
        clusters: vec![Cluster {
            name: "auth".to_owned(),
            responses: answers,
        }],
        ..StartOptions::default()
    }
}

fn calls_and_waits(answers: Vec<DelayedResponse>, profile: Profile) -> Plugin {
    start(
        &format!("{CALL}{CALLS_AND_WAITS}"),
        StartOptions {
            profile,
            ..with_auth(answers)
        },
    )
}

fn at_once(answer: CallResponse) -> Vec<DelayedResponse> {
    vec![DelayedResponse {
        delay: Duration::ZERO,
        response: answer,
    }]
}

fn ok(body: &str) -> CallResponse {
    CallResponse::Http {
        headers: lines(&[(":status", "200")]),
        body: body.into(),
        trailers: lines(&[]),
    }
}

#[test]
fn call_out_failure_is_a_response_in_envoy_and_has_no_headers_by_the_specification() {
    // The logs: status of the call, id matches, headers, body size, status of reading `:status`, `:status`, gRPC status.
    let nothing = "0 0 0 2  0 reset";
    for (answer, envoy, spec) in [
        (ok("fine"), "0 1 4 0 200 0 ", "0 1 4 0 200 0 "),
        (CallResponse::Refused, "0 3 9 8 0 503 0 ", nothing),
        (CallResponse::Reset, "0 3 9 5 0 503 0 ", nothing),
        (CallResponse::TimedOut, "0 3 2 4 0 504 0 ", nothing),
    ] {
        let is_at_once = answer != CallResponse::TimedOut;
        for (profile, want) in [(Profile::Envoy, envoy), (Profile::Spec, spec)] {
            let plugin = calls_and_waits(at_once(answer.clone()), profile);
            let mut stream = plugin.stream(Properties::default());
            // The answer arrives right after the callback, before `request_headers` returns, or else at the timeout.
            let flow = stream.request_headers(request(), true);
            assert_eq!(flow == Flow::Continue, is_at_once);
            if !is_at_once {
                plugin.advance(Duration::from_millis(999));
                assert_eq!(stream.flow(Side::Request), Flow::Paused);
                plugin.advance(Duration::from_millis(1));
                assert_eq!(stream.flow(Side::Request), Flow::Continue);
            }
            assert_eq!(texts(&plugin.logs()), want, "{answer:?} {profile:?}");
            let outcome = stream.finish();
            assert_eq!(texts(&outcome.logs), "0");
            let call = &outcome.call_outs[0];
            assert_eq!(
                (call.cluster.as_str(), &call.kind),
                ("auth", &CallKind::Http)
            );
            assert_eq!(call.headers.get("content-length"), Some(&b"5"[..]));
            assert_eq!(call.body, b"value");
            assert_eq!(call.timeout, Some(Duration::from_secs(1)));
        }
    }
}

#[test]
fn an_answer_is_delayed_and_one_after_the_timeout_is_a_failure() {
    for (delay, arrives, want) in [(200, 200, "200"), (1500, 1000, "504")] {
        let answers = vec![DelayedResponse {
            delay: Duration::from_millis(delay),
            response: ok(""),
        }];
        let plugin = calls_and_waits(answers, Profile::Envoy);
        let mut stream = plugin.stream(Properties::default());
        assert_eq!(stream.request_headers(request(), true), Flow::Paused);
        plugin.advance(Duration::from_millis(arrives - 1));
        assert_eq!(stream.flow(Side::Request), Flow::Paused);
        plugin.advance(Duration::from_millis(1));
        assert_eq!(stream.flow(Side::Request), Flow::Continue);
        assert!(texts(&plugin.logs()).contains(want), "{delay}");
        assert!(plugin.open_calls().is_empty());
    }
}

#[test]
fn a_call_can_be_answered_once_after_its_stream_has_ended() {
    let plugin = calls_and_waits(Vec::new(), Profile::Envoy);
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), true);
    let outcome = stream.finish();
    assert_eq!(outcome.paused, [Side::Request]);
    let call = plugin.open_calls()[0].id;
    assert!(plugin.respond(call, &CallResponse::NoHeaders));
    assert!(!plugin.respond(call, &CallResponse::NoHeaders));
    assert_eq!(plugin.failure(), None);
    assert!(texts(&plugin.logs()).ends_with("reset"));
}

/// Logs `plugin`, makes the stream effective, logs `stream`, calls `auth` and runs a loop, then continues the stream.
const ACTS_FOR_STREAM: &str = r#"
    (global $stream (mut i32) (i32.const 0)) (global $acted (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (global.set $stream (local.get 0)) (call $start_wait) i32.const 1)
    (func $act (local $rounds i32)
        (if (global.get $acted) (then (return)))
        (global.set $acted (i32.const 1))
        (call $log_text @"plugin")
        (drop (call $effective (global.get $stream)))
        (call $log_text @"stream")
        (drop (call $http (i32.const 0)))
        (local.set $rounds (i32.const 100000))
        (loop $again
            (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
            (br_if $again (local.get $rounds)))
        (drop (call $continue (i32.const 0))))"#;

#[test]
fn what_a_callback_does_belongs_to_the_effective_context() {
    let grpc_call = r#"(drop (call $grpc_call @"auth" @"x-one" @"value"
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400)))"#;
    let enqueue = r#"(drop (call $register @"queue" (i32.const 128)))
        (drop (call $enqueue (i32.load (i32.const 128)) @"value"))"#;
    for (waits, callback, own_calls) in [
        (
            "(drop (call $http (i32.const 0)))",
            r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $act))"#,
            1,
        ),
        (
            grpc_call,
            r#"(func (export "proxy_on_grpc_receive") (param i32 i32 i32) (call $act))"#,
            1,
        ),
        (
            grpc_call,
            r#"(func (export "proxy_on_grpc_close") (param i32 i32 i32) (call $act))"#,
            1,
        ),
        (
            "(drop (call $tick (i32.const 10)))",
            r#"(func (export "proxy_on_tick") (param i32) (call $act))"#,
            0,
        ),
        (
            enqueue,
            r#"(func (export "proxy_on_queue_ready") (param i32 i32) (call $act))"#,
            0,
        ),
    ] {
        let answer = match callback {
            _ if callback.contains("grpc_receive") => CallResponse::Grpc(two_messages(0)),
            _ if callback.contains("grpc_close") => CallResponse::Grpc(two_messages(7)),
            _ => ok(""),
        };
        let guest = format!("{CALL}(func $start_wait {waits}){ACTS_FOR_STREAM}{callback}");
        let plugin = start(&guest, with_auth(at_once(answer)));
        let mut stream = plugin.stream(Properties::default());
        stream.request_headers(request(), true);
        plugin.advance(Duration::from_millis(10));
        assert_eq!(stream.flow(Side::Request), Flow::Continue, "{callback}");
        let outcome = stream.finish();
        assert_eq!(outcome.failure, None);
        assert_eq!(
            (texts(&plugin.logs()), texts(&outcome.logs)),
            ("plugin".to_owned(), "stream".to_owned()),
            "{callback}"
        );
        assert_eq!(outcome.call_outs.len(), own_calls + 1, "{callback}");
        assert!(outcome.fuel > 300_000, "{callback}: {}", outcome.fuel);
        assert_eq!(outcome.calls["proxy_continue_stream"], 1, "{callback}");
        assert!(outcome.abi_fuel < outcome.fuel);
    }
}

/// Makes a call for each request, and continues the stream of each call that ends. Stream ids are stored by call id.
const CALLS_FOR_EACH_STREAM: &str = r#"
    (func (export "proxy_on_request_headers") (param $stream i32) (param i32 i32) (result i32)
        (drop (call $http (i32.const 1000)))
        ;; The first stream has id 2, and the first call id 4.
        (i32.eq (i32.shl (i32.sub (local.get $stream) (i32.const 1)) (i32.const 2)) (i32.load (i32.const 400))))
    (func (export "proxy_on_http_call_response") (param $context i32) (param $id i32) (param i32 i32 i32)
        (drop (call $effective (i32.add (i32.shr_u (local.get $id) (i32.const 2)) (i32.const 1))))
        (drop (call $continue (i32.const 0))))"#;

#[test]
fn any_number_of_calls_may_end_at_one_time() {
    let plugin = start(
        &format!("{CALL}{CALLS_FOR_EACH_STREAM}"),
        with_auth(Vec::new()),
    );
    let mut streams = Vec::new();
    for _ in 0..20_000 {
        let mut stream = plugin.stream(Properties::default());
        assert_eq!(stream.request_headers(request(), true), Flow::Paused);
        streams.push(stream);
    }
    plugin.advance(Duration::from_secs(1));
    assert_eq!(plugin.failure(), None);
    assert!(plugin.open_calls().is_empty());
    for stream in streams {
        assert_eq!(stream.flow(Side::Request), Flow::Continue);
        stream.finish();
    }
}

/// Makes as many calls in one callback as the configuration says, and counts the responses.
const MANY_CALLS: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $left i32)
        (drop (call $define (i32.const 0) @"responses" (i32.const 128)))
        (local.set $left (i32.const 1001))
        (loop $again
            (drop (call $http (i32.const 1000)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $again (local.get $left)))
        i32.const 0)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $increment (i32.load (i32.const 128)) (i64.const 1))))"#;

#[test]
fn any_number_of_calls_of_one_callback_may_be_answered_at_once() {
    let plugin = start(&format!("{CALL}{MANY_CALLS}"), with_auth(at_once(ok(""))));
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), true);
    assert_eq!(stream.finish().failure, None);
    assert_eq!(plugin.metrics()["responses"].value, 1001);
}

/// Makes a call, and another one whenever one ends, until there were as many as `$most`.
const CALL_AFTER_CALL: &str = r#"
    (global $made (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (drop (call $http (i32.const 0))) i32.const 0)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (global.set $made (i32.add (global.get $made) (i32.const 1)))
        (if (i32.ne (global.get $made) (global.get $most)) (then (drop (call $http (i32.const 0))))))"#;

fn calls_after_calls(most: i32, answers: Vec<DelayedResponse>) -> Plugin {
    let guest = format!("{CALL}(global $most i32 (i32.const {most})){CALL_AFTER_CALL}");
    let plugin = start(&guest, with_auth(answers));
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), true);
    plugin
}

#[test]
fn calls_that_cause_each_other_for_ever_fail_the_filter() {
    assert_eq!(calls_after_calls(5000, at_once(ok(""))).failure(), None);
    let failure = calls_after_calls(-1, at_once(ok(""))).failure();
    let failure = failure.expect("a failure").to_string();
    assert!(
        failure.starts_with("proxy_on_http_call_response is called again and again"),
        "{failure}"
    );
    // If time passes, the chain is not endless at any time.
    let delayed = vec![DelayedResponse {
        delay: Duration::from_millis(1),
        response: ok(""),
    }];
    let plugin = calls_after_calls(-1, delayed);
    plugin.advance(Duration::from_secs(5));
    assert_eq!(plugin.failure(), None);
    assert_eq!(plugin.open_calls().len(), 1);
}

#[test]
fn a_call_without_a_timeout_never_times_out() {
    let plugin = calls_after_calls(1, at_once(CallResponse::TimedOut));
    plugin.advance(Duration::from_secs(3600));
    assert_eq!(plugin.open_calls().len(), 1);
}

#[test]
fn an_invalid_call_is_a_bad_argument() {
    let callbacks = r#"
        (func $call_to (param $name i32) (param $name_size i32) (param $headers i32) (param $headers_size i32) (param $id i32)
            (call $log_digit (call $call (local.get $name) (local.get $name_size) (local.get $headers) (local.get $headers_size)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (local.get $id))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            ;; A negative timeout, an unknown service, no headers, an id outside the memory, and no timeout.
            (call $log_digit (call $http (i32.const -1)))
            (call $call_to @"aut" @pairs(":method" "POST" ":path" "/" ":authority" "a") (i32.const 400))
            (call $call_to @"auth" (i32.const 0) (i32.const 0) (i32.const 400))
            (call $call_to @"auth" @pairs(":method" "POST" ":path" "/" ":authority" "a") (i32.const -1))
            (call $log_digit (call $http (i32.const 0)))
            i32.const 1)"#;
    let plugin = start(&format!("{CALL}{callbacks}"), with_auth(Vec::new()));
    assert_eq!(texts(&plugin.logs()), "2 2 2 6 0");
    assert_eq!(plugin.open_calls().len(), 1, "the one without a timeout");
}

/// Logs what each gRPC callback gets.
const GRPC_CALLBACKS: &str = r#"
    (func (export "proxy_on_grpc_receive_initial_metadata") (param $context i32) (param $id i32) (param $count i32)
        (call $log_digit (local.get $count))
        (call $log_digit (call $get (i32.const 4) @"x-one" @to_result))
        (call $log_result))
    (func (export "proxy_on_grpc_receive") (param $context i32) (param $id i32) (param $size i32)
        (call $log_digit (local.get $size))
        (call $log_digit (call $buffer (i32.const 5) (i32.const 0) (i32.const -1) @to_result))
        (call $log_result))
    (func (export "proxy_on_grpc_receive_trailing_metadata") (param $context i32) (param $id i32) (param $count i32)
        (call $log_digit (call $get (i32.const 5) @"x-one" @to_result)))
    (func (export "proxy_on_grpc_close") (param $context i32) (param $id i32) (param $status i32)
        (call $log_number (local.get $status))
        (call $log_digit (call $status (i32.const 404) @to_result))
        (call $log_result))
"#;

/// Starts a guest that runs `calls` when it is configured. `auth` answers at once.
fn grpc(calls: &str, answer: CallResponse) -> Plugin {
    let configure = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {calls} i32.const 1)"#
    );
    start(
        &format!("{GRPC_CALLBACKS}{configure}"),
        with_auth(at_once(answer)),
    )
}

fn two_messages(status: u32) -> Vec<GrpcEvent> {
    vec![
        GrpcEvent::InitialMetadata(lines(&[("x-one", "first")])),
        GrpcEvent::Message(b"one".to_vec()),
        GrpcEvent::Message(b"four".to_vec()),
        GrpcEvent::TrailingMetadata(lines(&[("x-two", "")])),
        GrpcEvent::Close {
            status,
            message: "no".to_owned(),
        },
    ]
}

#[test]
fn a_unary_call_ends_in_one_callback() {
    let call_to = |service: &str| {
        format!(
            r#"(call $log_digit (call $grpc_call {service} @"x-one" @"value"
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 400)))"#
        )
    };
    let call = call_to(r#"@"auth""#);
    let nothing = vec![GrpcEvent::Close {
        status: 0,
        message: String::new(),
    }];
    for (answer, want) in [
        (CallResponse::Grpc(two_messages(0)), "0 4 0 four"),
        (
            CallResponse::Grpc(two_messages(7)),
            "0 7 0 no{via_upstream}",
        ),
        (CallResponse::Grpc(nothing), "0 1 3 0 "),
    ] {
        assert_eq!(texts(&grpc(&call, answer).logs()), want);
    }
    let refused = grpc(&call, CallResponse::Refused);
    assert!(texts(&refused.logs()).starts_with("0 1 4 0 upstream connect error"));
    // A service may also be given as a serialized `GrpcService` message.
    let message = call_to(r#"@"\0a\06\0a\04auth""#);
    let answered = grpc(&message, CallResponse::Grpc(two_messages(0)));
    assert_eq!(texts(&answered.logs()), "0 4 0 four");
    let unknown = grpc(&call_to(r#"@"uth\0a""#), CallResponse::Refused);
    assert_eq!(texts(&unknown.logs()), "4");
}

#[test]
fn a_stream_delivers_all_events_in_order() {
    let stream = r#"(call $log_digit (call $grpc_stream @"auth" @"x-one" @"value"
        (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $log_digit (call $grpc_send (i32.load (i32.const 400)) @"value" (i32.const 1)))"#;
    let plugin = grpc(stream, CallResponse::Grpc(two_messages(7)));
    assert_eq!(
        texts(&plugin.logs()),
        "0 0 1 0 first 3 0 one 4 0 four 1 7 0 no{via_upstream}"
    );
}

#[test]
fn the_id_of_a_call_and_of_a_stream_allow_different_functions() {
    let calls = r#"
        (drop (call $grpc_call @"auth" @"x-one" @"value"
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $log_digit (call $grpc_send (i32.load (i32.const 400)) @"value" (i32.const 1)))
        (call $log_digit (call $grpc_cancel (i32.load (i32.const 400))))
        (call $log_digit (call $grpc_cancel (i32.load (i32.const 400))))
        (call $log_digit (call $grpc_close (i32.const 8)))
        (call $log_digit (call $grpc_send (i32.const 402) @"value" (i32.const 1)))
        (drop (call $grpc_stream @"auth" @"x-one" @"value"
            (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $log_digit (call $grpc_close (i32.load (i32.const 400))))
        (call $log_digit (call $grpc_cancel (i32.load (i32.const 400))))"#;
    let plugin = grpc(calls, CallResponse::Grpc(two_messages(7)));
    assert_eq!(texts(&plugin.logs()), "2 0 1 2 1 0 0");
}
