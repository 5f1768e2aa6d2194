//! What does the filter cost inside Envoy, beside other ways to do its job?
//!
//! One Envoy with one worker holds a listener for each variant; they differ in their HTTP filter and in nothing else. The
//! variants take turns in many short rounds, so that whatever else the machine does falls on all of them alike. Measured
//! is the CPU time of Envoy's threads, not latency: that is what a filter takes away from the other requests.
//!
//! The figures of two machines, or of two runs, are not comparable; the ratios within one run are. Nothing fails when a
//! target is missed.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fluxlit_envoy::{Bootstrap, Envoy, MOUNT, free_ports, plugin_config, wait_until};
use serde_json::{Value, json};

use super::{BROWSER, Spread, local, pin_to, spread, two_cores};
use crate::setup::{self, WASM};
use crate::steps::{cargo, root, run as command, step, target};

/// How much to measure, and how to tell it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Turns that each variant takes
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests to each variant in a round
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A way to do the filter's job, or none.
struct Variant {
    name: &'static str,
    /// The HTTP filter in front of the router.
    filter: fn(&Modules) -> anyhow::Result<Option<Value>>,
    /// Whether it does what the filter does, so that the upstream and the client must not see a difference.
    does_the_job: bool,
    /// Whether the targets are about it.
    is_ours: bool,
}

const VARIANTS: [Variant; 7] = [
    Variant {
        name: NONE,
        filter: |_| Ok(None),
        does_the_job: false,
        is_ours: false,
    },
    Variant {
        name: EMPTY,
        filter: |modules| Ok(Some(wasm("empty", &modules.empty, "{}"))),
        does_the_job: false,
        is_ours: false,
    },
    Variant {
        name: HEADER_MUTATION,
        filter: |_| header_mutation().map(Some),
        does_the_job: true,
        is_ours: false,
    },
    Variant {
        name: LUA,
        filter: |_| lua().map(Some),
        does_the_job: true,
        is_ours: false,
    },
    Variant {
        name: "fluxlit",
        filter: |modules| fluxlit(modules, "fluxlit", |_| {}).map(Some),
        does_the_job: true,
        is_ours: true,
    },
    Variant {
        name: "fluxlit, 1000 networks",
        filter: |modules| fluxlit(modules, "networks", trust_many_networks).map(Some),
        does_the_job: true,
        is_ours: true,
    },
    Variant {
        name: "fluxlit, 500 mounts",
        filter: |modules| fluxlit(modules, "mounts", publish_many_apps).map(Some),
        does_the_job: true,
        is_ours: true,
    },
];

/// The wasm modules that are measured.
struct Modules {
    ours: PathBuf,
    empty: PathBuf,
}

/// Measures the filter and prints a table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let envoy = setup::python_packages()?.join("envoy");
    let modules = Modules {
        ours: setup::filter()?,
        empty: empty_filter()?,
    };
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;

    let [envoy_core, load_core] = two_cores()?;
    pin_to(load_core)?;
    let upstream = serve_upstream()?;
    let ports = free_ports(VARIANTS.len())?;
    let addresses: Vec<SocketAddr> = ports.into_iter().map(local).collect();
    let bootstrap = bootstrap(&modules, &addresses)?.forwarding_to(upstream);
    // A process inherits where the thread that starts it may run.
    pin_to(envoy_core)?;
    let envoy = step("starting Envoy", || {
        Ok(Envoy::start(
            &envoy,
            bootstrap,
            &folder,
            &["--concurrency", "1"],
        )?)
    })?;
    pin_to(load_core)?;

    check_that_the_job_is_done(&addresses)?;
    let rounds = measure(options, envoy.id(), &addresses)?;
    let rows = evaluate(&rounds)?;
    if options.json {
        println!("{:#}", as_json(options, &rows));
    } else {
        println!("{}", as_table(&rows));
    }
    Ok(())
}

fn empty_filter() -> anyhow::Result<PathBuf> {
    step("building the empty filter", || {
        command(
            cargo()
                .args(["build", "--quiet", "--release", "--locked"])
                .args(["--target", WASM, "--manifest-path"])
                .arg(root().join("envoy/bench/empty-filter/Cargo.toml"))
                .arg("--target-dir")
                .arg(target()),
        )
    })?;
    Ok(target().join(WASM).join("release/empty_filter.wasm"))
}

/// The shipped listener once for each variant, with the variant's filter in the place of ours.
fn bootstrap(modules: &Modules, addresses: &[SocketAddr]) -> anyhow::Result<Bootstrap> {
    let mut listeners = Vec::new();
    for (variant, address) in VARIANTS.iter().zip(addresses) {
        let shipped = Bootstrap::shipped().listening_on(*address);
        let mut listener = at(shipped.value(), "/static_resources/listeners/0")?.clone();
        listener["name"] = json!(variant.name);
        let filters = listener
            .pointer_mut("/filter_chains/0/filters/1/typed_config/http_filters")
            .and_then(Value::as_array_mut)
            .context("bootstrap.yaml has no HTTP filters")?;
        filters.splice(..1, (variant.filter)(modules)?);
        if variant.name == HEADER_MUTATION {
            strip_by_route(&mut listener)?;
        }
        listeners.push(listener);
    }
    Ok(Bootstrap::shipped().with_listeners(listeners))
}

/// Takes the mount off where the route is carried out: `header_mutation` may not touch `:path`.
fn strip_by_route(listener: &mut Value) -> anyhow::Result<()> {
    let route = listener
        .pointer_mut(
            "/filter_chains/0/filters/1/typed_config/route_config/virtual_hosts/0/routes/0",
        )
        .context("bootstrap.yaml has no route")?;
    route["match"]["prefix"] = json!(format!("{MOUNT}/"));
    route["route"]["prefix_rewrite"] = json!("/");
    Ok(())
}

/// Our filter, with the shipped plugin configuration after a change.
fn fluxlit(modules: &Modules, vm: &str, change: fn(&mut Value)) -> anyhow::Result<Value> {
    let mut config =
        serde_json::from_str(plugin_config()).context("cannot read plugin-config.json")?;
    change(&mut config);
    Ok(wasm(vm, &modules.ours, &config.to_string()))
}

/// As many as the policy accepts, about; none of them the peer's.
fn trust_many_networks(config: &mut Value) {
    // No two are neighbours, or they would be merged.
    let networks: Vec<String> = (0..1000)
        .map(|index| format!("10.{}.{}.0/24", index / 125, index % 125 * 2))
        .collect();
    config["trust_proxy"] = json!(true);
    config["forwarded_allow_ips"] = json!(networks);
}

/// The app that is asked for is the last of them.
fn publish_many_apps(config: &mut Value) {
    let mount = config["root_path"].take();
    let others = (0..499).map(|index| json!({"root_path": format!("/apps/app-{index}")}));
    config["mounts"] = others.chain([json!({"root_path": mount})]).collect();
    if let Some(config) = config.as_object_mut() {
        config.remove("root_path");
    }
}

fn wasm(vm: &str, module: &Path, config: &str) -> Value {
    json!({
        "name": vm,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": vm,
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "vm_id": vm,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": config,
                },
            },
        },
    })
}

fn header_mutation() -> anyhow::Result<Value> {
    let config: Value =
        serde_json::from_str(include_str!("../../../envoy/bench/header_mutation.json"))
            .context("cannot read envoy/bench/header_mutation.json")?;
    Ok(json!({"name": "envoy.filters.http.header_mutation", "typed_config": config}))
}

fn lua() -> anyhow::Result<Value> {
    Ok(json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": include_str!("../../../envoy/bench/edge.lua")},
        },
    }))
}

/// A comparison means something only if both sides do the same: what reaches the upstream and the client must not differ.
fn check_that_the_job_is_done(addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let mut expected: Option<(&str, Vec<String>)> = None;
    for (variant, address) in VARIANTS.iter().zip(addresses) {
        let mut connection = connect(*address)?;
        let mut answer = Vec::new();
        connection.write_all(request(ECHO).as_bytes())?;
        read_answer(&mut connection, &mut answer).with_context(|| variant.name)?;
        if !variant.does_the_job {
            continue;
        }
        let seen = lines(&answer);
        match &expected {
            None => expected = Some((variant.name, seen)),
            Some((other, expected)) => ensure!(
                seen == *expected,
                "`{}` and `{other}` do not do the same.\n{}\n\nand\n\n{}",
                variant.name,
                seen.join("\n"),
                expected.join("\n")
            ),
        }
    }
    Ok(())
}

/// The lines of an answer that carries the upstream's request, without order and without what differs each time.
fn lines(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .filter(|line| !NOT_COMPARED.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines
}

/// Nanoseconds of CPU a request, for each round and in it for each variant.
fn measure(
    options: &Options,
    envoy: u32,
    addresses: &[SocketAddr],
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut connections = Vec::new();
    for address in addresses {
        let of_variant: anyhow::Result<Vec<TcpStream>> =
            (0..CONNECTIONS).map(|_| connect(*address)).collect();
        connections.push(of_variant?);
    }
    eprintln!("warming up …");
    for (variant, connections) in VARIANTS.iter().zip(&mut connections) {
        load(connections, options.requests).with_context(|| variant.name)?;
    }
    let mut rounds = Vec::new();
    for round in 0..usize::try_from(options.rounds)? {
        eprintln!("round {} of {} …", round + 1, options.rounds);
        let mut costs = vec![0.0; VARIANTS.len()];
        for turn in 0..VARIANTS.len() {
            let index = (turn + round) % VARIANTS.len();
            let before = cpu_time(envoy)?;
            load(&mut connections[index], options.requests)
                .with_context(|| VARIANTS[index].name)?;
            let spent = cpu_time(envoy)?.saturating_sub(before);
            costs[index] = spent.as_secs_f64() * 1e6 / f64::from(options.requests);
        }
        rounds.push(costs);
    }
    Ok(rounds)
}

/// Sends at least so many requests, one on each connection at a time.
fn load(connections: &mut [TcpStream], requests: u32) -> anyhow::Result<()> {
    let request = request("");
    let mut answer = Vec::new();
    let mut left = requests as usize;
    while left > 0 {
        let batch = left.min(connections.len());
        let connections = &mut connections[..batch];
        for connection in &mut *connections {
            connection.write_all(request.as_bytes())?;
        }
        for connection in connections {
            read_answer(connection, &mut answer)?;
        }
        left -= batch;
    }
    Ok(())
}

/// The CPU time of all threads of an idle process.
fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    // The kernel adds a thread's time up when it stops running.
    let mut tasks = Ok(Vec::new());
    let is_idle = wait_until(ANSWER_LIMIT, || {
        tasks = read_tasks(id);
        tasks
            .as_ref()
            .is_ok_and(|tasks| tasks.iter().all(|task| !task.is_running))
            || tasks.is_err()
    });
    let tasks = tasks?;
    ensure!(is_idle, "Envoy does not come to rest");
    Ok(tasks.iter().map(|task| task.spent).sum())
}

struct Task {
    is_running: bool,
    spent: Duration,
}

fn read_tasks(id: u32) -> anyhow::Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{id}/task")).context("Envoy has ended")? {
        let path = task?.path();
        let state = std::fs::read_to_string(path.join("stat"))?;
        let times = std::fs::read_to_string(path.join("schedstat"))
            .context("this kernel does not count a thread's CPU time in nanoseconds")?;
        let spent = times
            .split_whitespace()
            .next()
            .and_then(|field| field.parse().ok())
            .context("cannot read schedstat")?;
        tasks.push(Task {
            // The name before it may hold anything but is in parentheses.
            is_running: state
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('R')),
            spent: Duration::from_nanos(spent),
        });
    }
    Ok(tasks)
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(connection)
}

/// Reads one answer that says its length.
fn read_answer(connection: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let mut chunk = [0; 4096];
    while !is_whole(answer) {
        let length = connection.read(&mut chunk).context("no answer")?;
        ensure!(length > 0, "Envoy closed the connection");
        answer.extend_from_slice(&chunk[..length]);
    }
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("not served: {}", String::from_utf8_lossy(answer));
    }
    Ok(())
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        head.lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: usize| body.len() >= length)
    })
}

/// Answers requests on a free port for as long as this process lives.
fn serve_upstream() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(local(0)).context("no free port for the upstream")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // Envoy ends the connection when it ends.
                let _ = answer_all(stream);
            });
        }
    });
    Ok(address)
}

/// Answers each request alike, or with the request itself if it asks for that.
fn answer_all(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let usual = response("ok");
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&request);
        if text.lines().any(|line| line == ECHO.trim_end()) {
            stream.write_all(response(&text).as_bytes())?;
        } else {
            stream.write_all(usual.as_bytes())?;
        }
        request.clear();
    }
}

/// What a browser sends, and two forged fields; with `more` behind.
fn request(more: &str) -> String {
    let mut fields = vec!["GET /apps/my-app/_stcore/stream?x=1 HTTP/1.1"];
    fields.extend(BROWSER);
    fields.extend(["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"]);
    format!("{}\r\n{more}\r\n", fields.join("\r\n"))
}

/// What an app answers that does not know its mount.
fn response(body: &str) -> String {
    let fields = [
        "HTTP/1.1 200 OK".to_owned(),
        "Content-Type: text/plain".to_owned(),
        "Cache-Control: no-cache".to_owned(),
        "Location: /login?next=1".to_owned(),
        "Set-Cookie: _streamlit_xsrf=2|7586241e|47c8c1d6a2|1700000000; Path=/; SameSite=Lax"
            .to_owned(),
        "Set-Cookie: session=0123456789abcdef; HttpOnly; Path=/files".to_owned(),
        format!("Content-Length: {}", body.len()),
    ];
    format!("{}\r\n\r\n{body}", fields.join("\r\n"))
}

/// What was found out about a variant; times in microseconds of CPU a request.
struct Row {
    variant: &'static Variant,
    cpu: f64,
    /// More than with no filter, in the same round.
    overhead: Spread,
    times_empty: f64,
    times_lua: f64,
}

fn evaluate(rounds: &[Vec<f64>]) -> anyhow::Result<Vec<Row>> {
    let place = |name| {
        VARIANTS
            .iter()
            .position(|variant| variant.name == name)
            .with_context(|| format!("there is no variant `{name}`"))
    };
    let none = place(NONE)?;
    let overhead = |index: usize| {
        let each = rounds.iter().map(|round| round[index] - round[none]);
        spread(each.collect())
    };
    let (empty, lua) = (overhead(place(EMPTY)?).median, overhead(place(LUA)?).median);
    Ok(VARIANTS
        .iter()
        .enumerate()
        .map(|(index, variant)| {
            let cpu = spread(rounds.iter().map(|round| round[index]).collect());
            let overhead = overhead(index);
            Row {
                variant,
                cpu: cpu.median,
                overhead,
                times_empty: overhead.median / empty,
                times_lua: overhead.median / lua,
            }
        })
        .collect())
}

impl Row {
    /// Whether the targets are met; `None` if they are not about this variant.
    fn targets(&self) -> Option<[(String, bool); 2]> {
        self.variant.is_ours.then(|| {
            [
                (
                    format!("≤ {MOST_TIMES_LUA:.1} × {LUA}"),
                    self.times_lua <= MOST_TIMES_LUA,
                ),
                (
                    format!("≤ {MOST_TIMES_EMPTY:.1} × {EMPTY}"),
                    self.times_empty <= MOST_TIMES_EMPTY,
                ),
            ]
        })
    }
}

fn as_table(rows: &[Row]) -> String {
    let mut table = format!(
        "CPU time of Envoy in µs a request; overhead is over `{NONE}`, × is overhead by overhead\n\n{:<24}{:>8}{:>10}{:>16}{:>9}{:>9}  targets\n",
        "", "CPU", "overhead", "quartiles", "× empty", "× lua"
    );
    for row in rows {
        let Spread { low, median, high } = row.overhead;
        let quartiles = format!("{low:.1} to {high:.1}");
        let targets = row.targets().into_iter().flatten();
        let targets: Vec<String> = targets
            .map(|(target, is_met)| format!("{target} {}", if is_met { "met" } else { "MISSED" }))
            .collect();
        let line = format!(
            "{:<24}{:>8.1}{median:>10.1}{quartiles:>16}{:>9.2}{:>9.2}  {}",
            row.variant.name,
            row.cpu,
            row.times_empty,
            row.times_lua,
            targets.join(", ")
        );
        // Writing to a text does not fail.
        let _ = writeln!(table, "{}", line.trim_end());
    }
    table
}

fn as_json(options: &Options, rows: &[Row]) -> Value {
    let variants: Vec<Value> = rows
        .iter()
        .map(|row| {
            let targets = row.targets().into_iter().flatten();
            let targets: Vec<Value> = targets
                .map(|(target, is_met)| json!({"target": target, "met": is_met}))
                .collect();
            json!({
                "name": row.variant.name,
                "cpu_us": row.cpu,
                "overhead_us": row.overhead.median,
                "overhead_quartiles_us": [row.overhead.low, row.overhead.high],
                "times_empty": row.times_empty,
                "times_lua": row.times_lua,
                "targets": targets,
            })
        })
        .collect();
    json!({"rounds": options.rounds, "requests": options.requests, "variants": variants})
}

fn at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("bootstrap.yaml has nothing at {pointer}"))
}

const NONE: &str = "none";
const EMPTY: &str = "empty";
const HEADER_MUTATION: &str = "header_mutation";
const LUA: &str = "lua";

/// What the filter may cost at most, by what the Lua filter costs.
const MOST_TIMES_LUA: f64 = 0.5;

/// What the filter may cost at most, by what a filter costs that does nothing.
const MOST_TIMES_EMPTY: f64 = 2.0;

/// Connections to each listener.
const CONNECTIONS: usize = 16;

/// A field that makes the upstream answer with the request it got.
const ECHO: &str = "x-bench: echo\r\n";

/// Lines of an echoed exchange that differ each time, and what a route adds that takes the mount off.
const NOT_COMPARED: [&str; 5] = [
    "content-length:",
    "date:",
    "x-envoy-original-path:",
    "x-envoy-upstream-service-time:",
    "x-request-id:",
];

const ANSWER_LIMIT: Duration = Duration::from_secs(10);
