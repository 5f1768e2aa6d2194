//! Does the host answer every group of host functions as real Envoy does?
//!
//! Each probe calls the functions of a group, with arguments right and wrong, and writes the statuses as characters into
//! a response header. What is expected here was seen in Envoy 1.40. Where `FLUXLIT_TEST_ENVOY` names an Envoy, the
//! command `diff` compares the two again.

use crate::cli::{host_test, write};
use crate::guest;

/// `$note` keeps a number as a character from `0` on, `$tell` puts all of them into a response header.
const NOTES: &str = r#"
    (global $length (mut i32) (i32.const 0))
    (func $note (param i32)
        (i32.store8 (i32.add (i32.const 700) (global.get $length)) (i32.add (i32.const 48) (local.get 0)))
        (global.set $length (i32.add (global.get $length) (i32.const 1))))
    (func $tell (drop (call $add (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 700) (global.get $length))))
    (data (i32.const 300) "nobody")
    (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
    (data (i32.const 420) "clear_route_cache")
    (data (i32.const 440) "a\00b")
    (data (i32.const 460) "request\00method")
    (data (i32.const 480) "request\00nothing")
    (data (i32.const 500) "plugin_root_id")
    (data (i32.const 520) "request\00headers\00x-in")
"#;

const CASES: &str = r#"{"cases": [{"name": "probe", "request": {"method": "POST", "body": "abc", "headers": [["x-in", "1"]]},
    "upstream": {}, "answer": {"body": "def"}, "downstream": {"headers": {"x-one": ["WANT"]}}}]}"#;

/// The probes: group, what is called with the request's headers, then with its body, what Envoy answers.
fn probes() -> Vec<(&'static str, String, String, &'static str)> {
    let note = |calls: &[&str]| -> String {
        calls
            .iter()
            .map(|call| format!("(call $note {call})"))
            .collect()
    };
    let maps: String = [0, 1, 2, 3, 4, 7, 8]
        .map(|map| {
            note(&[
                &format!("(call $get (i32.const {map}) (i32.const 48) (i32.const 6) (i32.const 0) (i32.const 4))"),
                &format!("(call $pairs (i32.const {map}) (i32.const 0) (i32.const 4))"),
                &format!("(call $size (i32.const {map}) (i32.const 0))"),
                &format!("(call $remove (i32.const {map}) (i32.const 48) (i32.const 6))"),
            ])
        })
        .concat();
    let buffers: String = (0..10)
        .map(|buffer| {
            note(&[&format!(
                "(call $buffer (i32.const {buffer}) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 4))"
            )])
        })
        .collect();
    let set_buffers = note(&[
        "(call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 32) (i32.const 5))",
        "(call $set_buffer (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 32) (i32.const 5))",
        "(call $set_buffer (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 32) (i32.const 5))",
        "(call $set_buffer (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32) (i32.const 5))",
        "(call $set_buffer (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 32) (i32.const 5))",
    ]);
    let get = |address: u32, length: u32| {
        format!(
            "(call $property (i32.const {address}) (i32.const {length}) (i32.const 0) (i32.const 4))"
        )
    };
    let properties = note(&[
        &get(460, 14),
        &get(480, 15),
        &get(500, 14),
        &get(520, 20),
        &get(440, 0),
        "(call $set_property (i32.const 440) (i32.const 1) (i32.const 32) (i32.const 5))",
        &get(440, 1),
        "(call $set_property (i32.const 440) (i32.const 3) (i32.const 32) (i32.const 5))",
        &get(440, 3),
    ]);
    let metrics = ["0", "1", "2"]
        .map(|kind| {
            let id = "(i32.load (i32.const 128))";
            note(&[
                &format!(
                    "(call $define (i32.const {kind}) (i32.const 16) (i32.const 5) (i32.const 128))"
                ),
                &format!("(call $increment {id} (i64.const 2))"),
                &format!("(call $increment {id} (i64.const 0))"),
                &format!("(call $increment {id} (i64.const -1))"),
                &format!("(call $record {id} (i64.const 3))"),
                &format!("(call $metric {id} (i32.const 136))"),
                "(i32.load (i32.const 136))",
            ])
        })
        .concat()
        + &note(&[
            "(call $define (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 128))",
            "(call $increment (i32.const 4000) (i64.const 1))",
            "(call $record (i32.const 4001) (i64.const 1))",
            "(call $metric (i32.const 4002) (i32.const 136))",
        ]);
    let shared = note(&[
        "(call $data (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 128))",
        "(call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 9))",
        "(call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 9999))",
        "(call $set_data (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0))",
        "(call $data (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 128))",
        "(i32.load (i32.const 4))",
        "(call $resolve (i32.const 0) (i32.const 0) (i32.const 48) (i32.const 6) (i32.const 128))",
        "(call $register (i32.const 16) (i32.const 5) (i32.const 128))",
        "(call $dequeue (i32.load (i32.const 128)) (i32.const 0) (i32.const 4))",
        "(call $enqueue (i32.load (i32.const 128)) (i32.const 32) (i32.const 5))",
        "(call $dequeue (i32.load (i32.const 128)) (i32.const 0) (i32.const 4))",
        "(call $dequeue (i32.const 9999) (i32.const 0) (i32.const 4))",
        "(call $enqueue (i32.const 9999) (i32.const 32) (i32.const 5))",
    ]);
    let calls = note(&[
        "(call $call (i32.const 300) (i32.const 6) (i32.const 320) (i32.const 61) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400))",
        "(call $call (i32.const 300) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 400))",
        "(call $grpc_call (i32.const 300) (i32.const 6) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 400))",
        "(call $grpc_stream (i32.const 300) (i32.const 6) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 400))",
        "(call $grpc_send (i32.const 1) (i32.const 32) (i32.const 5) (i32.const 1))",
        "(call $grpc_send (i32.const 2) (i32.const 32) (i32.const 5) (i32.const 1))",
        "(call $grpc_cancel (i32.const 1))",
        "(call $grpc_cancel (i32.const 4))",
        "(call $grpc_close (i32.const 2))",
        "(call $grpc_close (i32.const 4))",
        "(call $status (i32.const 404) (i32.const 0) (i32.const 4))",
        "(call $foreign (i32.const 420) (i32.const 17) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "(call $foreign (i32.const 300) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
    ]);
    let life = note(&[
        "(call $effective (i32.const 7777))",
        "(call $done)",
        "(call $continue (i32.const 3))",
        "(call $continue (i32.const 4))",
        "(call $close (i32.const 9))",
        "(call $log (i32.const 6) (i32.const 32) (i32.const 5))",
        "(call $log (i32.const 0) (i32.const -1) (i32.const 5))",
        "(call $set_pairs (i32.const 9) (i32.const 0) (i32.const 0))",
        "(call $fd_write (i32.const 3) (i32.const 128) (i32.const 1) (i32.const 0))",
        "(call $tick (i32.const 0))",
    ]);
    vec![
        ("maps", maps.clone(), maps, MAPS),
        ("buffers", buffers.clone(), buffers + &set_buffers, BUFFERS),
        ("properties", properties, String::new(), PROPERTIES),
        ("metrics", metrics, String::new(), METRICS),
        ("shared", shared, String::new(), SHARED),
        ("calls", calls, String::new(), CALLS),
        ("life", life, String::new(), LIFE),
    ]
}

const MAPS: &str = "10002022202220222022202222222022202220222022202220222222";
const BUFFERS: &str = "0000100102000010010222122";
const PROPERTIES: &str = "010030001";
const METRICS: &str = "0022005000000302220232112";
const SHARED: &str = "1080051070011";
const CALLS: &str = "2244211212001";
const LIFE: &str = "21<2226280";

/// `ContinueAndEndStream`, which the C++ SDK still has, is `Continue` in Envoy; the end does not come earlier.
#[test]
fn continue_and_end_stream_is_continue() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 2)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 2)"#;
    let folder = tempfile::tempdir().unwrap();
    let filter = write(folder.path(), "filter.wasm", guest::module(guest));
    let cases = write(
        folder.path(),
        "cases.json",
        r#"{"cases": [{"name": "n", "request": {"method": "POST", "body": "abc"}, "upstream": {"body": "abc"},
            "answer": {"body": "def"}, "downstream": {"body": "def"}}]}"#,
    );
    for mut command in commands(&std::env::var("FLUXLIT_TEST_ENVOY").ok()) {
        command.extend(["--filter", &filter, "--cases", &cases]);
        let ran = host_test(&command);
        assert_eq!(ran.code, Some(0), "{} {}", ran.stdout, ran.stderr);
    }
}

/// The commands that compare: with the expectation, and with Envoy if there is one.
fn commands(envoy: &Option<String>) -> Vec<Vec<&str>> {
    let mut commands = vec![vec!["run"]];
    if let Some(envoy) = envoy {
        commands.push(vec!["diff", "--envoy", envoy]);
    }
    commands
}

#[test]
fn every_group_answers_as_envoy_does() {
    let folder = tempfile::tempdir().unwrap();
    let envoy = std::env::var("FLUXLIT_TEST_ENVOY").ok();
    let mut misses = Vec::new();
    for (name, headers, body, want) in probes() {
        let guest = format!(
            r#"{NOTES}
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {headers} i32.const 0)
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
                (if (i32.eqz (local.get 2)) (then {body})) i32.const 0)
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $tell) i32.const 0)"#
        );
        let filter = write(
            folder.path(),
            &format!("{name}.wasm"),
            guest::module(&guest),
        );
        let cases = write(
            folder.path(),
            &format!("{name}.json"),
            CASES.replace("WANT", &want.replace('"', "\\\"")),
        );
        for mut command in commands(&envoy) {
            command.extend(["--filter", &filter, "--cases", &cases]);
            let ran = host_test(&command);
            if ran.code != Some(0) {
                misses.push(format!("{name}: {} {}", ran.stdout, ran.stderr));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}
