//! Tests what the program prints, where it prints it, and its exit codes.

use std::process::{Command, Output};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Returns the exit code, standard output and standard error.
fn result(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn the_version_tells_builds_apart() {
    let (code, short, _) = result(&run(&["-V"], &[]));
    let version = concat!("fluxlit-gateway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((code, &*short), (Some(0), version));
    let (code, long, errors) = result(&run(&["--version"], &[]));
    assert_eq!((code, &*errors), (Some(0), ""));
    let mut lines = long.lines();
    assert_eq!(lines.next(), Some(version.trim_end()));
    let names: Vec<&str> = lines
        .map(|line| line.split_once(": ").expect("name: value").0)
        .collect();
    assert_eq!(names, ["commit", "target", "features"]);
    assert!(long.ends_with("features: program\n"), "{long}");
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    for arguments in [
        &["config", "--streamlit-upstream", "http://127.0.0.1:1"][..],
        &["doctor", "--list"],
        &["completions", "bash"],
        &["man"],
        &["url", "--base", "https://portal.example.com"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .env_clear()
            .args(arguments)
            .stdout(writer)
            .output()
            .expect("the program runs");
        let (code, _, errors) = result(&output);
        assert_eq!((code, &*errors), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn help_is_data_and_has_examples() {
    for arguments in [&["--help"][..], &["run", "--help"], &["config", "-h"]] {
        let (code, help, errors) = result(&run(arguments, &[]));
        assert_eq!((code, &*errors), (Some(0), ""), "{arguments:?}");
        assert!(help.contains("Examples:\n"), "{help}");
    }
}

#[test]
fn wrong_usage_and_settings_exit_with_2_and_print_only_messages() {
    type Row = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let table: [Row; 5] = [
        (&["confg"], &[], "a similar subcommand exists: 'config'"),
        (&["run", "--rootpath", "/a"], &[], "'--root-path'"),
        (&["run", "missing.py"], &[], "`missing.py`"),
        (
            &["config"],
            &[("FLUXLIT_GATEWAY_PORT", "x")],
            "FLUXLIT_GATEWAY_PORT",
        ),
        (&["completions", "tcsh"], &[], "bash"),
    ];
    for (arguments, variables, expected) in table {
        let (code, data, message) = result(&run(arguments, variables));
        assert_eq!((code, &*data), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.starts_with("error: "), "{message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
}

#[test]
fn a_doctor_that_can_check_nothing_says_so_to_scripts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("junit.xml");
    let junit = file.to_str().expect("UTF-8");
    let bootstrap = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/bootstrap.yaml");
    for (arguments, target, expected) in [
        (
            &["--probe", "http://127.0.0.1:1/app"][..],
            "http://127.0.0.1:1/app",
            "cannot be reached",
        ),
        (&["--probe", "nowhere"], "nowhere", "is not a URL"),
        (&["--lint", "missing.yaml"], "missing.yaml", "cannot read"),
        (
            &["--lint", bootstrap, "--envoy", "/nowhere/envoy"],
            bootstrap,
            "--envoy: `/nowhere/envoy` cannot be started: ",
        ),
        // It exists, but is not executable.
        (
            &["--lint", bootstrap, "--envoy", bootstrap],
            bootstrap,
            "cannot be started: ",
        ),
        (&["app.py", "--only", "P99"], "app.py", "P99"),
    ] {
        let arguments = [&["doctor", "--json", "--junit", junit], arguments].concat();
        let (code, data, message) = result(&run(&arguments, &[]));
        assert_eq!(code, Some(2), "{arguments:?}: {message}");
        let report: serde_json::Value = serde_json::from_str(&data).expect(&data);
        assert_eq!(report["status"], "error", "{data}");
        assert_eq!(report["target"], target, "{data}");
        assert_eq!(report["checks"], serde_json::json!([]), "{data}");
        let error = report["error"].as_str().expect("a text");
        assert!(error.contains(expected), "{error}");
        assert_eq!(message, format!("error: {error}\n"));
        let xml = std::fs::read_to_string(&file).expect("a file");
        assert!(
            xml.contains("<error message=") && xml.contains("errors=\"1\""),
            "{xml}"
        );
        std::fs::remove_file(&file).expect("a file");
    }
}

#[test]
fn a_command_that_fails_exits_with_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let (code, data, message) = result(&run(&["man", "--output", file], &[]));
    assert_eq!((code, &*data), (Some(1), ""));
    let expected = format!("error: cannot create the folder `{file}`: ");
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn completions_and_the_manual_page_are_data() {
    for (arguments, expected) in [
        (
            &["completions", "bash"][..],
            "complete -F _fluxlit__gateway ",
        ),
        (&["completions", "zsh"], "#compdef fluxlit-gateway"),
        (&["man"], ".TH fluxlit-gateway 1"),
    ] {
        let (code, data, message) = result(&run(arguments, &[]));
        assert_eq!((code, &*message), (Some(0), ""), "{arguments:?}");
        assert!(data.contains(expected), "{data}");
    }
}

#[test]
fn urls_for_browsers() {
    const BASE: (&str, &str) = ("FLUXLIT_PUBLIC_BASE_URL", "https://portal.example.com");
    const MOUNT: (&str, &str) = ("FLUXLIT_ROOT_PATH", "/apps/my-app");
    type Row = (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let table: [Row; 9] = [
        (
            &["app"],
            &[BASE, MOUNT],
            "https://portal.example.com/apps/my-app\n",
        ),
        (
            &["app", "--root-path", "/m"],
            &[BASE],
            "https://portal.example.com/m\n",
        ),
        (
            &["app", "--base", "http://localhost:8000"],
            &[BASE, MOUNT],
            "http://localhost:8000/apps/my-app\n",
        ),
        (&["page"], &[BASE], "https://portal.example.com/\n"),
        (
            &["page", "Sales report", "--query", "a=b c", "--query", "d="],
            &[BASE],
            "https://portal.example.com/Sales%20report?a=b+c&d=\n",
        ),
        (
            &["api", "/items"],
            &[BASE, ("FLUXLIT_API_MOUNT_PATH", "/v1")],
            "https://portal.example.com/v1/items\n",
        ),
        (
            &["websocket"],
            &[BASE, MOUNT],
            "wss://portal.example.com/apps/my-app/_stcore/stream\n",
        ),
        (
            &["docs"],
            &[BASE, ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")],
            "https://portal.example.com/api/docs\n",
        ),
        (
            &["docs", "--json"],
            &[BASE],
            "{\"url\":\"https://portal.example.com/api/docs\"}\n",
        ),
    ];
    for (arguments, variables, expected) in table {
        let arguments = [&["url"], arguments].concat();
        let (code, url, message) = result(&run(&arguments, variables));
        assert_eq!(
            (code, &*url),
            (Some(0), expected),
            "{arguments:?}: {message}"
        );
    }
    let (_, table, _) = result(&run(&["url"], &[BASE]));
    assert!(
        table.starts_with("app       https://portal.example.com\n"),
        "{table}"
    );
    let (_, json, _) = result(&run(&["url", "--json"], &[BASE, MOUNT]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        json["ready"],
        "https://portal.example.com/apps/my-app/api/readyz"
    );
}

#[test]
fn a_url_that_cannot_be_built_is_an_error_that_says_what_is_missing() {
    const BASE: (&str, &str) = ("FLUXLIT_PUBLIC_BASE_URL", "https://portal.example.com");
    for (arguments, variables, expected) in [
        (&["url"][..], &[][..], "FLUXLIT_PUBLIC_BASE_URL is not set"),
        (
            &["url", "--base", "portal"],
            &[],
            "`portal` is not the URL of an app",
        ),
        (
            &["url", "page", "/../b"],
            &[BASE],
            "`/../b` is not a path below the app",
        ),
        (&["url", "docs", "/x"], &[BASE], "no PATH"),
        (&["url", "page", "/", "--query", "x"], &[BASE], "NAME=VALUE"),
        (
            &["url", "app"],
            &[("FLUXLIT_PUBLIC_BASE_URL", "portal")],
            "public_base_url",
        ),
    ] {
        let (code, data, message) = result(&run(arguments, variables));
        assert_eq!((code, &*data), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}
