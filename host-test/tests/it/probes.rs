//! Tests that every group of host functions returns the statuses that Envoy returns.
//!
//! Each probe calls the functions of a group with valid and invalid arguments and writes the statuses as characters into a
//! response header. The expected statuses were observed in Envoy 1.40. If `FLUXLIT_TEST_ENVOY` names an Envoy, the command
//! `diff` compares the two again.

use crate::support::program::{Files, host_test};

/// `$note` appends a number as a character, with 0 as `0`. `$write_notes` adds all of them to the response.
const NOTES: &str = r#"
    (global $length (mut i32) (i32.const 0))
    (func $note (param i32)
        (i32.store8 (i32.add (i32.const 700) (global.get $length)) (i32.add (i32.const 48) (local.get 0)))
        (global.set $length (i32.add (global.get $length) (i32.const 1))))
    (func $write_notes (drop (call $add @response @"x-one" (i32.const 700) (global.get $length))))
"#;

const CASES: &str = r#"{"cases": [{"name": "probe", "request": {"method": "POST", "body": "abc", "headers": [["x-in", "1"]]},
    "upstream": {}, "answer": {"body": "def"}, "downstream": {"headers": {"x-one": ["WANT"]}}}]}"#;

/// A group of host functions: the calls in the callbacks of the request's headers and body, and what Envoy returns.
struct Probe {
    group: &'static str,
    in_headers: String,
    in_body: String,
    want: &'static str,
}

/// Notes the result of each call; `calls` has one call per line.
fn note(calls: &str) -> String {
    let calls = calls.lines().filter(|call| !call.trim().is_empty());
    calls.map(|call| format!("(call $note {call})\n")).collect()
}

fn probes() -> Vec<Probe> {
    let maps: String = [0, 1, 2, 3, 4, 7, 8]
        .map(|map| {
            note(&format!(
                r#"(call $get (i32.const {map}) @"absent" @to_result)
                (call $pairs (i32.const {map}) @to_result)
                (call $size (i32.const {map}) (i32.const 0))
                (call $remove (i32.const {map}) @"absent")"#
            ))
        })
        .concat();
    let buffers: String = (0..10)
        .map(|buffer| {
            note(&format!(
                "(call $buffer (i32.const {buffer}) (i32.const 1) (i32.const -1) @to_result)"
            ))
        })
        .collect();
    let set_buffers = note(
        r#"(call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) @"value")
        (call $set_buffer (i32.const 6) (i32.const 0) (i32.const 1) @"value")
        (call $set_buffer (i32.const 7) (i32.const 0) (i32.const 1) @"value")
        (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 1) @"value")
        (call $set_buffer (i32.const 9) (i32.const 0) (i32.const 1) @"value")"#,
    );
    let properties = note(
        r#"(call $property @"request\00method" @to_result)
        (call $property @"request\00nothing" @to_result)
        (call $property @"plugin_root_id" @to_result)
        (call $property @"request\00headers\00x-in" @to_result)
        (call $property @"" @to_result)
        (call $set_property @"a" @"value")
        (call $property @"a" @to_result)
        (call $set_property @"a\00b" @"value")
        (call $property @"a\00b" @to_result)"#,
    );
    let metrics = ["0", "1", "2"]
        .map(|kind| {
            let id = "(i32.load (i32.const 128))";
            note(&format!(
                r#"(call $define (i32.const {kind}) @"x-one" (i32.const 128))
                (call $increment {id} (i64.const 2))
                (call $increment {id} (i64.const 0))
                (call $increment {id} (i64.const -1))
                (call $record {id} (i64.const 3))
                (call $metric {id} (i32.const 136))
                (i32.load (i32.const 136))"#
            ))
        })
        .concat()
        + &note(
            r#"(call $define (i32.const 3) @"x-one" (i32.const 128))
            (call $increment (i32.const 4000) (i64.const 1))
            (call $record (i32.const 4001) (i64.const 1))
            (call $metric (i32.const 4002) (i32.const 136))"#,
        );
    let shared = note(
        r#"(call $data @"x-one" @to_result (i32.const 128))
        (call $set_data @"x-one" @"value" (i32.const 9))
        (call $set_data @"x-one" @"value" (i32.const 9999))
        (call $set_data @"x-one" @"value" (i32.const 0))
        (call $data @"x-one" @to_result (i32.const 128))
        (i32.load (i32.const 4))
        (call $resolve (i32.const 0) (i32.const 0) @"absent" (i32.const 128))
        (call $register @"x-one" (i32.const 128))
        (call $dequeue (i32.load (i32.const 128)) @to_result)
        (call $enqueue (i32.load (i32.const 128)) @"value")
        (call $dequeue (i32.load (i32.const 128)) @to_result)
        (call $dequeue (i32.const 9999) @to_result)
        (call $enqueue (i32.const 9999) @"value")"#,
    );
    let calls = note(
        r#"(call $call @"nobody" @pairs(":method" "GET" ":path" "/" ":authority" "a") (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400))
        (call $call @"nobody" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 400))
        (call $grpc_call @"nobody" @"x-one" @"value" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400))
        (call $grpc_stream @"nobody" @"x-one" @"value" (i32.const 0) (i32.const 0) (i32.const 400))
        (call $grpc_send (i32.const 1) @"value" (i32.const 1))
        (call $grpc_send (i32.const 2) @"value" (i32.const 1))
        (call $grpc_cancel (i32.const 1))
        (call $grpc_cancel (i32.const 4))
        (call $grpc_close (i32.const 2))
        (call $grpc_close (i32.const 4))
        (call $status (i32.const 404) @to_result)
        (call $foreign @"clear_route_cache" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (call $foreign @"nobody" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"#,
    );
    let lifecycle = note(
        r#"(call $effective (i32.const 7777))
        (call $done)
        (call $continue (i32.const 3))
        (call $continue (i32.const 4))
        (call $close (i32.const 9))
        (call $log (i32.const 6) @"value")
        (call $log (i32.const 0) (i32.const -1) (i32.const 5))
        (call $set_pairs (i32.const 9) (i32.const 0) (i32.const 0))
        (call $fd_write (i32.const 3) (i32.const 128) (i32.const 1) (i32.const 0))
        (call $tick (i32.const 0))"#,
    );
    let probe = |group, in_headers: &str, in_body: &str, want| Probe {
        group,
        in_headers: in_headers.to_owned(),
        in_body: in_body.to_owned(),
        want,
    };
    vec![
        probe(
            "maps",
            &maps,
            &maps,
            "10002022202220222022202222222022202220222022202220222222",
        ),
        probe(
            "buffers",
            &buffers,
            &(buffers.clone() + &set_buffers),
            "0000100102000010010222122",
        ),
        probe("properties", &properties, "", "010030001"),
        probe("metrics", &metrics, "", "0022005000000302220232112"),
        probe("shared data and queues", &shared, "", "1080051070011"),
        probe("calls", &calls, "", "2244211212001"),
        probe("lifecycle", &lifecycle, "", "21<2226280"),
    ]
}

/// Checks that `run` meets the cases, and that `diff` finds no difference if there is an Envoy.
#[track_caller]
fn check(files: &Files, guest: &str, cases: &str) {
    let filter = files.write_guest("filter.wasm", guest);
    let cases = files.write("cases.json", cases);
    let options = ["--filter", &filter, "--cases", &cases];
    let run = host_test(&[&["run"][..], &options].concat());
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    if let Ok(envoy) = std::env::var("FLUXLIT_TEST_ENVOY") {
        let diff = host_test(&[&["diff", "--envoy", &envoy][..], &options].concat());
        assert_eq!(diff.code, Some(0), "{}{}", diff.stdout, diff.stderr);
    }
}

#[test]
fn every_group_returns_the_statuses_of_envoy() {
    let files = Files::new();
    for probe in probes() {
        let Probe {
            group,
            in_headers,
            in_body,
            want,
        } = probe;
        println!("{group}");
        let guest = format!(
            r#"{NOTES}
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {in_headers} i32.const 0)
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
                (if (i32.eqz (local.get 2)) (then {in_body})) i32.const 0)
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $write_notes) i32.const 0)"#
        );
        check(&files, &guest, &CASES.replace("WANT", want));
    }
}

/// In Envoy `ContinueAndEndStream`, which the C++ SDK still has, is `Continue`: the message does not end earlier.
#[test]
fn continue_and_end_stream_is_continue() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 2)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 2)"#;
    let cases = r#"{"cases": [{"name": "n", "request": {"method": "POST", "body": "abc"}, "upstream": {"body": "abc"},
        "answer": {"body": "def"}, "downstream": {"body": "def"}}]}"#;
    check(&Files::new(), guest, cases);
}
