//! Every test there is, as named steps, with an honest account at the end.
//!
//! A step whose prerequisite is missing is skipped with the reason. With `CI=true` that is a failure: what is not run
//! there is not known to work.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fluxlit_envoy::{MOUNT, Parts, Process, free_port, wait_until};

use crate::processes::descendants_of;
use crate::steps::{cargo, root, run as command, target};
use crate::{browser, setup};

type Work = fn(&Prepared) -> anyhow::Result<Outcome>;

/// A name, what it covers, and the work.
type Step = (&'static str, &'static str, Work);

const STEPS: [Step; 23] = [
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
        "others",
        "filters of others under the test host",
        filters_of_others,
    ),
    (
        "example",
        "a project elsewhere that tests its own filter with the library",
        example,
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
    (
        "gateway",
        "whether the gateway can be told from Streamlit itself, old and new",
        gateway,
    ),
    (
        "browser-demo",
        "a real browser on the demo, behind Envoy and the filter",
        browser::demo,
    ),
    (
        "browser-envoy",
        "a real browser on each thing an app can do, behind Envoy and the filter",
        browser::envoy,
    ),
    (
        "browser-root",
        "likewise, the gateway alone",
        browser::at_root,
    ),
    (
        "browser-mount",
        "likewise, the gateway alone, under a path",
        browser::at_mount,
    ),
    ("browser-tls", "likewise, with TLS and HTTP/2", browser::tls),
    (
        "browser-nginx-full",
        "likewise, behind nginx",
        browser::nginx_full,
    ),
    (
        "browser-nginx-stripped",
        "likewise, behind nginx that takes the path off",
        browser::nginx_stripped,
    ),
    (
        "browser-caddy",
        "likewise, behind Caddy that takes the path off",
        browser::caddy,
    ),
    (
        "browser-older",
        "likewise, with Streamlit on Tornado",
        browser::older,
    ),
    (
        "browser-login",
        "a login at an identity provider, on three ways",
        browser::login,
    ),
    ("up", "cargo xtask up, and that nothing is left of it", up),
    ("embedded", "cargo xtask up --embedded, likewise", embedded),
    ("fuzz", "each fuzz target for 30 seconds", fuzz),
];

pub(crate) enum Outcome {
    Passed,
    Skipped(String),
}

/// What all steps share; prepared once.
pub(crate) struct Prepared {
    pub(crate) parts: Parts,
}

/// Runs the named steps, or all. `browser` names each step that begins with `browser-`.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            STEPS.iter().any(|(step, ..)| is_named(name, step)),
            "there is no step `{name}`; there are: {}",
            STEPS.map(|(step, ..)| step).join(", ")
        );
    }
    let prepared = Prepared {
        parts: setup::everything()?,
    };
    let steps: Vec<Step> = STEPS
        .into_iter()
        .filter(|(step, ..)| names.is_empty() || names.iter().any(|name| is_named(name, step)))
        .collect();
    let mut rows = Vec::new();
    for group in steps.chunk_by(|(one, ..), (other, ..)| is_beside(one) && is_beside(other)) {
        for pair in group.chunks(BESIDE) {
            rows.extend(std::thread::scope(|scope| {
                let running: Vec<_> = pair
                    .iter()
                    .map(|step| scope.spawn(|| run_step(step, &prepared)))
                    .collect();
                running
                    .into_iter()
                    .map(|step| {
                        step.join()
                            .unwrap_or_else(|_| (false, "  FAILED: a panic".to_owned()))
                    })
                    .collect::<Vec<_>>()
            }));
        }
    }
    for (_, row) in &rows {
        println!("{row}");
    }
    let failed = rows.iter().filter(|(is_well, _)| !is_well).count();
    ensure!(failed == 0, "{failed} of {} steps failed", rows.len());
    Ok(())
}

/// Runs a step; returns whether it is well, and its row in the account.
fn run_step((name, what, work): &Step, prepared: &Prepared) -> (bool, String) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    eprintln!("\n── {name}: {what}");
    let started = Instant::now();
    let (is_well, result) = match work(prepared) {
        Ok(Outcome::Passed) => (true, "passed".to_owned()),
        Ok(Outcome::Skipped(reason)) if !in_ci => (true, format!("skipped: {reason}")),
        Ok(Outcome::Skipped(reason)) => (
            false,
            format!("FAILED: nothing may be skipped in CI, but {reason}"),
        ),
        Err(error) => (false, format!("FAILED: {error:#}")),
    };
    let seconds = started.elapsed().as_secs_f64();
    (is_well, format!("  {name:<22} {seconds:>5.0} s  {result}"))
}

fn is_named(name: &str, step: &str) -> bool {
    step.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether a step may run beside others of its kind: it waits more than it works, and shares nothing with them.
fn is_beside(step: &str) -> bool {
    step.starts_with("browser-")
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
    let policy = setup::policy_alone()?;
    command(test_binary(prepared, "cost").env("FLUXLIT_TEST_POLICY", policy))?;
    Ok(Outcome::Passed)
}

/// Runs each module of a package of Higress plugins through its case file. Envoy refuses them, for their own version of the
/// ABI, and so does the test host without its switches.
fn filters_of_others(_: &Prepared) -> anyhow::Result<Outcome> {
    let plugins = setup::filters_of_others()?;
    let host_test = setup::programs()?.join("host-test");
    let cases = root().join("host-test/tests/higress");
    let mut missed = Vec::new();
    for name in names(&plugins)? {
        let module = names(&plugins.join(&name))?
            .into_iter()
            .map(|version| plugins.join(&name).join(version).join("plugin.wasm"))
            .find(|module| module.is_file())
            .with_context(|| format!("{name} has no module"))?;
        eprintln!("{name}");
        let ran = Command::new(&host_test)
            .arg("run")
            .arg("--filter")
            .arg(module)
            .args(["--any-abi", "--unknown-imports", "UNIMPLEMENTED", "--cases"])
            .arg(cases.join(format!("{name}.json")))
            .status()
            .context("cannot run host-test")?;
        if !ran.success() {
            missed.push(name);
        }
    }
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(Outcome::Passed)
}

fn example(_: &Prepared) -> anyhow::Result<Outcome> {
    command(
        cargo()
            .args(["test", "--quiet", "--locked", "--manifest-path"])
            .arg(root().join("host-test/example/Cargo.toml"))
            // What it has in common with the workspace is not compiled again.
            .arg("--target-dir")
            .arg(target()),
    )?;
    Ok(Outcome::Passed)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = std::fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot read {}", folder.display()))?;
    names.sort();
    Ok(names)
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

fn gateway(prepared: &Prepared) -> anyhow::Result<Outcome> {
    let older = setup::older_streamlit()?;
    command(test_binary(prepared, "gateway").env("FLUXLIT_TEST_STREAMLIT_OLDER", older))?;
    Ok(Outcome::Passed)
}

fn envoy_test(prepared: &Prepared, name: &str) -> anyhow::Result<Outcome> {
    command(&mut test_binary(prepared, name))?;
    Ok(Outcome::Passed)
}

/// One test binary of `envoy/tests`, which finds the programs by these variables.
fn test_binary(prepared: &Prepared, name: &str) -> Command {
    let parts = &prepared.parts;
    let mut cargo = cargo();
    cargo
        .args(["test", "--package", "fluxlit-envoy", "--test", name])
        .env("FLUXLIT_TEST_ENVOY", &parts.envoy)
        .env("FLUXLIT_TEST_FILTER", &parts.module)
        .env("FLUXLIT_TEST_GATEWAY", &parts.gateway)
        .env("FLUXLIT_TEST_STREAMLIT", &parts.streamlit);
    cargo
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

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// How many steps run beside each other.
const BESIDE: usize = 2;
