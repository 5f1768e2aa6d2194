//! Runs the scripts of FluxLit's source distribution, unchanged, where `fluxlit` is the gateway.
//!
//! `docs/fluxlit.md` shows the same list with the results.

use std::path::Path;

use fluxlit_support::client::get;
use fluxlit_system::named;

use crate::examples::Example;
use crate::in_parallel;
use crate::programs::{Program, Server, script};

/// A script, and its result under the gateway.
struct Script {
    name: &'static str,
    runs: Runs,
    exit_code: i32,
    /// What it writes.
    writes: &'static str,
    /// What a reader has to know about the result.
    remark: &'static str,
}

/// How a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// It starts what it needs, and ends.
    Alone,
    /// It sends requests to an app that is already served. With variables, besides the URL.
    AgainstApp(&'static [(&'static str, &'static str)]),
    /// It serves an app until it gets SIGTERM.
    UntilStopped,
}

const SCRIPTS: [Script; 10] = [
    Script {
        name: "chaos_dropped_websocket.sh",
        runs: Runs::Alone,
        exit_code: 0,
        writes: "PASS: dropped WebSocket did not break gateway health",
        remark: "",
    },
    Script {
        name: "chaos_graceful_shutdown.sh",
        runs: Runs::Alone,
        exit_code: 0,
        writes: "PASS: gateway exited after SIGTERM",
        remark: "",
    },
    Script {
        name: "chaos_oversized_body.sh",
        runs: Runs::Alone,
        exit_code: 0,
        writes: "PASS: oversized proxied body returned 413",
        remark: "",
    },
    Script {
        name: "chaos_slow_upstream.sh",
        runs: Runs::Alone,
        exit_code: 0,
        writes: "PASS: slow upstream returned 502",
        remark: "it calls a function of FluxLit's library and starts no `fluxlit`; the gateway responds with 504",
    },
    Script {
        name: "chaos_streamlit_kill.sh",
        runs: Runs::Alone,
        exit_code: 1,
        writes: "FAIL: gateway did not exit after killing Streamlit sidecar",
        remark: "it asks for a gateway that ends with Streamlit; this one restarts Streamlit",
    },
    Script {
        name: "run_smoke_app.sh",
        runs: Runs::UntilStopped,
        exit_code: 0,
        writes: "the app is at http://",
        remark: "it serves the app until SIGTERM",
    },
    Script {
        name: "smoke_fluxlit_run.sh",
        runs: Runs::Alone,
        exit_code: 0,
        writes: "smoke_fluxlit_run: OK (healthz + readyz)",
        remark: "",
    },
    Script {
        name: "soak_http.sh",
        runs: Runs::AgainstApp(&[("PATH_SUFFIX", "/api/smoke")]),
        exit_code: 0,
        writes: "done ok=20 fail=0",
        remark: "",
    },
    Script {
        name: "soak_metrics.sh",
        runs: Runs::AgainstApp(&[]),
        exit_code: 0,
        writes: "done ok=20 fail=0",
        remark: "with `FLUXLIT_GATEWAY_PUBLIC_INTERNALS=1`, because FluxLit serves its metrics to everyone",
    },
    Script {
        name: "soak_readyz.sh",
        runs: Runs::AgainstApp(&[]),
        exit_code: 0,
        writes: "done ok_2xx=20 fail_non2xx=0",
        remark: "",
    },
];

impl Script {
    #[track_caller]
    fn compare(&self, exit_code: Option<i32>, output: &str) {
        assert_eq!(exit_code, Some(self.exit_code), "{}: {output}", self.name);
        assert!(output.contains(self.writes), "{}: {output}", self.name);
    }
}

#[test]
fn every_script_of_fluxlit_is_in_the_list() {
    let folder = named("FLUXLIT_TEST_FLUXLIT_SOURCES").join("scripts");
    let entries = std::fs::read_dir(folder).expect("the scripts");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|end| end == "sh"));
    names.sort();
    assert_eq!(names, SCRIPTS.map(|script| script.name));
}

#[test]
fn scripts_of_fluxlit_run_unchanged_under_the_gateway() {
    let alone: Vec<&Script> = SCRIPTS
        .iter()
        .filter(|script| script.runs == Runs::Alone)
        .collect();
    in_parallel(&alone, |expected| {
        let (code, output) = script(expected.name, &[]);
        expected.compare(code, &output);
    });
}

#[test]
fn scripts_that_send_requests_find_no_failure() {
    let smoke = Example {
        environment: &[
            ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1"),
            ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "1"),
        ],
        ..*Example::named("smoke_app")
    };
    let server = Server::start(Program::Gateway, &smoke);
    let base = format!("http://{}", server.address);
    for expected in &SCRIPTS {
        if let Runs::AgainstApp(further) = expected.runs {
            let environment = [&[("BASE_URL", base.as_str()), ("COUNT", "20")], further].concat();
            let (code, output) = script(expected.name, &environment);
            expected.compare(code, &output);
        }
    }
}

#[test]
fn a_script_that_serves_an_app_serves_it_until_sigterm() {
    for expected in &SCRIPTS {
        if expected.runs == Runs::UntilStopped {
            let mut server = Server::of_script(expected.name, "/api/healthz");
            let response = get(server.address, "/api/smoke", None).expect("a response");
            assert_eq!(response.status, 200, "{}", server.log());
            let code = server.stop();
            expected.compare(code, &server.log());
        }
    }
}

#[test]
fn the_document_has_the_result_of_each_script() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fluxlit.md");
    let document = std::fs::read_to_string(document).expect("the document");
    let mut table =
        String::from("| script | exit code | it writes | remark |\n| --- | --- | --- | --- |\n");
    for script in &SCRIPTS {
        table += &format!(
            "| `{}` | {} | `{}` | {} |\n",
            script.name, script.exit_code, script.writes, script.remark
        );
    }
    let table = table.replace("|  |\n", "| |\n");
    assert!(
        document.contains(&format!("\n\n{table}\n")),
        "docs/fluxlit.md does not contain\n{table}"
    );
}
