//! Runs all tests as named steps, and prints a summary.
//!
//! A step whose prerequisite is missing is skipped, with the reason. With `CI=true`, a skipped step is a failure.

use std::ffi::OsString;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fluxlit_envoy::{MOUNT, Parts};
use fluxlit_support::client::get;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::process::Process;
use fluxlit_support::wait::wait_until;

use crate::bench::gateway::cost;
use crate::browser::{self, Browser};
use crate::containers::{
    APP_IMAGE, BASE_IMAGE, CADDY_IMAGE, Containers, GATEWAY_IMAGE, TRAEFIK_IMAGE,
};
use crate::fuzz::host_triple;
use crate::processes::descendants_of;
use crate::setup::{self, Features, OLDEST, OLDEST_WITH_MODULES};
use crate::steps::{cargo, native_packages, root, run as command, target};

type Work = fn(&Prerequisites) -> anyhow::Result<Outcome>;

/// The name of a step, what it covers, and the function that runs it.
type Step = (&'static str, &'static str, Work);

const STEPS: [Step; 53] = [
    (
        "module-memory",
        "the dynamic module with random bytes, and with AddressSanitizer, which finds uses of memory that Envoy has freed",
        module_memory,
    ),
    (
        "native",
        "unit tests, property tests, cases in the policy, documentation examples, the example of a filter with tests",
        native,
    ),
    (
        "cases",
        "all cases in the policy, in wasmtime and in real Envoy",
        cases,
    ),
    (
        "attacks",
        "attacks on the shipped listener, and on those that Istio and Envoy Gateway make of the shipped resources",
        attacks,
    ),
    (
        "oldest-envoy",
        "all cases and attacks on the oldest supported Envoy",
        oldest_envoy,
    ),
    (
        "compatibility",
        "cases, attacks and the guard on every supported Envoy: the table of docs/compatibility.md; runs only by name",
        compatibility,
    ),
    (
        "filter",
        "the filter with internal redirects, other filters, logs and metrics",
        filter,
    ),
    (
        "edge",
        "the shipped files of an edge and a sidecar: access log, limits, trust by certificate, several apps; on the oldest and the newest version",
        edge,
    ),
    (
        "guard",
        "Envoy without the filter, on the oldest and the newest version",
        guard,
    ),
    (
        "module",
        "the dynamic module: all cases, the tests of the filter, the attacks, and the guard on the oldest version with modules and the newest",
        module,
    ),
    (
        "cost",
        "host calls and instructions for a typical request",
        cost,
    ),
    (
        "others",
        "third-party filters under the test host",
        third_party_filters,
    ),
    (
        "manifests",
        "the shipped configuration: bootstrap, Istio manifests, plugin configuration",
        manifests,
    ),
    (
        "fronts",
        "each printed configuration of a proxy in front, checked and run by that proxy",
        fronts,
    ),
    (
        "smoke",
        "half of the ways to publish an app: fronts, forms of the path, http and https, logins; cargo xtask smoke runs all",
        smoke,
    ),
    (
        "control-planes",
        "a visitor of the app, through what Istio and Envoy Gateway make of the shipped resources",
        control_planes,
    ),
    (
        "tutorials",
        "the tutorials, with the programs, settings and outputs that they show",
        tutorials,
    ),
    (
        "replicas",
        "several gateways behind Envoy: affinity, a replacement and updates under load; its dynamic form on each version",
        replicas,
    ),
    (
        "kubernetes",
        "the Helm chart and the Kustomize overlays",
        kubernetes,
    ),
    (
        "monitoring",
        "alerts, runbooks and dashboards, in a real Prometheus that scrapes a real gateway and a real Envoy",
        monitoring,
    ),
    (
        "traces",
        "one trace through Envoy, the gateway and an API, in a real OpenTelemetry collector",
        traces,
    ),
    (
        "decision-record",
        "the decision records of the filter in real Envoy and of the gateway behind it, and attacks on them",
        decision_record,
    ),
    (
        "doctor-inside",
        "the doctor on real Streamlits and a real Envoy, healthy and broken",
        doctor_inside,
    ),
    (
        "doctor-outside",
        "the doctor in front of real proxies, healthy and broken in the ways that users report",
        doctor_outside,
    ),
    (
        "streamlit",
        "real Streamlit behind real Envoy, the filter and the gateway",
        streamlit,
    ),
    (
        "gateway",
        "the gateway compared with Streamlit itself, old and new, and with WSGI servers as API",
        gateway,
    ),
    (
        "gateway-cost",
        "instructions, system calls and allocations of the gateway for an exchange, compared with those of the repository",
        gateway_cost,
    ),
    (
        "browser-demo",
        "the demo in a real browser, behind Envoy and the filter",
        browser::demo,
    ),
    (
        "browser-envoy",
        "all features of an app and HSTS in a real browser, over https behind Envoy and the filter",
        browser::envoy,
    ),
    ("browser-firefox", "the same, in Firefox", browser::firefox),
    (
        "browser-webkit",
        "the same behind nginx over https, in WebKit",
        browser::webkit,
    ),
    (
        "browser-nginx-https",
        "the same behind nginx over https; runs only by name",
        browser::nginx_https,
    ),
    (
        "all-browsers",
        "every browser step, in Chromium, Firefox and WebKit; runs only by name",
        browser::all,
    ),
    (
        "browser-root",
        "the same features, with the gateway alone",
        browser::at_root,
    ),
    (
        "browser-mount",
        "the same features, with the gateway alone, under a path; runs only by name",
        browser::at_mount,
    ),
    (
        "browser-tls",
        "the same features, with TLS and HTTP/2",
        browser::tls,
    ),
    (
        "browser-nginx-full",
        "the same features, behind nginx; runs only by name",
        browser::nginx_full,
    ),
    (
        "browser-nginx-stripped",
        "the same features, behind nginx that removes the mount",
        browser::nginx_stripped,
    ),
    (
        "browser-caddy",
        "the same features, behind Caddy that removes the mount",
        browser::caddy,
    ),
    (
        "browser-older",
        "the same features, with a Streamlit version that uses Tornado",
        browser::older,
    ),
    (
        "browser-login",
        "a login at an identity provider, in three deployments",
        browser::login,
    ),
    (
        "fluxlit",
        "FluxLit's own examples and scripts, under FluxLit and under the gateway",
        fluxlit,
    ),
    (
        "images",
        "the images in podman, also in a real browser, the pods of the chart, the filter in a registry",
        images,
    ),
    (
        "release-images",
        "the same with the executable of a release, for musl; runs only by name",
        release_images,
    ),
    (
        "compose",
        "a shape of deploy/compose for each proxy, one of them with TLS, in podman-compose",
        compose,
    ),
    (
        "all-compose",
        "all shapes of deploy/compose; runs only by name",
        all_compose,
    ),
    (
        "kill",
        "the gateway and its child processes, killed at random moments",
        kill,
    ),
    ("site", "the documentation as a site, with its links", site),
    (
        "dist",
        "the filter, the chart, schemas and SBOMs of a release: built twice with the same bytes, and used",
        dist,
    ),
    (
        "all-dist",
        "the same for every file of a release, executables included; runs only by name",
        all_dist,
    ),
    (
        "up",
        "cargo xtask up, which must leave no process behind",
        up,
    ),
    (
        "embedded",
        "cargo xtask up --embedded, which must leave no process behind",
        embedded,
    ),
    ("fuzz", "each fuzz target for 20 seconds", fuzz),
];

pub(crate) enum Outcome {
    Passed,
    Skipped(String),
}

/// What all steps share.
pub(crate) struct Prerequisites {
    /// Programs, set up once.
    pub(crate) parts: Parts,
    /// The browsers of the browser steps.
    pub(crate) browsers: Vec<Browser>,
}

impl Prerequisites {
    /// Returns the same with these browsers.
    pub(crate) fn with_browsers(&self, browsers: &[Browser]) -> Self {
        Self {
            parts: self.parts.clone(),
            browsers: browsers.to_vec(),
        }
    }
}

/// Runs the named steps, or all but those of [`BY_NAME`]. The name `browser` selects every step that begins with `browser-`.
pub(crate) fn run(names: &[String], browsers: &[Browser]) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            STEPS.iter().any(|(step, ..)| is_named(name, step)),
            "unknown step `{name}`; expected one of: {}",
            STEPS.map(|(step, ..)| step).join(", ")
        );
    }
    let parts = if names.is_empty() {
        set_up_all()?
    } else {
        setup::everything(Features::Tested)?
    };
    let prerequisites = Prerequisites {
        parts,
        browsers: browsers.to_vec(),
    };
    let steps: Vec<Step> = STEPS
        .into_iter()
        .filter(|(step, ..)| {
            (names.is_empty() && !BY_NAME.contains(step))
                || names.iter().any(|name| is_named(name, step))
        })
        .collect();
    let rows: Vec<(bool, String)> = steps
        .chunk_by(|(one, ..), (other, ..)| !ALONE.contains(one) && !ALONE.contains(other))
        .flat_map(|group| run_group(group, &prerequisites))
        .collect();
    for (_, row) in &rows {
        println!("{row}");
    }
    let failed = rows.iter().filter(|(has_passed, _)| !has_passed).count();
    ensure!(failed == 0, "{failed} of {} steps failed", rows.len());
    Ok(())
}

/// Compiles all tests, and meanwhile installs what their steps need.
fn set_up_all() -> anyhow::Result<Parts> {
    std::thread::scope(|scope| {
        // Downloads wait for the network, and compilers do not.
        scope.spawn(setup::install_ahead);
        let parts = setup::everything(Features::Tested)?;
        setup::all_tests()?;
        Ok(parts)
    })
}

/// Runs up to [`PARALLEL_STEPS`] of these steps at a time, those of [`LONGEST`] first; returns their rows in the order of the
/// steps.
fn run_group(group: &[Step], prerequisites: &Prerequisites) -> Vec<(bool, String)> {
    let mut queue: Vec<(usize, &Step)> = group.iter().enumerate().collect();
    queue.sort_by_key(|(_, (name, ..))| {
        let place = LONGEST.iter().position(|longest| longest == name);
        place.unwrap_or(LONGEST.len())
    });
    let next = AtomicUsize::new(0);
    let run_next = || {
        let mut rows = Vec::new();
        loop {
            let Some((index, step)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return rows;
            };
            let row = catch_unwind(AssertUnwindSafe(|| run_step(step, prerequisites)))
                .unwrap_or_else(|_| (false, format!("  {:<22} FAILED: it panicked", step.0)));
            rows.push((*index, row));
        }
    };
    let mut rows: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PARALLEL_STEPS.min(group.len()))
            .map(|_| scope.spawn(run_next))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    });
    rows.sort_unstable_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Runs a step; returns whether it passed, and its row in the summary.
fn run_step((name, description, work): &Step, prerequisites: &Prerequisites) -> (bool, String) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    eprintln!("\n── {name}: {description}");
    let started = Instant::now();
    let (has_passed, result) = match work(prerequisites) {
        Ok(Outcome::Passed) => (true, "passed".to_owned()),
        Ok(Outcome::Skipped(reason)) if !in_ci => (true, format!("skipped: {reason}")),
        Ok(Outcome::Skipped(reason)) => (
            false,
            format!("FAILED: skipped, which CI does not allow: {reason}"),
        ),
        Err(error) => (false, format!("FAILED: {error:#}")),
    };
    let seconds = started.elapsed().as_secs_f64();
    (
        has_passed,
        format!("  {name:<22} {seconds:>5.0} s  {result}"),
    )
}

fn is_named(name: &str, step: &str) -> bool {
    step.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn native(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    // Tests of the test host compare it with this Envoy.
    command(
        cargo()
            .arg("test")
            .env("FLUXLIT_TEST_ENVOY", &prerequisites.parts.envoy)
            // Some wait for a limit of a minute, while others compute.
            .env("RUST_TEST_THREADS", "4"),
    )?;
    Ok(Outcome::Passed)
}

fn cases(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(test_binary(prerequisites, "cases").args([
        "--",
        "--skip",
        IN_THE_MODULE,
        "--skip",
        IN_ANOTHER_ENVOY,
    ]))?;
    Ok(Outcome::Passed)
}

/// Runs the cases and the tests of the filter on the dynamic module.
fn module(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let library = setup::module()?;
    let envoys = match with_older_envoys(prerequisites, &[OLDEST_WITH_MODULES]) {
        Ok(envoys) => envoys,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(
        test_binary(prerequisites, "cases")
            .env("FLUXLIT_TEST_MODULE", &library)
            .args(["--", IN_THE_MODULE]),
    )?;
    for test in ["filter", "attacks", "guard"] {
        command(
            test_binary(prerequisites, test)
                .env("FLUXLIT_TEST_FILTER", &library)
                .env("FLUXLIT_TEST_ENVOYS", &envoys),
        )?;
    }
    // The doctor finds the module's counters.
    command(
        test_binary(prerequisites, "doctor_inside")
            .env("FLUXLIT_TEST_FILTER", &library)
            .args(["--", "the_counters"]),
    )?;
    Ok(Outcome::Passed)
}

/// Runs the module's own tests with AddressSanitizer.
fn module_memory(_: &Prerequisites) -> anyhow::Result<Outcome> {
    command(
        cargo()
            .args(["test", "--package", "fluxlit-module", "--test", "it"])
            .args(["--target", &host_triple()?, "--target-dir"])
            .arg(target().join("sanitizer"))
            // The stable compiler has the sanitizer, and needs this to use it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env("PROPTEST_CASES", "2000"),
    )?;
    Ok(Outcome::Passed)
}

fn attacks(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    envoy_test(prerequisites, "attacks")
}

/// Runs what is most likely to differ on the version that differs most.
fn oldest_envoy(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let envoy = match setup::older_envoy(OLDEST) {
        Ok(envoy) => envoy,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    for (name, only) in [("cases", IN_ANOTHER_ENVOY), ("attacks", "")] {
        command(
            test_binary(prerequisites, name)
                .env("FLUXLIT_TEST_ENVOY", &envoy)
                .args(["--", only]),
        )?;
    }
    Ok(Outcome::Passed)
}

fn compatibility(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    crate::compatibility::run(prerequisites)?;
    Ok(Outcome::Passed)
}

fn control_planes(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(&mut test_binary(prerequisites, "control_planes"))?;
    Ok(Outcome::Passed)
}

fn filter(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    envoy_test(prerequisites, "filter")
}

fn edge(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    on_two_versions(prerequisites, "edge")
}

fn guard(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    on_two_versions(prerequisites, "guard")
}

/// Runs a test on the oldest and the newest version of Envoy.
fn on_two_versions(prerequisites: &Prerequisites, test: &str) -> anyhow::Result<Outcome> {
    let envoys = match with_older_envoys(prerequisites, &[OLDEST]) {
        Ok(envoys) => envoys,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(test_binary(prerequisites, test).env("FLUXLIT_TEST_ENVOYS", envoys))?;
    Ok(Outcome::Passed)
}

/// Returns these versions of Envoy and the newest, as a list of paths.
fn with_older_envoys(prerequisites: &Prerequisites, older: &[&str]) -> anyhow::Result<OsString> {
    let mut envoys = older
        .iter()
        .map(|version| setup::older_envoy(version))
        .collect::<anyhow::Result<Vec<_>>>()?;
    envoys.push(prerequisites.parts.envoy.clone());
    Ok(std::env::join_paths(envoys)?)
}

fn cost(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let policy = setup::policy_alone()?;
    command(test_binary(prerequisites, "cost").env("FLUXLIT_TEST_POLICY", policy))?;
    Ok(Outcome::Passed)
}

/// Runs each module of a package of Higress plugins through its case file.
///
/// Envoy rejects these modules because of their ABI version, and so does the test host without these options.
fn third_party_filters(_: &Prerequisites) -> anyhow::Result<Outcome> {
    let plugins = setup::third_party_filters()?;
    let host_test = setup::program_for_tests("host-test")?;
    let cases = root().join("host-test/tests/higress");
    let mut failed = Vec::new();
    for name in names(&plugins)? {
        let module = names(&plugins.join(&name))?
            .into_iter()
            .map(|version| plugins.join(&name).join(version).join("plugin.wasm"))
            .find(|module| module.is_file())
            .with_context(|| format!("the plugin {name} has no module"))?;
        eprintln!("{name}");
        let status = Command::new(&host_test)
            .arg("run")
            .arg("--filter")
            .arg(module)
            .args(["--any-abi", "--unknown-imports", "UNIMPLEMENTED", "--cases"])
            .arg(cases.join(format!("{name}.json")))
            .status()
            .context("cannot run host-test")?;
        if !status.success() {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(Outcome::Passed)
}

/// Returns the sorted names of a folder's entries.
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

fn fuzz(_: &Prerequisites) -> anyhow::Result<Outcome> {
    if setup::find("c++").is_none() {
        return Ok(Outcome::Skipped(
            "libFuzzer needs a C++ compiler, and none is installed".to_owned(),
        ));
    }
    crate::fuzz::run(&[], 20)?;
    Ok(Outcome::Passed)
}

fn manifests(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    envoy_test(prerequisites, "manifests")
}

fn fronts(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let programs = match setup::fronts() {
        Ok(programs) => programs,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(test_binary(prerequisites, "fronts").envs(programs))?;
    Ok(Outcome::Passed)
}

fn smoke(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let programs = match setup::shapes() {
        Ok(programs) => programs,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(
        test_binary(prerequisites, "smoke")
            .envs(programs)
            .env("FLUXLIT_TEST_SHAPES", "half"),
    )?;
    Ok(Outcome::Passed)
}

/// Runs the shapes of the smoke test that have each of these words in their names, and shows the table.
pub(crate) fn run_shapes(words: &[String]) -> anyhow::Result<()> {
    let prerequisites = Prerequisites {
        parts: setup::everything(Features::Tested)?,
        browsers: Vec::new(),
    };
    command(
        test_binary(&prerequisites, "smoke")
            .args(["--", "--nocapture", "every_shape"])
            .envs(setup::shapes()?)
            .env("FLUXLIT_TEST_SHAPES", words.join(" ")),
    )
}

fn tutorials(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let Some(nginx) = setup::nginx() else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    command(test_binary(prerequisites, "tutorials").env("FLUXLIT_TEST_NGINX", nginx))?;
    Ok(Outcome::Passed)
}

fn replicas(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let envoys = match with_older_envoys(prerequisites, &[OLDEST, OLDEST_WITH_MODULES]) {
        Ok(envoys) => envoys,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(test_binary(prerequisites, "replicas").env("FLUXLIT_TEST_ENVOYS", envoys))?;
    Ok(Outcome::Passed)
}

fn kubernetes(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(test_binary(prerequisites, "kubernetes").envs(setup::kubernetes()?))?;
    Ok(Outcome::Passed)
}

fn monitoring(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let programs = match setup::prometheus() {
        Ok(programs) => programs,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(test_binary(prerequisites, "monitoring").envs(programs))?;
    Ok(Outcome::Passed)
}

fn traces(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(test_binary(prerequisites, "traces").envs(setup::collector()?))?;
    Ok(Outcome::Passed)
}

fn decision_record(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(&mut test_binary(prerequisites, "decision_record"))?;
    Ok(Outcome::Passed)
}

fn doctor_inside(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(
        test_binary(prerequisites, "doctor_inside")
            .env("FLUXLIT_TEST_STREAMLIT_OLDER", setup::older_streamlit()?),
    )?;
    Ok(Outcome::Passed)
}

fn doctor_outside(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    let programs = match setup::fronts() {
        Ok(programs) => programs,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    command(
        test_binary(prerequisites, "doctor_outside")
            .envs(programs)
            .env("FLUXLIT_TEST_STREAMLIT_OLDER", setup::older_streamlit()?),
    )?;
    Ok(Outcome::Passed)
}

fn streamlit(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    envoy_test(prerequisites, "streamlit")
}

fn gateway(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(
        test_binary(prerequisites, "gateway")
            .env("FLUXLIT_TEST_STREAMLIT_OLDER", setup::older_streamlit()?)
            .env("FLUXLIT_TEST_WSGI_PYTHON", setup::wsgi_python()?),
    )?;
    Ok(Outcome::Passed)
}

fn gateway_cost(_: &Prerequisites) -> anyhow::Result<Outcome> {
    if let Some(obstacle) = cost::obstacle() {
        return Ok(Outcome::Skipped(obstacle));
    }
    cost::check()?;
    Ok(Outcome::Passed)
}

fn fluxlit(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    for program in ["curl", "pgrep"] {
        if setup::find(program).is_none() {
            return Ok(Outcome::Skipped(format!(
                "FluxLit's scripts need {program}, which is not installed"
            )));
        }
    }
    let (programs, sources) = (setup::fluxlit()?, setup::fluxlit_sources()?);
    let opentelemetry = setup::opentelemetry()?;
    for test in ["public_urls", "fluxlit"] {
        command(
            test_binary(prerequisites, test)
                .env("FLUXLIT_TEST_FLUXLIT_BIN", &programs)
                .env("FLUXLIT_TEST_OPENTELEMETRY", &opentelemetry)
                .env("FLUXLIT_TEST_FLUXLIT_SOURCES", &sources),
        )?;
    }
    Ok(Outcome::Passed)
}

fn images(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    run_images(prerequisites, setup::static_gateway)
}

fn release_images(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    run_images(prerequisites, setup::musl_gateway)
}

/// Builds the images with this executable of the gateway, and runs them.
fn run_images(
    prerequisites: &Prerequisites,
    gateway: fn() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<Outcome> {
    let containers = match Containers::find() {
        Ok(containers) => containers,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let executable = containers.build_images(&gateway()?)?;
    let output = target().join("image");
    let gateway = crate::image::gateway(&executable, "amd64", &output, "test")?;
    let image = crate::image::filter(&prerequisites.parts.module, &output, "test")?;
    command(
        test_binary(prerequisites, "images")
            .envs(containers.variables())
            .env("FLUXLIT_TEST_GATEWAY_IMAGE", GATEWAY_IMAGE)
            .env("FLUXLIT_TEST_APP_IMAGE", APP_IMAGE)
            .env("FLUXLIT_TEST_FILTER_LAYOUT", image.layout)
            .env("FLUXLIT_TEST_GATEWAY_LAYOUT", gateway.layout),
    )?;
    if let skipped @ Outcome::Skipped(_) = browser::image(prerequisites, &containers)? {
        return Ok(skipped);
    }
    command(
        isolated(&test_binary(prerequisites, "pods"))
            .envs(containers.variables())
            .envs(setup::kubernetes()?)
            .env("FLUXLIT_TEST_GATEWAY_IMAGE", GATEWAY_IMAGE)
            .env("FLUXLIT_TEST_APP_IMAGE", APP_IMAGE),
    )?;
    Ok(Outcome::Passed)
}

/// Returns the command for a test that runs alone, one test after the other, in namespaces of its own: every port is free there,
/// and the networks of podman, with the addresses that are in use and the name server, are not those of this machine or of a
/// run that was killed. When the test ends, so do all its processes, containers and name server included.
fn isolated(test: &Command) -> Command {
    let mut isolated = Command::new("unshare");
    isolated
        .args(["--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        // Not `exec`: the shell reaps the processes whose parents have ended.
        .args(["sh", "-c", &format!("{ISOLATE} && \"$@\""), "sh"])
        .arg(test.get_program())
        .args(test.get_args())
        .args(["--", "--nocapture", "--test-threads", "1"])
        .envs(
            test.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    isolated
}

/// Prepares the namespaces of a test with containers.
const ISOLATE: &str = "ip link set lo up && mkdir -p /run/containers/networks && mount -t tmpfs networks /run/containers/networks";

fn compose(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    run_compose(prerequisites, "https,caddy,traefik")
}

fn all_compose(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    run_compose(
        prerequisites,
        "strip-prefix,full-path,root,apps-prefix,https,caddy,traefik",
    )
}

/// Starts these shapes, one after the other, in a network namespace, where the ports of the files are free.
fn run_compose(prerequisites: &Prerequisites, shapes: &str) -> anyhow::Result<Outcome> {
    let containers = match Containers::find() {
        Ok(containers) => containers,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    containers.build_images(&setup::static_gateway()?)?;
    containers.build_fronts()?;
    crate::certificates::write(&root().join("deploy/compose/certificates"))?;
    let mut isolated = isolated(&test_binary(prerequisites, "compose"));
    isolated
        .envs(containers.variables())
        .env("FLUXLIT_APP_IMAGE", APP_IMAGE)
        .env("NGINX_IMAGE", BASE_IMAGE)
        .env("CADDY_IMAGE", CADDY_IMAGE)
        .env("TRAEFIK_IMAGE", TRAEFIK_IMAGE)
        .env("FLUXLIT_TEST_PODMAN_COMPOSE", setup::podman_compose()?)
        .env("FLUXLIT_TEST_SHAPES", shapes);
    command(&mut isolated)?;
    Ok(Outcome::Passed)
}

fn kill(prerequisites: &Prerequisites) -> anyhow::Result<Outcome> {
    command(&mut test_binary(prerequisites, "kill"))?;
    Ok(Outcome::Passed)
}

fn dist(_: &Prerequisites) -> anyhow::Result<Outcome> {
    use crate::dist::Part::{Chart, Filter, Sboms, Schemas};
    if let Err(error) = setup::debian("skopeo", "skopeo") {
        return Ok(Outcome::Skipped(format!("{error:#}")));
    }
    crate::dist::check(&[Filter, Chart, Schemas, Sboms])?;
    Ok(Outcome::Passed)
}

fn all_dist(_: &Prerequisites) -> anyhow::Result<Outcome> {
    crate::dist::check_all()?;
    Ok(Outcome::Passed)
}

fn site(_: &Prerequisites) -> anyhow::Result<Outcome> {
    crate::site::build()?;
    Ok(Outcome::Passed)
}

fn envoy_test(prerequisites: &Prerequisites, name: &str) -> anyhow::Result<Outcome> {
    command(&mut test_binary(prerequisites, name))?;
    Ok(Outcome::Passed)
}

/// Returns the command for a test binary of `envoy/tests` or `system/tests`, with the variables that name the programs.
pub(crate) fn test_binary(prerequisites: &Prerequisites, name: &str) -> Command {
    let parts = &prerequisites.parts;
    let mut cargo = cargo();
    native_packages(cargo.arg("test"))
        .args(["--test", name])
        .env("FLUXLIT_TEST_ENVOY", &parts.envoy)
        .env("FLUXLIT_TEST_FILTER", &parts.module)
        .env("FLUXLIT_TEST_GATEWAY", &parts.gateway)
        .env("FLUXLIT_TEST_STREAMLIT", &parts.streamlit);
    cargo
}

fn up(_: &Prerequisites) -> anyhow::Result<Outcome> {
    try_up(&[], None, "<title>Streamlit</title>")?;
    let certificate = target().join("up/certificate.pem");
    try_up(&["--tls"], Some(&certificate), "<title>Streamlit</title>")
}

fn embedded(_: &Prerequisites) -> anyhow::Result<Outcome> {
    try_up(&["--embedded"], None, "Headers that reach the app")
}

/// Starts `up` as a user would, sends requests to the app, stops it with SIGTERM, and checks that no process is left.
fn try_up(arguments: &[&str], trusted: Option<&Path>, title: &str) -> anyhow::Result<Outcome> {
    let port = free_port()?;
    let listen = local(port);
    let log = target().join("test-up.log");
    let scheme = if trusted.is_some() { "https" } else { "http" };
    let mut up = Command::new(std::env::current_exe()?);
    up.args(["up", "--as-tested"])
        .args(["--port", &port.to_string()])
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(Stdio::inherit());
    let mut up = Process::start(up)?;
    let output = || std::fs::read_to_string(&log).unwrap_or_default();
    // Long enough to build what is not built yet.
    let announced = wait_until(Duration::from_secs(1800), || {
        output().contains("Ctrl-C") || !matches!(up.ended(), Ok(None))
    });
    ensure!(
        announced && matches!(up.ended(), Ok(None)),
        "`up` did not start"
    );
    ensure!(
        output().contains(&format!("{scheme}://{listen}{MOUNT}/")),
        "`up` does not print the URL of the app"
    );
    ensure!(
        arguments.contains(&"--embedded") || output().contains("first page         after "),
        "`up` does not print how long it took"
    );
    let health = get(listen, &format!("{MOUNT}/_stcore/health"), trusted)?;
    ensure!(health.status == 200, "the app is not healthy: {health:?}");
    let outside = get(listen, "/elsewhere", trusted)?;
    ensure!(
        outside.status == 404,
        "a path outside the mount is served: {outside:?}"
    );
    let page = get(listen, &format!("{MOUNT}/"), trusted)?;
    ensure!(
        page.status == 200 && page.text().contains(title),
        "unexpected page: {page:?}"
    );
    let descendants = descendants_of(up.id())?;
    ensure!(!descendants.is_empty(), "`up` has started no process");
    let started = Instant::now();
    up.end();
    let mut left = descendants;
    wait_until(Duration::from_secs(30), || {
        left.retain(|id| Path::new(&format!("/proc/{id}")).exists());
        left.is_empty()
    });
    ensure!(left.is_empty(), "processes {left:?} are still running");
    TcpListener::bind(listen).with_context(|| format!("port {port} is still in use"))?;
    eprintln!(
        "stopped in {:.1} s, no process is left",
        started.elapsed().as_secs_f64()
    );
    Ok(Outcome::Passed)
}

/// The test of the cases in the dynamic module.
pub(crate) const IN_THE_MODULE: &str = "in_the_dynamic_module";

/// The test of the cases in the filter alone.
pub(crate) const IN_ANOTHER_ENVOY: &str = "in_another_envoy";

/// Number of steps that run in parallel.
const PARALLEL_STEPS: usize = 2;

/// Steps that do not run in parallel with others: they use all cores all the time, or change what others use.
const ALONE: [&str; 10] = [
    "all-browsers",
    "all-compose",
    "all-dist",
    "compatibility",
    "compose",
    "embedded",
    "fuzz",
    "images",
    "release-images",
    "up",
];

/// The steps that take longest: started last, they would run while nothing else does.
const LONGEST: [&str; 11] = [
    "native",
    "doctor-outside",
    "fluxlit",
    "smoke",
    "gateway",
    "oldest-envoy",
    "browser-webkit",
    "browser-firefox",
    "kill",
    "doctor-inside",
    "module",
];

/// Steps that do not run with all others: they take too long, or repeat what others do with another browser or version.
const BY_NAME: [&str; 8] = [
    "all-browsers",
    "all-compose",
    "all-dist",
    "browser-mount",
    "browser-nginx-full",
    "browser-nginx-https",
    "compatibility",
    "release-images",
];
