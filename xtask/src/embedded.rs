//! Runs the filter with Rust alone: in the test host, in front of the gateway and a built-in page.
//!
//! The page shows the headers that reach the app.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::MOUNT;
use fluxlit_support::client::get;
use fluxlit_support::http1::read_head_blocking;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::process::Process;
use fluxlit_support::upstream;
use fluxlit_support::wait::wait_until;

use crate::setup::{self, Features};
use crate::steps::{root, step, target};
use crate::stop::Stop;
use crate::up::check_port;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(port: u16, features: Features) -> anyhow::Result<()> {
    let stop = Stop::watch()?;
    let module = setup::filter()?;
    let gateway = setup::gateway(features)?;
    let host_test = setup::host_test(features)?;
    if stop.is_requested() {
        return Ok(());
    }
    let listen = local(port);
    check_port(listen)?;
    let folder = target().join("up");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;
    let app = serve_page()?;
    let gateway_address = local(free_port()?);
    let log =
        |name: &str| std::fs::File::create(folder.join(name)).context("cannot write under target/");

    let mut gateway = Command::new(gateway);
    gateway
        .arg("run")
        .env("FLUXLIT_GATEWAY_PORT", gateway_address.port().to_string())
        .env("FLUXLIT_STREAMLIT_UPSTREAM", format!("http://{app}{MOUNT}"))
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env("FLUXLIT_ROOT_PATH_SHAPE", "stripped")
        .env("FLUXLIT_TRUST_PROXY", "1")
        .env("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
        .stderr(log("gateway.log")?);
    let gateway = Process::start(gateway).context("cannot start the gateway")?;

    let mut filter = Command::new(host_test);
    filter
        .arg("serve")
        .arg("--filter")
        .arg(&module)
        .arg("--config")
        .arg(root().join("envoy/plugin-config.json"))
        .args(["--listen", &listen.to_string()])
        .args(["--upstream", &format!("http://{gateway_address}")])
        .stdout(Stdio::null())
        .stderr(log("filter.log")?);
    let filter = Process::start(filter).context("cannot start the test host")?;

    let mut processes = [
        ("the filter", "filter.log", filter),
        ("the gateway", "gateway.log", gateway),
    ];
    let mut check = || -> anyhow::Result<()> {
        for (name, log, process) in &mut processes {
            let runs = matches!(process.ended(), Ok(None));
            ensure!(runs, "{name} has ended; see {}", folder.join(log).display());
        }
        Ok(())
    };
    step("starting the page, the gateway and the filter", || {
        let mut failure = Ok(());
        let responds = wait_until(START_LIMIT, || {
            failure = check();
            let response = get(listen, &format!("{MOUNT}/_stcore/health"), None);
            stop.is_requested()
                || failure.is_err()
                || response.is_ok_and(|response| response.status == 200)
        });
        failure?;
        ensure!(
            responds,
            "the page did not respond within {} s",
            START_LIMIT.as_secs()
        );
        Ok(())
    })?;
    if stop.is_requested() {
        return Ok(());
    }
    println!("\n  http://{listen}{MOUNT}/\n");
    println!("  filter in wasmtime  {listen}");
    println!("  gateway             http://{gateway_address} (readiness: /api/readyz)");
    println!("  page                built in, {app}");
    println!("  logs                {}", folder.display());
    println!("\n  Try: curl -H 'X-Forwarded-For: 1.2.3.4' http://{listen}{MOUNT}/");
    println!("  Press Ctrl-C to stop.");
    while !stop.is_requested() {
        check()?;
        wait_until(Duration::from_millis(300), || stop.is_requested());
    }
    eprintln!("stopping …");
    drop(processes);
    eprintln!("all processes have stopped");
    Ok(())
}

/// Serves the page on a free port until this process ends.
fn serve_page() -> anyhow::Result<SocketAddr> {
    upstream::serve(|stream| {
        // A client that disconnects early is not a failure.
        let _ = respond(stream);
    })
    .context("no free port for the page")
}

/// Responds to one request and closes the connection.
fn respond(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    stream
        .get_ref()
        .set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = read_head_blocking(stream)?.unwrap_or_default();
    let mut rows = String::new();
    for (name, value) in head.fields() {
        rows.push_str(&format!("<tr><td>{}<td>{}\n", escape(name), escape(value)));
    }
    let (content_type, body) = if head.word(1) == format!("{MOUNT}/_stcore/health") {
        ("text/plain; charset=utf-8", "ok".to_owned())
    } else {
        (
            "text/html; charset=utf-8",
            PAGE.replace("REQUEST", &escape(head.start()))
                .replace("ROWS", &rows),
        )
    };
    write!(
        stream.get_mut(),
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const PAGE: &str = "<!doctype html>
<meta charset=utf-8>
<title>FluxLit Edge</title>
<style>
body{font:16px/1.5 system-ui;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#1f2328}
table{border-collapse:collapse;width:100%}
td{border-bottom:1px solid #d0d7de;padding:.35rem .5rem;font:14px ui-monospace,monospace;word-break:break-all}
code{background:#f6f8fa;padding:.1rem .3rem}
</style>
<h1>Headers that reach the app</h1>
<p>This page is served through the filter and the gateway. The browser requested it under a path; the app received
<code>REQUEST</code> with the headers below. Send forged headers and check that they do not arrive:
<p><code>curl -H 'X-Forwarded-For: 1.2.3.4' -H 'X-Remote-User: root' …</code>
<table>
ROWS</table>
";

const START_LIMIT: Duration = Duration::from_secs(30);
