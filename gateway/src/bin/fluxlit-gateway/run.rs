//! Serves an app: `fluxlit-gateway run`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use fluxlit_gateway::{DescribeError, Gateway, Settings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Unusable};
use crate::target::{self, Target};

/// Serve an app: start Streamlit with a script, or a FluxLit app, or proxy to a Streamlit that is running
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
}

/// Reads the settings and serves until a signal stops the gateway.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    serve_target(&arguments.target)
}

/// Reads the settings and serves until a signal stops the gateway.
pub(crate) fn serve_target(target: &Target) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    // The import of an app takes seconds, in which SIGHUP must not end the process.
    let hang_ups = {
        let _within = runtime.enter();
        signal(SignalKind::hangup()).context("cannot wait for signals")?
    };
    let (settings, _ports) = target::read_settings(target).map_err(usage)?;
    serve(&runtime, settings, hang_ups)?;
    Ok(Exit::Done)
}

/// An app that cannot be imported is a failure, everything else an error of usage or settings.
fn usage(error: anyhow::Error) -> anyhow::Error {
    if error.is::<DescribeError>() {
        error
    } else {
        Unusable(error).into()
    }
}

/// Serves until a signal stops the gateway.
fn serve(runtime: &Runtime, settings: Settings, hang_ups: Signal) -> anyhow::Result<()> {
    crate::write_messages(&settings.observe.log_directives());
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    for advice in &settings.advice {
        tracing::info!("advice: {advice}");
    }
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let mount = settings.policy.mount().to_owned();
        let has_debug_page = settings.observe.debug;
        let gateway = Gateway::bind(settings, hang_ups)?;
        let scheme = if gateway.is_tls() { "https" } else { "http" };
        let address = gateway.local_address()?;
        tracing::info!("listening on {scheme}://{address}");
        tracing::info!("the app is at {scheme}://{}{mount}/", reachable(address));
        if let Some(address) = gateway.admin_address()? {
            tracing::info!("listening for operators on http://{address}");
            if has_debug_page {
                let address = reachable(address);
                tracing::info!("the debug page is at http://{address}/__fluxlit/debug");
            }
        }
        let mut wait = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let (first, stopped) = tokio::sync::oneshot::channel();
        let stop = async {
            let _ = stopped.await;
        };
        let run = gateway.run(stop, || {
            #[cfg(target_env = "musl")]
            crate::memory::unmap_code();
        });
        let mut run = std::pin::pin!(run);
        tokio::select! {
            result = &mut run => return Ok(result?),
            () = wait() => {}
        }
        let _ = first.send(());
        let stopping = Instant::now();
        let second = async {
            loop {
                wait().await;
                // A process manager may send one to the process and one to its group.
                if stopping.elapsed() >= SAME_SIGNAL {
                    break;
                }
            }
        };
        tokio::select! {
            result = run => Ok(result?),
            () = second => anyhow::bail!("stopped by a second signal"),
        }
    })
}

/// Returns an address under which this machine reaches a listener, which may listen on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// A signal that follows the first one within this time counts as the same.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway run app:app
  fluxlit-gateway run app.py
  fluxlit-gateway run app.py --api main:app --workers 2
  fluxlit-gateway run app.py --port 0 --root-path /apps/my-app
  fluxlit-gateway run --streamlit-upstream http://127.0.0.1:8501
  FLUXLIT_FORWARDED_ALLOW_IPS=10.0.0.0/8 fluxlit-gateway run app.py --host 0.0.0.0";
