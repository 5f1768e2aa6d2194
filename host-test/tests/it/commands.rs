//! Tests the commands as a user of the program sees them: output, errors and exit codes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::program::{Files, command, host_test};

/// Adds `x-one: value` to each request.
const ADDS_FIELD: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $add @request @"x-one" @"value"))"#;

/// Does nothing.
const NOTHING: &str = "";

const ALL_MET: &str = "1 met, 0 missed, 0 skipped\n";

/// `added` is met by [`ADDS_FIELD`] only. `elsewhere` is skipped.
const CASES: &str = r#"{"about": "One header.", "cases": [
    {"name": "added", "why": "w", "request": {"peer": "192.0.2.1"}, "upstream": {"headers": {"x-one": ["value"]}}},
    {"name": "elsewhere", "why": "w", "request": {"peer": "192.0.2.1"}, "upstream": {}, "except": {"wasm": "not here"}}]}"#;

#[test]
fn a_command_that_takes_long_tells_how_far_it_is() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", NOTHING);
    let many = u32::MAX.to_string();
    let mut command = command();
    command.args(["fuzz", "--filter", &filter, "--rounds", &many]);
    let mut program = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let messages = BufReader::new(program.stderr.take().expect("a pipe"));
    let first = messages.lines().next().expect("a message");
    program.kill().expect("it is running");
    program.wait().expect("it has ended");
    let first = first.expect("text");
    assert_eq!(first, "searching for failures: 2 s so far …");
}

#[test]
fn data_for_a_reader_that_has_left_is_no_error() {
    for arguments in [&["completions", "fish"][..], &["man"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let run = command().args(arguments).stdout(writer).output();
        let run = run.expect("it runs");
        assert_eq!(run.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&run.stderr), "", "{arguments:?}");
    }
}

#[test]
fn run_counts_met_and_skipped_cases() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", ADDS_FIELD);
    let cases = files.write("cases.json", CASES);
    let run = host_test(&["run", "--filter", &filter, "--cases", files.folder()]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let want = format!("skipped  {cases}: elsewhere: not here\n1 met, 0 missed, 1 skipped\n");
    assert_eq!(run.stdout, want);
}

#[test]
fn run_reports_a_missed_case_and_exits_with_1() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", NOTHING);
    let cases = files.write("cases.json", CASES);
    let run = host_test(&["run", "--filter", &filter, "--cases", &cases]);
    assert_eq!(run.code, Some(1));
    let want = "upstream `x-one`: want [\"value\"], got []";
    assert!(run.stdout.contains(want), "{}", run.stdout);
    let run = host_test(&["run", "--json", "--filter", &filter, "--cases", &cases]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &value[0]["ending"]), (Some(1), &"missed".into()));
}

#[test]
fn wrong_usage_and_unusable_files_exit_with_2() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", NOTHING);
    let cases = files.write("cases.json", CASES);
    let broken = files.write("broken.json", "{");
    let suite = files.write("wrong.textpb", "test { nam: \"x\" }");
    let no_config = files.write(
        "no_config.json",
        r#"{"config_file": "absent", "cases": []}"#,
    );
    let no_golden = files.write("no_golden.json", r#"{"golden": "absent", "cases": []}"#);
    let https = "https://app.example";
    for (arguments, want) in [
        (
            &["run", "--filter", &filter, "--cases", &broken][..],
            "broken.json",
        ),
        (
            &["diff", "--filter", &filter, "--cases", &suite],
            "which only `host-test run` reads",
        ),
        (
            &["record", "--filter", &filter, "--cases", &suite],
            "which only `host-test run` reads",
        ),
        (
            &[
                "run", "--filter", &filter, "--cases", &cases, "--config", "limit=9",
            ],
            "--config: `limit=9` neither begins with `{`",
        ),
        (
            &["run", "--filter", &filter, "--cases", &no_config],
            "no_config.json: config_file: cannot read",
        ),
        (
            &["run", "--filter", &filter, "--cases", &no_golden],
            "no_golden.json: golden: cannot read",
        ),
        (
            &[
                "bench", "--filter", &filter, "--cases", &cases, "--case", "absent",
            ],
            "no case named `absent`",
        ),
        (
            &["run", "--filter", &broken, "--cases", &cases],
            "broken.json: not a valid WebAssembly module: ",
        ),
        (
            &["inspect", &broken],
            "broken.json: not a valid WebAssembly module: ",
        ),
        (&["run", "--filter", &filter], "--cases"),
        (
            &[
                "run",
                "--filter",
                &filter,
                "--cases",
                &cases,
                "--schedules",
                "often",
            ],
            "`often`",
        ),
        (
            &["run", "--filter", &filter, "--cases", &suite],
            "test has no field `nam`",
        ),
        (
            &["serve", "--filter", &filter, "--upstream", https],
            "`http`",
        ),
        (&["inspect", &broken], "WebAssembly"),
        (
            &["bench", "--filter", &filter, "--streams", "0"],
            "--streams",
        ),
    ] {
        let run = host_test(arguments);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert!(run.stderr.contains(want), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn help_is_plain_text_without_a_terminal() {
    let run = host_test(&["run", "--help"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.contains("--schedules"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "{}", run.stdout);
}

#[test]
fn inspect_lists_why_a_module_is_rejected() {
    let files = Files::new();
    let good = files.write_guest("good.wasm", NOTHING);
    let run = host_test(&["inspect", &good]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.starts_with("ABI      0.2.1\n"), "{}", run.stdout);
    let text = r#"(module (import "env" "proxy_brew" (func)))"#;
    let bad = files.write("bad.wasm", wat::parse_str(text).unwrap());
    let run = host_test(&["inspect", "--json", &bad]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, Some(1));
    assert_eq!(value["refusals"][1], "import `env.proxy_brew` is unknown");
}

#[test]
fn schedules_reveal_a_dependency_on_body_frames() {
    // Replaces each body frame, so that the number of frames matters.
    let replaces_frames = r#"
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const -1) @"value")) i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", replaces_frames);
    let cases = files.write(
        "cases.json",
        r#"{"cases": [{"name": "body & <frames>", "request": {"body": "abc"}, "upstream": {"body": "valuevalue"}}]}"#,
    );
    let junit = files.path("junit.xml");
    let run = ["run", "--filter", &filter, "--cases", &cases];
    let one_schedule = host_test(&run);
    assert_eq!(one_schedule.code, Some(0), "{}", one_schedule.stdout);
    let all = host_test(&[&run[..], &["--schedules", "all", "--junit", &junit]].concat());
    assert_eq!(all.code, Some(1));
    assert!(all.stdout.contains("(one-frame)"), "{}", all.stdout);
    let want = "3 met, 3 missed, 0 skipped\n";
    assert!(all.stdout.ends_with(want), "{}", all.stdout);
    let xml = files.read("junit.xml");
    assert!(xml.contains(r#"tests="6" failures="3""#), "{xml}");
    assert!(xml.contains("body &amp; &lt;frames&gt; (bytes)"), "{xml}");
}

#[test]
fn run_reads_test_suites_in_both_forms() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", ADDS_FIELD);
    let text = files.write(
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
    let yaml = files.write(
        "tests.yaml",
        "test:\n- name: adds\n  request_headers:\n    result:\n      has_header:\n      - key: x-one\n        value: value\n",
    );
    let run = host_test(&["run", "--filter", &filter, "--cases", &text, &yaml]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let want = format!(
        "missed   {text}: misses\n         request_headers: want an immediate response, got none\n2 met, 1 missed, 0 skipped\n"
    );
    assert_eq!(run.stdout, want);
}

#[test]
fn the_clock_of_a_suite_without_a_time_is_after_the_epoch() {
    let traps_at_the_epoch = r#"
        (func (export "_initialize")
            (drop (call $time (i32.const 1) (i64.const 0) (i32.const 512)))
            (if (i64.eqz (i64.load (i32.const 512))) (then unreachable)))"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", traps_at_the_epoch);
    let suite = files.write("tests.textpb", r#"test { name: "starts" }"#);
    let run = host_test(&["run", "--filter", &filter, "--cases", &suite]);
    assert_eq!(run.stdout, ALL_MET);
}

#[test]
fn a_property_of_a_suite_is_found_by_its_segments_and_by_its_whole_name() {
    let adds_both = r#"
        (func $add_property (param $path i32) (param $length i32)
            (if (i32.eqz (call $property (local.get $path) (local.get $length) @to_result))
                (then (drop (call $add @request @"x-one" @result)))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $add_property @"source\00client.region")
            (call $add_property @"source.client.region")
            i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", adds_both);
    let suite = files.write(
        "tests.textpb",
        r#"test { name: "reads" properties { path: "source.client.region" value: "US" }
            request_headers { result { has_header { key: "x-one" value: "US, US" } } } }"#,
    );
    let run = host_test(&["run", "--filter", &filter, "--cases", &suite]);
    assert_eq!(run.stdout, ALL_MET);
}

#[test]
fn a_suite_takes_the_configuration_as_text_or_as_a_file() {
    let logs_configuration = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const -1) @to_result))
            (call $log_result) i32.const 1)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", logs_configuration);
    let suite = files.write(
        "tests.textpb",
        r#"test { name: "logs" plugin_init { log { exact: "{\"a\": 1}" } } }"#,
    );
    let text = r#"{"a": 1}"#;
    let file = files.write("config.json", text);
    for config in [text, &file] {
        let run = host_test(&[
            "run", "--filter", &filter, "--cases", &suite, "--config", config,
        ]);
        assert_eq!(run.stdout, ALL_MET, "{config}: {}", run.stderr);
    }
}

#[test]
fn a_replay_reports_what_another_filter_does_differently() {
    let files = Files::new();
    let adds_field = files.write_guest("one.wasm", ADDS_FIELD);
    let nothing = files.write_guest("two.wasm", NOTHING);
    let cases = files.write("cases.json", r#"{"cases": [{"name": "n", "request": {}}]}"#);
    let run = host_test(&["record", "--filter", &adds_field, "--cases", &cases]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let recording = files.write("recording.json", &run.stdout);
    let run = host_test(&["replay", "--filter", &adds_field, &recording]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ALL_MET));
    let run = host_test(&["replay", "--filter", &nothing, &recording]);
    assert_eq!(run.code, Some(1));
    let want = "upstream `x-one`: want [\"value\"], got []";
    assert!(run.stdout.contains(want), "{}", run.stdout);
}

#[test]
fn bench_compares_two_filters() {
    let files = Files::new();
    let nothing = files.write_guest("one.wasm", NOTHING);
    let adds_field = files.write_guest("two.wasm", ADDS_FIELD);
    let run = host_test(&[
        "bench",
        "--filter",
        &nothing,
        "--with-filter",
        &adds_field,
        "--streams",
        "50",
        "--json",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let number = |filter: &str, name: &str| value[0][filter][name].as_u64().unwrap();
    assert_eq!(
        (number("first", "calls"), number("second", "calls")),
        (0, 1)
    );
    assert!(number("second", "fuel") > number("first", "fuel"));
    assert_eq!(number("second", "memory"), 65536);
    assert_eq!(number("second", "growth"), 0);
}

#[test]
fn bench_reports_a_leak_as_growth() {
    let leaks_a_page =
        r#"(func (export "proxy_on_delete") (param i32) (drop (memory.grow (i32.const 1))))"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", leaks_a_page);
    let run = host_test(&["bench", "--filter", &filter, "--streams", "10", "--json"]);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value[0]["first"]["growth"], 10 * 65536);
}

#[test]
fn a_case_that_has_only_a_recording_is_compared_with_that() {
    let replies_or_pauses = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get @request @":path" @to_result))
            (if (i32.eq (i32.load8_u offset=1 (i32.load (i32.const 0))) @'r')
                (then (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const -1)))))
            (i32.eq (i32.load8_u offset=1 (i32.load (i32.const 0))) @'p'))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $add @response @"x-one" @"value")) i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", replies_or_pauses);
    let requests = r#"[{"name": "passes", "request": {"target": "/a"}}, {"name": "replies", "request": {"target": "/r"}},
        {"name": "pauses", "request": {"target": "/p"}}]"#;
    let cases = files.write("cases.json", format!(r#"{{"cases": {requests}}}"#));
    let run = host_test(&["record", "--filter", &filter, "--cases", &cases]);
    files.write("golden.json", &run.stdout);
    let text = format!(r#"{{"golden": "golden.json", "cases": {requests}}}"#);
    let cases = files.write("cases.json", text);
    let run = host_test(&["run", "--filter", &filter, "--cases", &cases]);
    assert_eq!(run.stdout, "3 met, 0 missed, 0 skipped\n");
    let nothing = files.write_guest("nothing.wasm", NOTHING);
    let run = host_test(&["run", "--filter", &nothing, "--cases", &cases]);
    assert!(
        run.stdout.ends_with("0 met, 3 missed, 0 skipped\n"),
        "{}",
        run.stdout
    );
}

/// Runs `bench` with 50 streams, and checks its exit code and a part of its report.
#[track_caller]
fn check_bench(guest: &str, case: &str, code: i32, wants: &[&str]) {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", guest);
    let text = format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#);
    let cases = files.write("cases.json", text);
    let run = host_test(&[
        "bench",
        "--filter",
        &filter,
        "--cases",
        &cases,
        "--streams",
        "50",
    ]);
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    for want in wants {
        assert!(run.stdout.contains(want), "{want}: {}", run.stdout);
    }
}

#[test]
fn bench_says_which_streams_ended_unlike_the_first() {
    let limits = r#"
        (global $count (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (if (i32.gt_u (global.get $count) (i32.const 120)) (then (drop (call $reply (i32.const 429)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))))
            i32.const 0)"#;
    check_bench(
        limits,
        r#""request": {}, "upstream": {}"#,
        0,
        &["30 of 50 streams ended unlike the first, `response 200`: \
           30 with `local reply 429 in request_headers`, 20 with `response 200`"],
    );
    check_bench(
        &limits.replace("i32.const 120", "i32.const 0"),
        r#""request": {}"#,
        0,
        &["every stream ended with `local reply 429 in request_headers`"],
    );
}

#[test]
fn bench_fails_if_a_stream_fails_or_never_ends() {
    let traps = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)"#;
    let request = r#""request": {}, "upstream": {}"#;
    check_bench(traps, request, 1, &["50 of 50 streams failed", "trapped"]);
    check_bench(
        traps,
        r#""request": {}, "fails": "request_headers""#,
        0,
        &["every stream ended with `failure in proxy_on_request_headers`"],
    );
    let loops = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (loop (br 0)) i32.const 0)"#;
    check_bench(
        loops,
        request,
        1,
        &["50 of 50 streams failed", "did not return"],
    );
    let pauses = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)"#;
    check_bench(
        pauses,
        request,
        1,
        &["50 of 50 streams failed, the first one: request left paused"],
    );
    let never_done = r#"(func (export "proxy_on_done") (param i32) (result i32) i32.const 0)"#;
    check_bench(
        never_done,
        request,
        1,
        &["response 200, then waiting for proxy_done"],
    );
    let eats = r#"
        (func (export "proxy_on_delete") (param i32)
            (if (i32.eq (memory.grow (i32.const 40)) (i32.const -1)) (then unreachable)))"#;
    check_bench(
        eats,
        request,
        1,
        &[
            "streams ended unlike the first, `response 200`",
            "streams failed",
        ],
    );
}

#[test]
fn fuzz_finds_a_trap_and_minimizes_it() {
    // Traps on a request body with an `e`.
    let traps_on_e = r#"
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (local $at i32) (local $end i32)
            (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const -1) @to_result))
            (local.set $at (i32.load (i32.const 0)))
            (local.set $end (i32.add (local.get $at) (i32.load (i32.const 4))))
            (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
                (if (i32.eq (i32.load8_u (local.get $at)) @'e') (then unreachable))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next)))
            ;; Free what the allocator gave.
            (global.set $next (i32.const 1024))
            i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", traps_on_e);
    let run = host_test(&["fuzz", "--filter", &filter, "--rounds", "2000"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let want = "proxy_on_request_body trapped";
    assert!(run.stderr.contains(want), "{}", run.stderr);
    assert!(
        run.stderr
            .ends_with("found 1 failures; the cases are a case file for `host-test run`\n"),
        "{}",
        run.stderr
    );
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let request = &value["cases"][0]["request"];
    // Little more than the letter is left of the body, and nothing of the headers.
    let frames: String = match request["body"].as_str() {
        Some(body) => body.to_owned(),
        None => request["frames"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect(),
    };
    assert_eq!(frames, "e", "{request}");
    assert!(request.get("headers").is_none(), "{request}");
    let found = files.write("found.json", &run.stdout);
    let run = host_test(&["run", "--filter", &filter, "--cases", &found]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("the filter failed"), "{}", run.stdout);
}

#[test]
fn fuzz_finds_nothing_in_a_filter_that_does_not_fail() {
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", ADDS_FIELD);
    let options = ["--rounds", "50", "--faults", "--vary-config"];
    let run = host_test(&[&["fuzz", "--filter", &filter][..], &options].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

/// Runs `fuzz` with these options, checks that it finds something, and that the found cases fail again. Returns the report
/// and the cases.
#[track_caller]
fn check_found(files: &Files, filter: &str, options: &[&str]) -> (String, Value) {
    let run = host_test(&[&["fuzz", "--filter", filter][..], options].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let found = files.write("found.json", &run.stdout);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let count = value["cases"].as_array().unwrap().len();
    let again = host_test(&["run", "--filter", filter, "--cases", &found]);
    let want = format!("0 met, {count} missed, 0 skipped\n");
    assert!(
        again.stdout.ends_with(&want),
        "{}{}",
        again.stdout,
        again.stderr
    );
    (run.stderr, value)
}

#[test]
fn fuzz_finds_failures_after_faults_and_goes_on() {
    let traps_on_failures = r#"
        (func $one (drop (unreachable))) (func $other (drop (unreachable)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (call $property @"source\00address" @to_result) (then (call $one)))
            (if (call $set_data @"a" @"b" (i32.const 0)) (then (call $other)))
            (if (call $add @request @"x-one" @"value") (then unreachable))
            i32.const 0)"#;
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", traps_on_failures);
    let run = host_test(&["fuzz", "--filter", &filter, "--rounds", "500"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let options = ["--rounds", "500", "--faults"];
    let (report, found) = check_found(&files, &filter, &options);
    assert_eq!(found["cases"].as_array().unwrap().len(), 2, "{report}");
    for (fault, status) in [
        ("proxy_get_property", "NOT_FOUND"),
        ("proxy_set_shared_data", "CAS_MISMATCH"),
    ] {
        let cases = found["cases"].as_array().unwrap();
        let faults = |case: &Value| case["plugin"]["faults"][0].clone();
        let is_there = |case: &Value| {
            (&faults(case)["at"], &faults(case)["status"]) == (&fault.into(), &status.into())
        };
        assert!(cases.iter().any(is_there), "{fault}: {found}");
    }
    // A header map that is open can be written.
    assert!(!found.to_string().contains("proxy_add_header_map_value"));
    let except = [
        "--except",
        "proxy_get_property",
        "proxy_set_shared_data=CAS_MISMATCH",
    ];
    let run = host_test(&[&["fuzz", "--filter", &filter][..], &options, &except].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let wrong = ["--except", "proxy_brew"];
    let run = host_test(&[&["fuzz", "--filter", &filter][..], &options, &wrong].concat());
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("no host function `proxy_brew`"),
        "{}",
        run.stderr
    );
}

/// Calls `auth` for each request, and traps in the callback if the condition holds.
fn traps_if(condition: &str) -> String {
    format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/" ":authority" "a") (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 400) (i32.const 500)))
            (global.set $next (i32.const 1024))
            i32.const 0)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (if (i32.eqz (call $get (i32.const 6) @":status" @to_result))
                (then (if {condition} (then unreachable)))))"#
    )
}

#[test]
fn fuzz_varies_the_responses_of_services() {
    // The status is 418.
    let guest = traps_if(
        "(i32.eq (i32.and (i32.load (i32.load (i32.const 0))) (i32.const 0xffffff)) (i32.const 0x383134))",
    );
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", &guest);
    let cases = files.write(
        "cases.json",
        r#"{"upstreams": {"auth": [{"status": 200}]}, "cases": [{"name": "n", "request": {}, "upstream": {}}]}"#,
    );
    let (_, found) = check_found(&files, &filter, &["--cases", &cases]);
    assert_eq!(
        found["cases"][0]["upstreams"]["auth"][0]["status"], 418,
        "{found}"
    );
}

#[test]
fn fuzz_keeps_what_its_seeds_define() {
    // The case defines the service and the root id, and only its second exchange asks.
    let guest = format!(
        r#"{} (func (export "proxy_on_done") (param i32) (result i32)
            (drop (call $property @"plugin_root_id" @to_result))
            (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) @'r') (then
                (drop (call $data @"k" @to_result (i32.const 16)))
                (if (i32.ne (i32.load8_u (i32.load (i32.const 0))) @'v') (then unreachable))))
            i32.const 1)"#,
        traps_if("(i32.const 0)")
    );
    let files = Files::new();
    let filter = files.write_guest("filter.wasm", &guest);
    let cases = files.write(
        "cases.json",
        r#"{"cases": [{"name": "n", "plugin": {"root_id": "r"}, "shared_data": {"k": "v"}, "request": {}, "upstream": {}}]}"#,
    );
    let options = ["--cases", &cases, "--rounds", "300"];
    let (_, found) = check_found(&files, &filter, &options);
    assert_eq!(found["cases"][0]["plugin"]["root_id"], "r", "{found}");
}

#[test]
fn completions_exist_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let run = host_test(&["completions", shell]);
        assert_eq!(run.code, Some(0));
        assert!(run.stdout.contains("host-test"), "{shell}");
    }
}
