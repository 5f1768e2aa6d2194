//! Every test there is, as named steps, with an honest account at the end.
//!
//! A step whose prerequisite is missing is skipped with the reason. With `CI=true` that is a failure: what is not run
//! there is not known to work.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use fluxlit_envoy::{Bootstrap, MOUNT, Parts, Process, Stack, free_port, wait_until};

use crate::setup;
use crate::steps::{cargo, root, run as command, target};

type Work = fn(&Prepared) -> anyhow::Result<Outcome>;

const STEPS: [(&str, &str, Work); 11] = [
    (
        "native",
        "unit tests, properties, cases in the policy, documentation examples",
        native,
    ),
    (
        "cases",
        "every case in the policy, in wasmtime and in real Envoy",
        cases,
    ),
    (
        "attacks",
        "whatever a client may send to the shipped listener",
        attacks,
    ),
    (
        "filter",
        "what the filter does across passes, filters, logs and metrics",
        filter,
    ),
    (
        "cost",
        "host calls and instructions of the typical request",
        cost,
    ),
    (
        "manifests",
        "the shipped configuration: bootstrap, Istio, one plugin configuration",
        manifests,
    ),
    (
        "streamlit",
        "real Envoy, filter, gateway and real Streamlit",
        streamlit,
    ),
    ("browser", "a real browser on the app", browser),
    ("up", "cargo xtask up, and that nothing is left of it", up),
    ("embedded", "cargo xtask up --embedded, likewise", embedded),
    ("fuzz", "each fuzz target for 30 seconds", fuzz),
];

enum Outcome {
    Passed,
    Skipped(String),
}

/// What all steps share; prepared once.
struct Prepared {
    parts: Parts,
}

/// Runs the named steps, or all.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            STEPS.iter().any(|(step, ..)| step == name),
            "there is no step `{name}`; there are: {}",
            STEPS.map(|(step, ..)| step).join(", ")
        );
    }
    let prepared = Prepared {
        parts: setup::everything()?,
    };
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut rows = Vec::new();
    let mut failed = 0;
    for (name, what, work) in STEPS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("\n── {name}: {what}");
        let started = Instant::now();
        let result = match work(&prepared) {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(reason)) if !in_ci => format!("skipped: {reason}"),
            Ok(Outcome::Skipped(reason)) => {
                failed += 1;
                format!("FAILED: nothing may be skipped in CI, but {reason}")
            }
            Err(error) => {
                failed += 1;
                format!("FAILED: {error:#}")
            }
        };
        rows.push(format!(
            "  {name:<10} {:>5.0} s  {result}",
            started.elapsed().as_secs_f64()
        ));
    }
    println!("\n{}", rows.join("\n"));
    if failed > 0 {
        bail!("{failed} of {} steps failed", rows.len());
    }
    Ok(())
}

fn native(prepared: &Prepared) -> anyhow::Result<Outcome> {
    // The test host compares itself with an Envoy that it is told of.
    command(
        cargo()
            .arg("test")
            .env("FLUXLIT_TEST_ENVOY", &prepared.parts.envoy),
    )?;
    Ok(Outcome::Passed)
}

fn cases(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "cases")
}

fn attacks(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "attacks")
}

fn filter(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "filter")
}

fn cost(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "cost")
}

fn fuzz(_: &Prepared) -> anyhow::Result<Outcome> {
    if setup::find("c++").is_none() {
        return Ok(Outcome::Skipped(
            "there is no C++ compiler, which libFuzzer needs".to_owned(),
        ));
    }
    crate::fuzz::run(&[], 30)?;
    Ok(Outcome::Passed)
}

fn manifests(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "manifests")
}

fn streamlit(prepared: &Prepared) -> anyhow::Result<Outcome> {
    envoy_test(prepared, "streamlit")
}

/// Runs one test binary of `envoy/tests`, which finds the programs by these variables.
fn envoy_test(prepared: &Prepared, name: &str) -> anyhow::Result<Outcome> {
    let parts = &prepared.parts;
    command(
        cargo()
            .args(["test", "--package", "fluxlit-envoy", "--test", name])
            .env("FLUXLIT_TEST_ENVOY", &parts.envoy)
            .env("FLUXLIT_TEST_FILTER", &parts.module)
            .env("FLUXLIT_TEST_GATEWAY", &parts.gateway)
            .env("FLUXLIT_TEST_STREAMLIT", &parts.streamlit),
    )?;
    Ok(Outcome::Passed)
}

fn browser(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let chromium = std::env::var_os("CHROMIUM")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.exists() {
        return Ok(Outcome::Skipped(format!(
            "there is no browser at {}; install Chromium or name it with CHROMIUM",
            chromium.display()
        )));
    }
    if setup::find("npm").is_none() {
        return Ok(Outcome::Skipped("npm is not installed".to_owned()));
    }
    let folder = root().join("envoy/browser");
    if !folder.join("node_modules/playwright-core").exists() {
        command(
            Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder),
        )?;
    }
    let artifacts = target().join("artifacts");
    std::fs::create_dir_all(&artifacts)?;
    let own = target().join("test-browser");
    std::fs::create_dir_all(&own)?;
    let listen = local(free_port()?);
    let mut stack = Stack::start(
        &prepared.parts,
        &root().join("demo/app.py"),
        Bootstrap::shipped(),
        listen,
        &own,
    )?;
    ensure!(
        stack.wait_until_ready(Duration::from_secs(60)),
        "the app did not start; see {}",
        own.display()
    );
    command(
        Command::new("node")
            .args(["--test", "--test-reporter=spec"])
            .arg(folder.join("app.test.mjs"))
            .env("CHROMIUM", &chromium)
            .env("APP_PORT", listen.port().to_string())
            .env("APP_MOUNT", MOUNT)
            .env("ARTIFACTS", &artifacts),
    )?;
    Ok(Outcome::Passed)
}

fn up(_: &Prepared) -> anyhow::Result<Outcome> {
    try_up(&[], None, "<title>Streamlit</title>")?;
    let certificate = target().join("up/certificate.pem");
    try_up(&["--tls"], Some(&certificate), "<title>Streamlit</title>")
}

fn embedded(_: &Prepared) -> anyhow::Result<Outcome> {
    try_up(&["--embedded"], None, "What reaches the app")
}

/// Starts `up` as a user would, asks the app through it, ends it with SIGTERM, and looks for what is left.
fn try_up(arguments: &[&str], trusted: Option<&Path>, title: &str) -> anyhow::Result<Outcome> {
    let port = free_port()?;
    let listen = local(port);
    let log = target().join("test-up.log");
    let scheme = if trusted.is_some() { "https" } else { "http" };
    let mut up = Command::new(std::env::current_exe()?);
    up.arg("up")
        .args(["--port", &port.to_string()])
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(Stdio::inherit());
    let mut up = Process::start(up)?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let announced = wait_until(Duration::from_secs(180), || {
        said().contains("Ctrl-C") || !matches!(up.ended(), Ok(None))
    });
    ensure!(
        announced && matches!(up.ended(), Ok(None)),
        "it did not start"
    );
    ensure!(
        said().contains(&format!("{scheme}://{listen}{MOUNT}/")),
        "it does not say where the app is"
    );
    let health = fluxlit_envoy::get(listen, &format!("{MOUNT}/_stcore/health"), trusted)?;
    ensure!(
        health.starts_with("HTTP/1.1 200"),
        "the app is not healthy: {health}"
    );
    let outside = fluxlit_envoy::get(listen, "/elsewhere", trusted)?;
    ensure!(
        outside.starts_with("HTTP/1.1 404"),
        "a path outside the mount is served: {outside}"
    );
    let page = fluxlit_envoy::get(listen, &format!("{MOUNT}/"), trusted)?;
    ensure!(
        page.starts_with("HTTP/1.1 200") && page.contains(title),
        "the page is another one: {page}"
    );
    let descendants = descendants_of(up.id())?;
    ensure!(!descendants.is_empty(), "it runs nothing");
    let started = Instant::now();
    up.end();
    let left: Vec<u32> = descendants
        .into_iter()
        .filter(|id| Path::new(&format!("/proc/{id}")).exists())
        .collect();
    ensure!(left.is_empty(), "processes {left:?} are left");
    TcpListener::bind(listen).with_context(|| format!("port {port} is still taken"))?;
    eprintln!(
        "ended in {:.1} s, nothing is left",
        started.elapsed().as_secs_f64()
    );
    Ok(Outcome::Passed)
}

/// Children, their children, and so on, by the kernel's own list.
fn descendants_of(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        for task in std::fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                found.push(child);
                open.push(child);
            }
        }
    }
    Ok(found)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
