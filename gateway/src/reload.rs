//! Puts settings that were read again into use.
//!
//! Requests that have begun keep the settings with which they began, and so do WebSockets; new requests on the same connection
//! have the new ones. Settings that are wrong change nothing.

use std::sync::Arc;

use tokio::sync::watch;

use crate::observe::Observability;
use crate::observe::access_log::Logger;
use crate::observe::access_log_format::Format;
use crate::settings::{LogFormat, Reloaded, Settings};
use crate::worker::Shared;

/// What the workers use for new requests.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) settings: Arc<Settings>,
    /// `None` if requests are not logged.
    pub(crate) logger: Option<Logger>,
}

/// Reads the settings again, and sends them to the workers.
pub(crate) struct Reloader<'a> {
    pub(crate) live: &'a watch::Sender<Live>,
    pub(crate) shared: &'a Shared,
    pub(crate) observability: &'a Observability,
}

impl Reloader<'_> {
    /// Reads the settings again and puts them into use. What happened is logged and counted.
    pub(crate) fn reload(&self) {
        let old = Arc::clone(&self.live.borrow().settings);
        let has_succeeded = match old.reload() {
            Ok(reloaded) => self.replace(reloaded),
            Err(errors) => {
                tracing::error!("the settings were not reloaded, and the old ones stay in use:");
                for error in errors.to_string().lines() {
                    tracing::error!("{error}");
                }
                false
            }
        };
        self.shared.metrics.reloaded(has_succeeded);
    }

    fn replace(&self, reloaded: Reloaded) -> bool {
        let Reloaded {
            settings,
            changed,
            waiting,
            of_app,
        } = reloaded;
        let (format, redacted) = (
            access_log_format(&settings),
            settings.observe.redacted_parameters(),
        );
        let logger = self
            .observability
            .logger(format, redacted, std::io::stdout());
        let logger = match logger {
            Ok(logger) => logger,
            Err(error) => {
                tracing::error!(%error, "the settings were not reloaded: the access log cannot be started");
                return false;
            }
        };
        let Shared {
            admission,
            connection_limit,
            debug,
            metrics,
            ..
        } = self.shared;
        let limits = &settings.limits;
        admission.set(limits.concurrent, limits.queued);
        connection_limit.set(limits.connections, limits.connections_per_peer);
        if let Some(debug) = debug {
            let table = settings.table.iter();
            debug.show(table.map(|setting| (setting.name.clone(), setting.value.clone())));
        }
        metrics.set_config(settings.config());
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        if !waiting.is_empty() {
            let names = waiting.join(", ");
            tracing::warn!("these changes take effect when the gateway is restarted: {names}");
        }
        if !of_app.is_empty() {
            let names = of_app.join(", ");
            tracing::warn!(
                "the gateway uses the new values, and the app runs with the old ones until the gateway is restarted: {names}"
            );
        }
        let settings = Arc::new(settings);
        self.live.send_replace(Live { settings, logger });
        match changed.as_slice() {
            [] => tracing::info!("the settings were reloaded: none has changed"),
            changed => tracing::info!("the settings were reloaded: {}", changed.join(", ")),
        }
        true
    }
}

/// Returns the format of the access log; `None` if requests are not logged.
pub(crate) fn access_log_format(settings: &Settings) -> Option<Format> {
    let observe = &settings.observe;
    observe
        .access_log
        .then_some(match observe.access_log_format {
            LogFormat::Json => Format::Json,
            LogFormat::Text => Format::Text,
        })
}
