//! Compares what happens if a filter sends replies, closes and continues several times, or at a wrong time.

use super::{check, diff};
use crate::support::program::{Files, host_test};

/// The configuration is a program: for each callback its letter, what it does, its result, and `;`. Callbacks: `n` a new
/// stream, `H` request headers, `B` a body frame, `b` the last one, `T` trailers; `R`, `S`, `s` and `U` those of the response;
/// `k` the response to a call. Actions: `1` reply with 418, `2` reply with 419, `C` close, `q` continue the request, `p`
/// continue the response, `A` call `auth`. Results: `.` continue, `!` hold. A call's callback acts for the last stream.
const PROGRAM: &str = r#"
    (global $code (mut i32) (i32.const 0)) (global $length (mut i32) (i32.const 0)) (global $stream (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
        (global.set $code (i32.load (i32.const 0))) (global.set $length (i32.load (i32.const 4)))
        i32.const 1)
    (func $answer (param $status i32)
        (drop (call $reply (local.get $status) @"x-one" @"value" (i32.const 0) (i32.const 0) (i32.const -1))))
    (func $act (param $action i32)
        (if (i32.eq (local.get $action) @'1') (then (call $answer (i32.const 418))))
        (if (i32.eq (local.get $action) @'2') (then (call $answer (i32.const 419))))
        (if (i32.eq (local.get $action) @'C') (then (drop (call $close (i32.const 0)))))
        (if (i32.eq (local.get $action) @'q') (then (drop (call $continue (i32.const 0)))))
        (if (i32.eq (local.get $action) @'p') (then (drop (call $continue (i32.const 1)))))
        (if (i32.eq (local.get $action) @'A') (then (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a")
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 500))))))
    (func $run (param $callback i32) (result i32) (local $at i32) (local $is_start i32) (local $runs i32) (local $byte i32)
        (local.set $is_start (i32.const 1))
        (loop $next
            (if (i32.ge_u (local.get $at) (global.get $length)) (then (return (i32.const 0))))
            (local.set $byte (i32.load8_u (i32.add (global.get $code) (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (if (local.get $is_start)
                (then
                    (local.set $is_start (i32.const 0))
                    (local.set $runs (i32.eq (local.get $byte) (local.get $callback))))
                (else
                    (if (i32.eq (local.get $byte) @';') (then (local.set $is_start (i32.const 1))))
                    (if (local.get $runs) (then
                        (if (i32.eq (local.get $byte) @'.') (then (return (i32.const 0))))
                        (if (i32.eq (local.get $byte) @'!') (then (return (i32.const 1))))
                        (call $act (local.get $byte))))))
            (br $next))
        unreachable)
    (func (export "proxy_on_context_create") (param i32 i32)
        (if (local.get 1) (then (global.set $stream (local.get 0)) (drop (call $run @'n')))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $run @'H'))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $run (select @'b' @'B' (local.get 2))))
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $run @'T'))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $run @'R'))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (call $run (select @'s' @'S' (local.get 2))))
    (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (call $run @'U'))
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $effective (global.get $stream))) (drop (call $run @'k')))"#;

const POST: &str = r#"{"method": "POST", "body": "abc"}"#;
const POST_WITH_TRAILERS: &str = r#"{"method": "POST", "body": "abc", "trailers": [["t", "1"]]}"#;
const GET: &str = "{}";
const BODY: &str = r#"{"body": "def"}"#;
const BODY_WITH_TRAILERS: &str = r#"{"body": "def", "trailers": [["t", "1"]]}"#;
const NO_BODY: &str = r#"{"headers": [["content-length", "0"]]}"#;

fn case(program: &str, request: &str, answer: &str, rest: &str) -> String {
    let upstreams = if program.contains('A') {
        r#""upstreams": {"auth": [{}]}, "#
    } else {
        ""
    };
    format!(
        r#"{{"name": "{program} {}", "config": "{program}", {upstreams}"request": {request},
        "answer": {answer}, {rest}}}"#,
        request.len() + answer.len()
    )
}

#[test]
fn harmless_sequences_have_the_same_result() {
    let replied = |status: u32| format!(r#""downstream": {{"status": {status}}}"#);
    let passes = r#""upstream": {}, "downstream": {"status": 200, "body": "def"}"#.to_owned();
    let reset = r#""reset": true"#.to_owned();
    let mut cases: Vec<String> = Vec::new();
    // In the request's callbacks, the first reply is sent, and none with a close.
    for callback in ["H", "B", "n"] {
        let upstream = if callback == "B" {
            r#""upstream": {}, "reply": {"status": 418}, "#
        } else {
            ""
        };
        let replied = format!("{upstream}{}", replied(418));
        cases.push(case(&format!("{callback}12.;"), POST, BODY, &replied));
        cases.push(case(&format!("{callback}1q.;"), POST, BODY, &replied));
        if callback != "n" {
            for program in ["1C!;", "C1!;", "Cq!;"] {
                let program = format!("{callback}{program}");
                cases.push(case(&program, POST, BODY, &reset));
            }
        }
    }
    cases.push(case("HCC.;", POST, BODY, &reset));
    // From a call, the last reply is sent.
    cases.push(case("HA!;k12.;", POST, BODY, &replied(419)));
    cases.push(case("HA!;kC1.;", POST, BODY, &reset));
    cases.push(case("HA!;k1C.;", POST, BODY, &reset));
    cases.push(case("HA!;kq.;", POST, BODY, &passes));
    cases.push(case("H1.;R2.;", GET, BODY, &replied(419)));
    cases.push(case("H1.;RC.;", GET, BODY, &reset));
    cases.push(case("H1.;s2.;", GET, BODY, &reset));
    // A continue in its own callback comes before the result.
    cases.push(case("Hq!;", GET, BODY, &passes));
    cases.push(case("Bq!;bq.;", POST, BODY, &passes));
    cases.push(case("B!;bq!;", POST, BODY, &passes));
    cases.push(case("B!;Tq!;", POST_WITH_TRAILERS, BODY, &passes));
    cases.push(case("Sp!;", GET, BODY, &passes));
    cases.push(case("S!;sp!;", GET, BODY, &passes));
    cases.push(case("S!;Up!;", GET, BODY_WITH_TRAILERS, &passes));
    cases.push(case("Rp!;", GET, NO_BODY, r#""upstream": {}"#));
    let reset_response = r#""upstream": {}, "reset": true"#;
    // A reply in place of the response.
    let replaced = r#""upstream": {}, "reply": {"status": 418}, "downstream": {"status": 418}"#;
    cases.push(case("R1p.;", GET, BODY, replaced));
    cases.push(case("RC1.;", GET, BODY, reset_response));
    cases.push(case("RA!;k1.;", GET, BODY, replaced));
    cases.push(case("RA!;kC1.;", GET, BODY, reset_response));
    cases.push(case("Sq.;", GET, BODY, &passes));
    check(PROGRAM, &format!(r#"{{"cases": [{}]}}"#, cases.join(",\n")));
}

#[test]
fn sequences_that_crash_envoy_or_corrupt_messages_fail_the_filter() {
    let envoy = std::env::var("FLUXLIT_TEST_ENVOY");
    for (program, request, answer, action) in [
        (
            "R12.;",
            GET,
            BODY,
            "sends a local reply on a stream that it has already ended",
        ),
        (
            "R1C!;",
            GET,
            BODY,
            "closes its stream, which it has already ended",
        ),
        (
            "S12.;",
            GET,
            BODY,
            "sends a local reply on a stream that it has already ended",
        ),
        (
            "SC1.;",
            GET,
            BODY,
            "sends a local reply on a stream that it has already ended",
        ),
        (
            "bCC.;",
            POST,
            BODY,
            "closes its stream, which it has already ended",
        ),
        (
            "HA!;kCC.;",
            GET,
            BODY,
            "closes its stream, which it has already ended",
        ),
        (
            "RA!;k12.;",
            GET,
            BODY,
            "sends a local reply on a stream that it has already ended",
        ),
        (
            "HA!;k121.;",
            GET,
            BODY,
            "sends a local reply on a stream that it has already ended",
        ),
        (
            "UC.;",
            GET,
            BODY_WITH_TRAILERS,
            "closes its stream in the last callback of the response",
        ),
        (
            "Hp.;",
            GET,
            BODY,
            "continues the response before there is one",
        ),
        (
            "H1p.;",
            GET,
            BODY,
            "continues the response before there is one",
        ),
        (
            "np.;",
            GET,
            BODY,
            "continues the response before there is one",
        ),
        (
            "nC.;",
            GET,
            BODY,
            "closes its stream before there is a request",
        ),
        (
            "HA!;kp.;",
            GET,
            BODY,
            "continues the response before there is one",
        ),
        (
            "S!;sp.;",
            GET,
            BODY,
            "continues the end of the response twice",
        ),
        (
            "Up.;",
            GET,
            BODY_WITH_TRAILERS,
            "continues the end of the response twice",
        ),
        (
            "Rp.;",
            GET,
            NO_BODY,
            "continues headers in their own callback",
        ),
        // These do not crash Envoy.
        ("Rp.;", GET, BODY, "continues headers in their own callback"),
        ("Rp!;", GET, BODY, "continues headers in their own callback"),
        ("Hq.;", GET, BODY, "continues headers in their own callback"),
        (
            "Hq!;",
            POST,
            BODY,
            "continues headers in their own callback",
        ),
        (
            "nq.;",
            GET,
            BODY,
            "continues the request before there is one",
        ),
        (
            "HA!;k1p.;",
            GET,
            BODY,
            "continues headers in their own callback",
        ),
        (
            "Rq.;",
            POST_WITH_TRAILERS,
            BODY,
            "continues a request that it does not hold",
        ),
    ] {
        let files = Files::new();
        let filter = files.write_guest("filter.wasm", PROGRAM);
        let upstream = if matches!(
            program.as_bytes(),
            [b'b' | b'R' | b'S' | b'U', ..] | b"Hq.;" | b"Hq!;"
        ) {
            r#""upstream": {}, "#
        } else {
            ""
        };
        let rest =
            format!(r#""fails": "the filter {action}", {upstream}"downstream": {{"status": 503}}"#);
        let case = case(program, request, answer, &rest);
        // A further case shows that Envoy has ended.
        let next = r#"{"name": "next", "config": "", "request": {}, "upstream": {}}"#;
        let text = format!(r#"{{"cases": [{case}, {next}]}}"#);
        let cases = files.write("cases.json", text);
        let run = host_test(&["run", "--filter", &filter, "--cases", &cases]);
        assert_eq!(run.code, Some(0), "{program}: {}{}", run.stdout, run.stderr);
        // Envoy takes seconds for each of them, so only one of each kind is run there.
        if let Ok(envoy) = &envoy
            && IN_ENVOY.contains(&program)
        {
            let run = diff(envoy, &filter, &cases);
            assert_eq!(run.code, Some(1), "{program}: {}{}", run.stdout, run.stderr);
        }
    }
}

/// The programs that also run in Envoy.
const IN_ENVOY: [&str; 4] = ["R12.;", "bCC.;", "Hp.;", "Hq.;"];
