//! Do the commands beside `run` do what they say at a terminal?

use serde_json::Value;

use crate::cli::{host_test, write};
use crate::guest;

/// Adds `x-one: value` to each request.
const ADDING: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))"#;

/// Writes the size of each body frame over it, so that it matters in how many frames the body comes.
const FRAGILE: &str = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 32) (i32.const 5))) i32.const 0)"#;

const CASES: &str = r#"{"cases": [{"name": "body & <frames>", "request": {"body": "abc"}, "upstream": {"body": "valuevalue"}}]}"#;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn filter(&self, name: &str, callbacks: &str) -> String {
        write(self.folder.path(), name, guest::module(callbacks))
    }

    fn text(&self, name: &str, text: &str) -> String {
        write(self.folder.path(), name, text)
    }
}

#[test]
fn schedules_find_what_one_schedule_does_not() {
    let files = Files::new();
    let filter = files.filter("filter.wasm", FRAGILE);
    let cases = files.text("cases.json", CASES);
    let junit = files.text("junit.xml", "");
    let ran = host_test(&["run", "--filter", &filter, "--cases", &cases]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let ran = host_test(&[
        "run",
        "--filter",
        &filter,
        "--cases",
        &cases,
        "--schedules",
        "all",
        "--junit",
        &junit,
    ]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("(one-frame)"), "{}", ran.stdout);
    assert!(
        ran.stdout.ends_with("3 met, 3 missed, 0 skipped\n"),
        "{}",
        ran.stdout
    );
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains(r#"tests="6" failures="3""#), "{xml}");
    assert!(xml.contains("body &amp; &lt;frames&gt; (bytes)"), "{xml}");
    let ran = host_test(&[
        "run",
        "--filter",
        &filter,
        "--cases",
        &cases,
        "--schedules",
        "often",
    ]);
    assert_eq!(ran.code, Some(2));
}

#[test]
fn suites_of_service_extensions_are_read_in_both_forms() {
    let files = Files::new();
    let filter = files.filter("filter.wasm", ADDING);
    let text = files.text(
        "tests.textpb",
        r#"env { log_level: DEBUG time_secs: 5 }
        test { name: "adds" # to what is there
          request_headers {
            input { content: "GET /x HTTP/1.1\nHost: a\nX-One: first\n" }
            result {
              has_header { key: "X-One" value: "first, value" } has_header { key: ":authority" value: "a" }
              no_header { key: "absent" } headers { regex: "x-one: .*[[:alpha:]]+" }
              headers { regex: "y.*" invert: true }
            }
          }
          request_body { input { content: "abc" } result { body { exact: "abc" } } }
        }
        test { name: "misses" request_headers { result { immediate { http_status: 403 } } } }"#,
    );
    let yaml = files.text(
        "tests.yaml",
        "test:\n- name: adds\n  request_headers:\n    result:\n      has_header:\n      - key: x-one\n        value: value\n",
    );
    let ran = host_test(&["run", "--filter", &filter, "--cases", &text, &yaml]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let want = format!(
        "missed   {text}: misses\n         request_headers: want an immediate response, got none\n2 met, 1 missed, 0 skipped\n"
    );
    assert_eq!(ran.stdout, want);
    let wrong = files.text("wrong.textpb", "test { nam: \"x\" }");
    let ran = host_test(&["run", "--filter", &filter, "--cases", &wrong]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("test has no field `nam`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_clock_of_a_suite_without_a_time_is_not_at_zero() {
    let files = Files::new();
    let filter = files.filter(
        "filter.wasm",
        r#"(func (export "_initialize")
            (drop (call $time (i32.const 1) (i64.const 0) (i32.const 512)))
            (if (i64.eqz (i64.load (i32.const 512))) (then unreachable)))"#,
    );
    let suite = files.text("tests.textpb", r#"test { name: "starts" }"#);
    let ran = host_test(&["run", "--filter", &filter, "--cases", &suite]);
    assert_eq!(ran.stdout, "1 met, 0 missed, 0 skipped\n");
}

#[test]
fn a_property_of_a_suite_is_found_by_its_segments_and_by_its_whole_name() {
    let files = Files::new();
    let filter = files.filter(
        "filter.wasm",
        r#"(data (i32.const 512) "source\00client.region" "source.client.region")
        (func $read (param $address i32)
            (if (i32.eqz (call $property (local.get $address) (i32.const 20) (i32.const 0) (i32.const 4)))
                (then (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5)
                    (i32.load (i32.const 0)) (i32.load (i32.const 4)))))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $read (i32.const 512)) (call $read (i32.const 532)) i32.const 0)"#,
    );
    let suite = files.text(
        "tests.textpb",
        r#"test { name: "reads" properties { path: "source.client.region" value: "US" }
            request_headers { result { has_header { key: "x-one" value: "US, US" } } } }"#,
    );
    let ran = host_test(&["run", "--filter", &filter, "--cases", &suite]);
    assert_eq!(ran.stdout, "1 met, 0 missed, 0 skipped\n");
}

#[test]
fn a_replay_names_what_another_filter_does_differently() {
    let files = Files::new();
    let (one, two) = (
        files.filter("one.wasm", ADDING),
        files.filter("two.wasm", ""),
    );
    let cases = files.text("cases.json", r#"{"cases": [{"name": "n", "request": {}}]}"#);
    let ran = host_test(&["record", "--filter", &one, "--cases", &cases]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let recording = files.text("recording.json", &ran.stdout);
    let ran = host_test(&["replay", "--filter", &one, &recording]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "1 met, 0 missed, 0 skipped\n")
    );
    let ran = host_test(&["replay", "--filter", &two, &recording]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout
            .contains("upstream `x-one`: want [\"value\"], got []"),
        "{}",
        ran.stdout
    );
}

#[test]
fn bench_tells_costs_and_ratios() {
    let files = Files::new();
    let (one, two) = (
        files.filter("one.wasm", ""),
        files.filter("two.wasm", ADDING),
    );
    let ran = host_test(&[
        "bench",
        "--filter",
        &one,
        "--with-filter",
        &two,
        "--streams",
        "50",
        "--json",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let number = |which: &str, what: &str| value[0][which][what].as_u64().unwrap();
    assert_eq!(
        (number("first", "calls"), number("second", "calls")),
        (0, 1)
    );
    assert!(number("second", "fuel") > number("first", "fuel"));
    assert_eq!(number("second", "memory"), 65536);
    assert_eq!(number("second", "growth"), 0);
    let ran = host_test(&["bench", "--filter", &one, "--streams", "0"]);
    assert_eq!(ran.code, Some(2));
}

#[test]
fn a_leak_is_growth() {
    let files = Files::new();
    let leaking = files.filter(
        "leaking.wasm",
        r#"(func (export "proxy_on_delete") (param i32) (drop (memory.grow (i32.const 1))))"#,
    );
    let ran = host_test(&["bench", "--filter", &leaking, "--streams", "10", "--json"]);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value[0]["first"]["growth"], 10 * 65536);
}

/// Traps on a request with a body that has an `e` in it, or if a header cannot be added.
const TRAPPING: &str = r#"
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (local $place i32) (local $end i32)
        (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (local.set $place (i32.load (i32.const 0)))
        (local.set $end (i32.add (local.get $place) (i32.load (i32.const 4))))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $place) (local.get $end)))
            (if (i32.eq (i32.load8_u (local.get $place)) (i32.const 101)) (then unreachable))
            (local.set $place (i32.add (local.get $place) (i32.const 1)))
            (br $next)))
        (global.set $next (i32.const 1024))
        i32.const 0)"#;

#[test]
fn fuzz_finds_a_trap_and_makes_it_small() {
    let files = Files::new();
    let filter = files.filter("trapping.wasm", TRAPPING);
    let ran = host_test(&["fuzz", "--filter", &filter, "--rounds", "2000"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("proxy_on_request_body trapped"),
        "{}",
        ran.stderr
    );
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let request = &value["cases"][0]["request"];
    // One letter is left of the body, and nothing else.
    let body = request["body"].as_str().unwrap();
    assert!(body.contains('e') && body.len() <= 3, "{request}");
    assert!(request.get("headers").is_none(), "{request}");
    let found = files.text("found.json", &ran.stdout);
    let ran = host_test(&["run", "--filter", &filter, "--cases", &found]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("the filter failed"), "{}", ran.stdout);
    let fine = files.filter("fine.wasm", ADDING);
    let ran = host_test(&[
        "fuzz",
        "--filter",
        &fine,
        "--rounds",
        "50",
        "--faults",
        "--vary-config",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn fuzz_finds_what_a_failing_host_call_does() {
    let files = Files::new();
    let filter = files.filter(
        "panicking.wasm",
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)) (then unreachable))
            i32.const 0)"#,
    );
    let ran = host_test(&["fuzz", "--filter", &filter, "--rounds", "500"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = host_test(&["fuzz", "--filter", &filter, "--rounds", "5000", "--faults"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr
            .contains("function: \"proxy_add_header_map_value\""),
        "{}",
        ran.stderr
    );
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = host_test(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("host-test"), "{shell}");
    }
}
