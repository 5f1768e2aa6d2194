//! What does someone at a terminal get to see?

use std::path::Path;
use std::process::{Command, Output};

use crate::guest;

/// Adds `x-one: value` to each request.
const ADDING: &str = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))"#;

const CASES: &str = r#"{"about": "One header.", "cases": [
    {"name": "added", "why": "w", "request": {"peer": "192.0.2.1"}, "upstream": {"headers": {"x-one": ["value"]}}},
    {"name": "elsewhere", "why": "w", "request": {"peer": "192.0.2.1"}, "upstream": {}, "except": {"wasm": "not here"}}]}"#;

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn host_test(arguments: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_host-test"))
        .args(arguments)
        .output()
        .expect("it runs");
    Ran {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

pub(crate) fn write(folder: &Path, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn cases_that_are_met() {
    let folder = tempfile::tempdir().unwrap();
    let filter = write(folder.path(), "filter.wasm", guest::module(ADDING));
    write(folder.path(), "cases.json", CASES);
    let folder = folder.path().to_str().unwrap();
    let ran = host_test(&["run", "--filter", &filter, "--cases", folder]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let want =
        format!("skipped  {folder}/cases.json: elsewhere: not here\n1 met, 0 missed, 1 skipped\n");
    assert_eq!(ran.stdout, want);
}

#[test]
fn a_case_that_misses() {
    let folder = tempfile::tempdir().unwrap();
    let filter = write(folder.path(), "filter.wasm", guest::module(""));
    let cases = write(folder.path(), "cases.json", CASES);
    let ran = host_test(&["run", "--filter", &filter, "--cases", &cases]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout
            .contains("upstream `x-one`: want [\"value\"], got []"),
        "{}",
        ran.stdout
    );
    let ran = host_test(&["run", "--json", "--filter", &filter, "--cases", &cases]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &value[0]["ending"]), (Some(1), &"missed".into()));
}

#[test]
fn what_cannot_be_used_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let filter = write(folder.path(), "filter.wasm", guest::module(""));
    let broken = write(folder.path(), "broken.json", "{");
    for arguments in [
        &["run", "--filter", &filter, "--cases", &broken][..],
        &["run", "--filter", &broken, "--cases", &broken],
        &["run", "--filter", &filter],
        &[
            "serve",
            "--filter",
            &filter,
            "--upstream",
            "https://app.example",
        ],
        &["inspect", &broken],
    ] {
        let ran = host_test(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(
            ran.stdout.is_empty() && ran.stderr.starts_with("error: "),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn inspect_says_what_speaks_against_a_module() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.wasm", guest::module(""));
    let ran = host_test(&["inspect", &good]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.starts_with("ABI      0.2.1\n"), "{}", ran.stdout);
    let text = r#"(module (import "env" "proxy_brew" (func)))"#;
    let bad = write(folder.path(), "bad.wasm", wat::parse_str(text).unwrap());
    let ran = host_test(&["inspect", "--json", &bad]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(ran.code, Some(1));
    assert_eq!(value["refusals"][1], "import `env.proxy_brew` is unknown");
}
