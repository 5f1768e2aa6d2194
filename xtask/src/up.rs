//! A real Streamlit app behind real Envoy, the filter and the gateway.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, Certificate, MOUNT, Stack, wait_until};

use crate::setup;
use crate::steps::{root, step, target};
use crate::stop::Stop;

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(app: Option<PathBuf>, tls: bool, port: u16) -> anyhow::Result<()> {
    let app = app.unwrap_or_else(|| root().join("demo/app.py"));
    ensure!(app.is_file(), "there is no script {}", app.display());
    let stop = Stop::watch()?;
    let parts = setup::everything()?;
    if stop.is_asked() {
        return Ok(());
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    check_port(listen)?;
    let folder = target().join("up");
    std::fs::create_dir_all(&folder).context("cannot write under target/")?;
    let certificate = match tls {
        true => Some(Certificate::create(&folder, &["localhost", "127.0.0.1"])?),
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
    if stop.is_asked() {
        return Ok(());
    }
    announce(&stack, &app, certificate.as_ref(), &folder);
    while !stop.is_asked() {
        stack.check()?;
        wait_until(Duration::from_millis(300), || stop.is_asked());
    }
    eprintln!("stopping …");
    drop(stack);
    eprintln!("everything has ended");
    Ok(())
}

/// Says which port is taken, before half of the processes run.
pub(crate) fn check_port(listen: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(listen).map(drop).with_context(|| {
        format!(
            "port {} is taken; choose another one with --port",
            listen.port()
        )
    })
}

/// Waits until the app answers its health check through Envoy.
fn wait(
    stack: &mut Stack,
    certificate: Option<&Certificate>,
    folder: &Path,
    stop: &Stop,
) -> anyhow::Result<()> {
    let health = format!("{MOUNT}/_stcore/health");
    let trusted = certificate.map(|certificate| certificate.certificate.as_path());
    let mut failure = Ok(());
    let answers = wait_until(START_LIMIT, || {
        failure = stack.check();
        let answer = fluxlit_envoy::get(stack.address, &health, trusted);
        let is_healthy = answer.is_ok_and(|answer| {
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok")
        });
        stop.is_asked() || failure.is_err() || is_healthy
    });
    failure?;
    ensure!(
        answers,
        "the app did not answer within {} s; see {}",
        START_LIMIT.as_secs(),
        folder.join("gateway.log").display()
    );
    Ok(())
}

fn announce(stack: &Stack, app: &Path, certificate: Option<&Certificate>, folder: &Path) {
    let scheme = if certificate.is_some() {
        "https"
    } else {
        "http"
    };
    println!("\n  {scheme}://{}{MOUNT}/\n", stack.address);
    println!("  Envoy and filter   {}", stack.address);
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
    println!("\n  Ctrl-C ends everything.");
}

const START_LIMIT: Duration = Duration::from_secs(90);
