//! Runs a real Streamlit app behind real Envoy, the filter and the gateway.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, MOUNT, Stack};
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::client::get;
use fluxlit_support::wait::wait_until;

use crate::setup::{self, Features};
use crate::steps::{root, step, target};
use crate::stop::Stop;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(
    app: Option<PathBuf>,
    tls: bool,
    port: u16,
    features: Features,
) -> anyhow::Result<()> {
    let app = app.unwrap_or_else(|| root().join("demo/app.py"));
    ensure!(app.is_file(), "there is no script {}", app.display());
    let stop = Stop::watch()?;
    let begun = Instant::now();
    let parts = setup::everything(features)?;
    let set_up = begun.elapsed();
    if stop.is_requested() {
        return Ok(());
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    check_port(listen)?;
    let folder = target().join("up");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;
    let certificate = match tls {
        true => Some(Certificate::create_files(
            &folder,
            &["localhost", "127.0.0.1"],
        )?),
        false => None,
    };
    let bootstrap = match &certificate {
        Some(made) => Bootstrap::shipped().with_tls(&made.certificate, &made.key),
        None => Bootstrap::shipped(),
    };
    let mut stack = step("starting Streamlit, the gateway and Envoy", || {
        let mut stack = Stack::start(&parts, &app, bootstrap, listen, &folder)?;
        wait(&mut stack, certificate.as_ref(), &folder, &stop)?;
        Ok(stack)
    })?;
    if stop.is_requested() {
        return Ok(());
    }
    announce(&stack, &app, certificate.as_ref(), &folder);
    println!(
        "  first page         after {:.1} s, of which {:.1} s were for installing and building",
        begun.elapsed().as_secs_f64(),
        set_up.as_secs_f64()
    );
    println!("\n  Press Ctrl-C to stop.");
    while !stop.is_requested() {
        stack.check()?;
        wait_until(Duration::from_millis(300), || stop.is_requested());
    }
    eprintln!("stopping …");
    drop(stack);
    eprintln!("all processes have stopped");
    Ok(())
}

/// Fails if the port is in use, before any process is started.
pub(crate) fn check_port(listen: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(listen).map(drop).with_context(|| {
        format!(
            "port {} is in use; choose another one with --port",
            listen.port()
        )
    })
}

/// Waits until the app's health check succeeds through Envoy, and Envoy returns its page.
fn wait(
    stack: &mut Stack,
    certificate: Option<&CertificateFiles>,
    folder: &Path,
    stop: &Stop,
) -> anyhow::Result<()> {
    let health = format!("{MOUNT}/_stcore/health");
    let page = format!("{MOUNT}/");
    let trusted = certificate.map(|certificate| certificate.certificate.as_path());
    let mut failure = Ok(());
    let responds = wait_until(START_LIMIT, || {
        failure = stack.check();
        let response = get(stack.address, &health, trusted);
        let is_healthy =
            response.is_ok_and(|response| response.status == 200 && response.body == b"ok");
        let has_page = is_healthy
            && get(stack.address, &page, trusted).is_ok_and(|response| response.status == 200);
        stop.is_requested() || failure.is_err() || has_page
    });
    failure?;
    ensure!(
        responds,
        "the app did not respond within {} s; see {}",
        START_LIMIT.as_secs(),
        folder.join("gateway.log").display()
    );
    Ok(())
}

fn announce(stack: &Stack, app: &Path, certificate: Option<&CertificateFiles>, folder: &Path) {
    let scheme = if certificate.is_some() {
        "https"
    } else {
        "http"
    };
    println!("\n  {scheme}://{}{MOUNT}/\n", stack.address);
    println!("  Envoy with filter  {}", stack.address);
    println!(
        "  gateway            http://{} (readiness: /api/readyz)",
        stack.gateway_address
    );
    println!("  app                {}", app.display());
    println!("  logs               {}", folder.display());
    if let Some(certificate) = certificate {
        println!(
            "  certificate        curl --cacert {} …",
            certificate.certificate.display()
        );
    }
}

const START_LIMIT: Duration = Duration::from_secs(90);
