//! Serves an app: `fluxlit-gateway run`.

use anyhow::Context;
use fluxlit_gateway::{Gateway, Settings};
use tokio::signal::unix::{SignalKind, signal};

/// Serves until a signal stops the gateway.
pub(crate) fn serve(settings: Settings) -> anyhow::Result<()> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let gateway = Gateway::bind(settings)?;
        let scheme = if gateway.is_tls() { "https" } else { "http" };
        tracing::info!("listening on {scheme}://{}", gateway.local_address()?);
        if let Some(address) = gateway.admin_address()? {
            tracing::info!("listening for operators on http://{address}");
        }
        let mut wait = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let (first, stopped) = tokio::sync::oneshot::channel();
        let run = gateway.run(async {
            let _ = stopped.await;
        });
        let mut run = std::pin::pin!(run);
        tokio::select! {
            result = &mut run => return Ok(result?),
            () = wait() => {}
        }
        let _ = first.send(());
        tokio::select! {
            result = run => Ok(result?),
            () = wait() => anyhow::bail!("stopped by a second signal"),
        }
    })
}
