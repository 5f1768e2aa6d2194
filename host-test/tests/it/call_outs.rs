//! Do call-outs go, fail and come back as in Envoy?

use std::time::Duration;

use host_test::{
    Answer, CallKind, DelayedAnswer, Flow, GrpcEvent, Plugin, Profile, Properties, Side,
    StartOptions, Upstream, lines,
};

use crate::guest::{filter, request, texts};

/// At 300 the upstream's name, at 320 the headers of a call. The id of the call is left at 400.
const CALL: &str = r#"
    (data (i32.const 300) "auth")
    (data (i32.const 320) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00POST\00:path\00/\00:authority\00a\00")
    (func $http (param $timeout i32) (result i32)
        (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 62) (i32.const 32) (i32.const 5)
            (i32.const 0) (i32.const 0) (local.get $timeout) (i32.const 400)))
"#;

/// Pauses for the call; its answer says what it is and continues the request.
const ASKING: &str = r#"
    (data (i32.const 280) ":status")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $report (call $http (i32.const 1000)))
        i32.const 1)
    (func (export "proxy_on_http_call_response") (param $context i32) (param $id i32) (param $headers i32) (param $body i32) (param $trailers i32)
        (call $report (i32.ne (local.get $id) (i32.load (i32.const 400))))
        (call $report (local.get $headers))
        (call $say_number (local.get $body))
        (call $report (call $get (i32.const 6) (i32.const 280) (i32.const 7) (i32.const 0) (i32.const 4)))
        (call $say_result)
        (call $report (call $status (i32.const 404) (i32.const 0) (i32.const 4)))
        (call $say_result)
        (drop (call $effective (i32.const 2)))
        (drop (call $continue (i32.const 0))))
"#;

fn asking(answers: Vec<DelayedAnswer>, profile: Profile) -> Plugin {
    filter(&format!("{CALL}{ASKING}"))
        .start(StartOptions {
            profile,
            upstreams: vec![Upstream {
                name: "auth".to_owned(),
                answers,
            }],
            ..StartOptions::default()
        })
        .expect("the guest starts")
}

fn at_once(answer: Answer) -> Vec<DelayedAnswer> {
    vec![DelayedAnswer {
        delay: Duration::ZERO,
        answer,
    }]
}

fn ok(body: &str) -> Answer {
    Answer::Http {
        headers: lines(&[(":status", "200")]),
        body: body.into(),
        trailers: lines(&[]),
    }
}

#[test]
fn failures_are_responses_in_envoy_and_none_by_the_specification() {
    let nothing = "0 0 0 2  0 reset";
    for (answer, envoy, spec) in [
        (ok("fine"), "0 1 4 0 200 0 ", "0 1 4 0 200 0 "),
        (Answer::Refused, "0 3 9 8 0 503 0 ", nothing),
        (Answer::Reset, "0 3 9 5 0 503 0 ", nothing),
        (Answer::TimedOut, "0 3 2 4 0 504 0 ", nothing),
    ] {
        for (profile, want) in [(Profile::Envoy, envoy), (Profile::Spec, spec)] {
            let plugin = asking(at_once(answer.clone()), profile);
            let mut stream = plugin.stream(Properties::default());
            // The answer comes when the callback is over, so before the host's caller goes on.
            assert_eq!(stream.request_headers(request(), true), Flow::Continue);
            assert_eq!(texts(&plugin.logs()), want, "{answer:?} {profile:?}");
            let outcome = stream.finish();
            assert_eq!(texts(&outcome.logs), "0");
            let call = &outcome.call_outs[0];
            assert_eq!(
                (call.upstream.as_str(), &call.kind),
                ("auth", &CallKind::Http)
            );
            assert_eq!(call.headers.get("content-length"), Some(&b"5"[..]));
            assert_eq!(call.body, b"value");
            assert_eq!(call.timeout, Some(Duration::from_secs(1)));
        }
    }
}

#[test]
fn an_answer_waits_for_its_delay_and_a_late_one_is_a_time_out() {
    for (delay, waits, want) in [(200, 200, "200"), (1500, 1000, "504")] {
        let answers = vec![DelayedAnswer {
            delay: Duration::from_millis(delay),
            answer: ok(""),
        }];
        let plugin = asking(answers, Profile::Envoy);
        let mut stream = plugin.stream(Properties::default());
        assert_eq!(stream.request_headers(request(), true), Flow::Paused);
        plugin.advance(Duration::from_millis(waits - 1));
        assert_eq!(stream.flow(Side::Request), Flow::Paused);
        plugin.advance(Duration::from_millis(1));
        assert_eq!(stream.flow(Side::Request), Flow::Continue);
        assert!(texts(&plugin.logs()).contains(want), "{delay}");
        assert!(plugin.open_calls().is_empty());
    }
}

#[test]
fn a_call_is_answered_by_hand_when_the_stream_is_gone() {
    let plugin = asking(Vec::new(), Profile::Envoy);
    let mut stream = plugin.stream(Properties::default());
    stream.request_headers(request(), true);
    let outcome = stream.finish();
    assert_eq!(outcome.paused, [Side::Request]);
    let call = plugin.open_calls()[0].id;
    assert!(plugin.answer(call, &Answer::NoHeaders));
    assert!(!plugin.answer(call, &Answer::NoHeaders));
    assert_eq!(plugin.failure(), None);
    assert!(texts(&plugin.logs()).ends_with("reset"));
}

#[test]
fn what_is_wrong_with_a_call_is_a_bad_argument() {
    let plugin = filter(&format!(
        r#"{CALL}
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $report (call $http (i32.const -1)))
            (call $report (call $call (i32.const 300) (i32.const 3) (i32.const 320) (i32.const 62) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400)))
            (call $report (call $call (i32.const 300) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400)))
            (call $report (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 62) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
            (call $report (call $http (i32.const 0)))
            i32.const 1)"#
    ))
    .start(StartOptions {
        upstreams: vec![Upstream {
            name: "auth".to_owned(),
            answers: Vec::new(),
        }],
        ..StartOptions::default()
    })
    .expect("the guest starts");
    assert_eq!(texts(&plugin.logs()), "2 2 2 6 0");
    assert_eq!(plugin.open_calls().len(), 1, "one without a time-out");
}

const GRPC: &str = r#"
    (data (i32.const 300) "auth")
    (data (i32.const 310) "\0a\06\0a\04auth")
    (func (export "proxy_on_grpc_receive_initial_metadata") (param $context i32) (param $id i32) (param $count i32)
        (call $report (local.get $count))
        (call $report (call $get (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
        (call $say_result))
    (func (export "proxy_on_grpc_receive") (param $context i32) (param $id i32) (param $size i32)
        (call $report (local.get $size))
        (call $report (call $buffer (i32.const 5) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (call $say_result))
    (func (export "proxy_on_grpc_receive_trailing_metadata") (param $context i32) (param $id i32) (param $count i32)
        (call $report (call $get (i32.const 5) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))))
    (func (export "proxy_on_grpc_close") (param $context i32) (param $id i32) (param $status i32)
        (call $say_number (local.get $status))
        (call $report (call $status (i32.const 404) (i32.const 0) (i32.const 4)))
        (call $say_result))
"#;

fn grpc(start: &str, answer: Answer) -> Plugin {
    filter(&format!(
        r#"{GRPC} (func (export "proxy_on_configure") (param i32 i32) (result i32) {start} i32.const 1)"#
    ))
    .start(StartOptions {
        upstreams: vec![Upstream {
            name: "auth".to_owned(),
            answers: at_once(answer),
        }],
        ..StartOptions::default()
    })
    .expect("the guest starts")
}

fn conversation(status: u32) -> Vec<GrpcEvent> {
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
    let call = r#"(call $report (call $grpc_call (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 400)))"#;
    let refused = grpc(call, Answer::Refused);
    assert!(texts(&refused.logs()).starts_with("0 1 4 0 upstream connect error"));
    for (status, want) in [(0, "0 4 0 four"), (7, "0 7 0 no{via_upstream}")] {
        let ended = grpc(call, Answer::Grpc(conversation(status)));
        assert_eq!(texts(&ended.logs()), want);
    }
    let nothing = vec![GrpcEvent::Close {
        status: 0,
        message: String::new(),
    }];
    assert_eq!(texts(&grpc(call, Answer::Grpc(nothing)).logs()), "0 1 3 0 ");
    let by_service = call.replace(
        "(i32.const 300) (i32.const 4)",
        "(i32.const 310) (i32.const 8)",
    );
    assert_eq!(
        texts(&grpc(&by_service, Answer::Grpc(conversation(0))).logs()),
        "0 4 0 four"
    );
    let unknown = call.replace("(i32.const 300)", "(i32.const 301)");
    assert_eq!(texts(&grpc(&unknown, Answer::Refused).logs()), "4");
}

#[test]
fn a_stream_tells_everything_in_order() {
    let stream = r#"(call $report (call $grpc_stream (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
        (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $report (call $grpc_send (i32.load (i32.const 400)) (i32.const 32) (i32.const 5) (i32.const 1)))"#;
    let plugin = grpc(stream, Answer::Grpc(conversation(7)));
    assert_eq!(
        texts(&plugin.logs()),
        "0 0 1 0 first 3 0 one 4 0 four 1 7 0 no{via_upstream}"
    );
}

#[test]
fn ids_say_what_they_are_for() {
    let start = r#"
        (drop (call $grpc_call (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $report (call $grpc_send (i32.load (i32.const 400)) (i32.const 32) (i32.const 5) (i32.const 1)))
        (call $report (call $grpc_cancel (i32.load (i32.const 400))))
        (call $report (call $grpc_cancel (i32.load (i32.const 400))))
        (call $report (call $grpc_close (i32.const 8)))
        (call $report (call $grpc_send (i32.const 402) (i32.const 32) (i32.const 5) (i32.const 1)))
        (drop (call $grpc_stream (i32.const 300) (i32.const 4) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 400)))
        (call $report (call $grpc_close (i32.load (i32.const 400))))
        (call $report (call $grpc_cancel (i32.load (i32.const 400))))"#;
    let plugin = grpc(start, Answer::Grpc(conversation(7)));
    assert_eq!(texts(&plugin.logs()), "2 0 1 2 1 0 0");
}
