//! Runs FluxLit's own examples and scripts under `fluxlit run` and under `fluxlit-gateway run`, and compares them.
//!
//! Every request of [`requests`] is sent to both. A difference has to be in `fluxlit/differences.json`, with its reason, and
//! each of those has to exist; `docs/fluxlit.md` shows the same list. `FLUXLIT_TEST_UPDATE=1` writes the list and the
//! document again, without reasons for what is new.

mod examples;
mod observed;
mod programs;
mod scripts;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use fluxlit_support::client::get;
use fluxlit_support::wait::wait_until;
use serde_json::{Value, json};

use crate::examples::{EXAMPLES, Example};
use crate::observed::Observed;
use crate::programs::{LIMIT, Program, Server};

/// What differs, where, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    /// The part of the response.
    part: String,
    fluxlit: String,
    gateway: String,
}

#[test]
fn every_difference_from_fluxlit_is_listed_with_its_reason() {
    let mut found = BTreeMap::<Difference, Vec<String>>::new();
    let mut sent = 0;
    let programs = [Program::FluxLit, Program::Gateway];
    let started: Vec<(Program, &Example)> = EXAMPLES
        .iter()
        .flat_map(|example| programs.map(|program| (program, example)))
        .collect();
    let observed = in_parallel(&started, |(program, example)| observe(*program, example));
    for (example, pair) in EXAMPLES.iter().zip(observed.chunks_exact(programs.len())) {
        let [fluxlit, gateway] = pair else {
            unreachable!("there are two programs")
        };
        assert_eq!(fluxlit.len(), gateway.len());
        for ((request, fluxlit), (_, gateway)) in fluxlit.iter().zip(gateway) {
            sent += 1;
            for (part, fluxlit, gateway) in fluxlit.differences(gateway) {
                let difference = Difference {
                    part,
                    fluxlit,
                    gateway,
                };
                found
                    .entry(difference)
                    .or_default()
                    .push(format!("{}: {request}", example.name));
            }
        }
    }
    assert!(sent > 100, "only {sent} requests were compared");
    compare_with_list(&found);
}

/// Starts an example, and returns what it responds to each request.
fn observe(program: Program, example: &Example) -> Vec<(String, Observed)> {
    let server = Server::start(program, example);
    let mut all: Vec<(String, Observed)> = example
        .requests()
        .into_iter()
        .map(|request| (request.name(), Observed::of(&server, &request)))
        .collect();
    for page in example.pages {
        let shown = Observed::of_page(&server, example, page);
        all.push((format!("page {}", page.path), shown));
    }
    let output = Observed::of_output(&server, program, example);
    all.push(("output".to_owned(), output));
    all
}

/// Calls `work` for each item, for a few of them at the same time; returns the results in the order of the items.
///
/// Most of the time, a program that starts uses one core or none.
fn in_parallel<Item: Sync, Result: Send>(
    items: &[Item],
    work: impl Fn(&Item) -> Result + Sync,
) -> Vec<Result> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return done;
            };
            done.push((number, work(item)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let threads = [(); AT_ONCE].map(|()| scope.spawn(take));
        let joined = threads.map(|thread| thread.join());
        // Panics only after all of them have stopped what they have started.
        joined
            .into_iter()
            .flat_map(|done| done.unwrap_or_else(|cause| resume_unwind(cause)))
            .collect::<Vec<_>>()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The number of programs that a test starts at the same time.
const AT_ONCE: usize = 3;

fn compare_with_list(found: &BTreeMap<Difference, Vec<String>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fluxlit/differences.json");
    let listed: Vec<Value> = std::fs::read_to_string(&path)
        .map(|text| serde_json::from_str(&text).expect("JSON"))
        .unwrap_or_default();
    let reason = |difference: &Difference| {
        let same = listed.iter().find(|entry| {
            entry["part"] == difference.part
                && entry["fluxlit"] == difference.fluxlit
                && entry["gateway"] == difference.gateway
        });
        same.and_then(|entry| entry["reason"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let now: Vec<Value> = found
        .iter()
        .map(|(difference, requests)| {
            json!({
                "part": difference.part,
                "fluxlit": difference.fluxlit,
                "gateway": difference.gateway,
                "reason": reason(difference),
                "requests": requests,
            })
        })
        .collect();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fluxlit.md");
    let text = std::fs::read_to_string(&document).expect("the document");
    let rendered = render(&text, &now);
    if std::env::var_os("FLUXLIT_TEST_UPDATE").is_some() {
        let list = serde_json::to_string_pretty(&now).expect("JSON");
        std::fs::write(&path, list + "\n").expect("a file");
        std::fs::write(&document, rendered).expect("a file");
        return;
    }
    for entry in &now {
        assert_ne!(
            entry["reason"], "",
            "a difference without a reason: {entry:#}"
        );
    }
    let lacking: Vec<&Value> = listed.iter().filter(|entry| !now.contains(entry)).collect();
    let new: Vec<&Value> = now.iter().filter(|entry| !listed.contains(entry)).collect();
    assert!(
        lacking.is_empty() && new.is_empty(),
        "listed, but not found: {lacking:#?}\nfound, but not listed: {new:#?}"
    );
    assert_eq!(
        text, rendered,
        "docs/fluxlit.md is not up to date: run this test with FLUXLIT_TEST_UPDATE=1"
    );
}

/// Returns the document with the list of differences between its marks.
fn render(document: &str, differences: &[Value]) -> String {
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("the beginning of the list");
    let (_, after) = rest.split_once(END).expect("the end of the list");
    let cell = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        let text = text.trim().replace('|', "\\|");
        if text.is_empty() {
            "–".to_owned()
        } else {
            text
        }
    };
    let mut table = String::from(
        "| part of the response | FluxLit | FluxLit Edge | requests | reason |\n| --- | --- | --- | --- | --- |\n",
    );
    for entry in differences {
        let requests = entry["requests"].as_array().expect("requests");
        let first = requests.first().map(cell).unwrap_or_default();
        let requests = match requests.len() {
            1 => format!("`{first}`"),
            number => format!("{number}, such as `{first}`"),
        };
        let row = ["part", "fluxlit", "gateway"].map(|name| cell(&entry[name]));
        table += &format!(
            "| {} | {requests} | {} |\n",
            row.join(" | "),
            cell(&entry["reason"])
        );
    }
    format!("{before}{BEGIN}\n\n{table}\n{END}{after}")
}

const BEGIN: &str = "<!-- differences: written by system/tests/fluxlit/main.rs -->";
const END: &str = "<!-- end of differences -->";

/// FluxLit prefers what the code of an app sets.
#[test]
fn paths_and_options_in_the_code_of_an_app_are_honoured() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "from fluxlit import FluxLit\nfrom fluxlit.config import FluxlitSettings\n\
                app = FluxLit(settings=FluxlitSettings(api_mount_path='/v1', root_path='/in/code'), \
                streamlit_run_args=['--server.enableStaticServing', 'true'])\n\
                @app.api.get('/items')\ndef items():\n    return ['one']\n";
    std::fs::write(folder.path().join("app.py"), text).expect("a file");
    std::fs::create_dir(folder.path().join("static")).expect("a folder");
    let server = Server::start_in(
        Program::Gateway,
        folder.path(),
        "./app.py:app",
        &[],
        "/in/code/v1/readyz",
    );
    let response = get(server.address, "/in/code/v1/items", None).expect("a response");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, r#"["one"]"#)
    );
    // The command line does not change it, so it has to be right.
    let (code, said) = server.run_again(&["./app.py:app", "--root-path", "/other"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("sets root_path to `/in/code`"), "{said}");
}

#[test]
fn an_app_that_cannot_be_imported_is_reported_before_anything_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("app.py"), "import no_such_module\n").expect("a file");
    let (code, said) = programs::run_in(folder.path(), &["app:app"]);
    assert_eq!(code, Some(1), "{said}");
    for text in [
        "cannot import `app:app`",
        "No module named 'no_such_module'",
        "hint: ",
    ] {
        assert!(said.contains(text), "`{text}` is missing in {said}");
    }
    assert!(!said.contains("listening"), "{said}");
}

#[test]
fn a_target_that_is_no_fluxlit_app_is_reported_without_a_traceback() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    put("own.py", "from fluxlit import FluxLit\nsite = FluxLit()\n");
    put("api.py", "from fastapi import FastAPI\napp = FastAPI()\n");
    put("broken.py", "int(None)\n");
    for (target, says, is_short) in [
        ("own:nope", "the module `own` has no `nope`", true),
        ("own:nope", "its FluxLit apps: `own:site`", true),
        ("./own.py:nope", "its FluxLit apps: `./own.py:site`", true),
        ("own:site.nope", "its FluxLit apps: `own:site`", true),
        ("api:app", "its class is `FastAPI`", true),
        ("api:app", "run SCRIPT.py --api api:app`", true),
        // An error of the app's own code.
        ("broken:app", "TypeError: int() argument", false),
    ] {
        let (code, said) = programs::run_in(folder.path(), &[target]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(says), "{target}: {said}");
        assert_eq!(!said.contains("Traceback"), is_short, "{target}: {said}");
        assert!(!said.contains("listening"), "{said}");
    }
}

#[test]
fn a_killed_api_is_restarted_and_readiness_says_so() {
    let smoke = Example::named("smoke_app");
    let server = Server::start(Program::Gateway, smoke);
    let status = |path: &str| {
        get(server.address, path, None)
            .map(|response| response.status)
            .ok()
    };
    let uvicorn = || {
        let processes = server.mark.processes();
        let found = processes.into_iter().find(|found| {
            found.command.contains(" -m uvicorn ") && !found.command.contains("--launch-child")
        });
        found.map(|found| found.id)
    };
    let first = uvicorn().expect("the API runs");
    assert_eq!(status("/api/smoke"), Some(200));
    programs::kill(first);
    assert!(
        wait_until(LIMIT, || uvicorn().is_some_and(|id| id != first)),
        "{}",
        server.log()
    );
    assert!(
        wait_until(LIMIT, || status("/api/smoke") == Some(200)),
        "{}",
        server.log()
    );
    assert!(
        wait_until(LIMIT, || status("/api/readyz") == Some(200)),
        "{}",
        server.log()
    );
    assert!(
        server.log().contains("the API has ended by signal 9"),
        "{}",
        server.log()
    );
}

/// FluxLit leaves Streamlit running. The grace period is far longer than the test waits.
#[test]
fn a_fluxlit_app_ends_with_a_killed_gateway() {
    let smoke = Example::named("smoke_app");
    let smoke = Example {
        environment: &[("FLUXLIT_GRACE_PERIOD_S", "900")],
        ..*smoke
    };
    let server = Server::start(Program::Gateway, &smoke);
    for module in [" -m streamlit ", " -m uvicorn "] {
        let processes = server.mark.processes();
        let runs = processes.iter().any(|found| found.command.contains(module));
        assert!(runs, "{module}: {processes:?}");
    }
    server.kill();
    let ends = wait_until(LIMIT, || server.mark.processes().is_empty());
    assert!(ends, "{:?} are left", server.mark.processes());
}

#[test]
fn dev_reloads_the_api_when_its_file_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app.py");
    let write = |item: &str| {
        let text = format!(
            "from fluxlit import FluxLit\napp = FluxLit()\n@app.api.get('/items')\ndef items():\n    return ['{item}']\n"
        );
        std::fs::write(&file, text).expect("a file");
    };
    write("before");
    let server = Server::start_in(
        Program::Development,
        folder.path(),
        "app:app",
        &[],
        "/api/readyz",
    );
    let items = || {
        get(server.address, "/api/items", None)
            .map(|response| response.text())
            .unwrap_or_default()
    };
    assert!(
        wait_until(LIMIT, || items().contains("before")),
        "{}",
        server.log()
    );
    write("after");
    assert!(
        wait_until(LIMIT, || items().contains("after")),
        "{}",
        server.log()
    );
}

#[test]
fn every_command_of_fluxlit_exists_or_has_a_hint() {
    let commands = programs::commands_of_fluxlit();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let (code, said) = programs::gateway(&[&command, "--help"]);
        match code {
            Some(0) => {}
            Some(2) => assert!(said.contains("\nhint: "), "{command}: {said}"),
            other => panic!("{command}: {other:?}: {said}"),
        }
    }
}

#[test]
fn the_doctor_looks_for_modules_where_the_python_of_the_app_does() {
    let folder = tempfile::tempdir().expect("a folder");
    // The Python in the path knows no such module; the one that runs the app has a package of this name.
    let text = "from fluxlit import FluxLit\napp = FluxLit()\n";
    std::fs::write(folder.path().join("alembic.py"), text).expect("a file");
    let (code, said) = programs::doctor_in(
        folder.path(),
        &["--only", "import_shadowing", "alembic:app"],
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("`alembic` can be imported from several places")
            && said.contains("site-packages/alembic/__init__.py"),
        "{said}"
    );
}

/// A file in the folder of an app, the app, and what the doctor says about the start of the app if the file prevents it.
const SHADOWS: [(&str, &str, Option<&str>); 5] = [
    (
        "fastapi",
        FLUXLIT_APP,
        Some("ImportError: cannot import name"),
    ),
    ("fluxlit", FLUXLIT_APP, Some("'fluxlit' is not a package")),
    ("json", FLUXLIT_APP, Some("ImportError: cannot import name")),
    // Streamlit is started, and does nothing.
    ("streamlit", FLUXLIT_APP, Some("Streamlit has ended")),
    // Nothing needs it, until a page shows a table.
    (
        "pandas",
        "import streamlit as st\nst.write('hello')\n",
        None,
    ),
];

const FLUXLIT_APP: &str = "from fluxlit import FluxLit\napp = FluxLit()\n";

#[test]
fn the_doctor_names_the_file_that_hides_a_package_whether_the_app_starts_or_not() {
    in_parallel(&SHADOWS, |(name, app, prevented)| {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in [
            ("app.py".to_owned(), *app),
            (format!("{name}.py"), "x = 1\n"),
        ] {
            std::fs::write(folder.path().join(file), text).expect("a file");
        }
        let target = if *app == FLUXLIT_APP {
            "app:app"
        } else {
            "app.py"
        };
        let checks = ["--only", "generation,import_shadowing", target];
        let (code, said) = programs::doctor_in(folder.path(), &checks);
        let finds = said
            .lines()
            .find(|line| line.contains(&format!("`import {name}` finds ")));
        let finds = finds.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(finds.contains(&format!("{name}.py instead of /")), "{said}");
        match prevented {
            Some(cause) => {
                assert_eq!(code, Some(1), "{name}: {said}");
                let failed = "fail  D02 generation    the app cannot be started: ";
                let row = said.lines().find(|line| line.starts_with(failed));
                assert!(row.is_some_and(|row| row.contains(cause)), "{name}: {said}");
            }
            None => assert_eq!(code, Some(0), "{name}: {said}"),
        }
    });
}

/// The list is compared with the flags of the gateway by a test of the gateway.
#[test]
fn the_list_of_options_is_that_of_fluxlit_run() {
    let list = include_str!("../../../gateway/src/bin/fluxlit-gateway/fluxlit-0.13.2-options.txt");
    let options = programs::options_of_fluxlit("run");
    let listed: Vec<&str> = list.lines().collect();
    assert_eq!(options, listed);
    // Those of `dev` alone.
    let mut of_dev = programs::options_of_fluxlit("dev");
    of_dev.retain(|option| !options.contains(option));
    assert_eq!(of_dev, ["--no-reload", "--reload", "--reload-scope"]);
    for (option, code) in [
        (&["--no-reload"][..], Some(2)),
        (&["--reload", "--help"], Some(0)),
        (&["--reload-scope", "full", "--help"], Some(0)),
    ] {
        let (found, said) = programs::gateway(&[&["dev"], option].concat());
        assert_eq!(found, code, "{option:?}: {said}");
    }
}
