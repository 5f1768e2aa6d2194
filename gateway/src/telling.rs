//! What does the gateway begin, so that operators are told, and end when it stops?
//!
//! The threads that write the access log and export spans, and the figures that are kept elsewhere.

use std::sync::Arc;
use std::time::Duration;

use crate::gateway::GatewayError;
use crate::observe::access_log::AccessLog;
use crate::observe::debug::Debug;
use crate::observe::line::Format;
use crate::observe::metrics::Metrics;
use crate::observe::otlp::Exporter;
use crate::observe::target::Redaction;
use crate::refusal;
use crate::settings::{LogFormat, Settings};
use crate::worker::Observed;

/// What is told, and by whom.
pub(crate) struct Telling {
    pub(crate) metrics: Arc<Metrics>,
    access_log: Option<AccessLog>,
    exporter: Option<Exporter>,
}

impl Telling {
    /// Begins what the settings ask for.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub(crate) fn start(settings: &Settings) -> Result<Self, GatewayError> {
        let observe = &settings.observe;
        let redaction = || Redaction::new(observe.redacted.iter().cloned());
        let metrics = Metrics::new(refusal::all());
        let access_log = observe
            .access_log
            .map(|format| {
                let format = match format {
                    LogFormat::Json => Format::Json,
                    LogFormat::Text => Format::Text,
                };
                AccessLog::start(std::io::stdout(), format, redaction())
            })
            .transpose()
            .map_err(GatewayError::Worker)?;
        let exporter = observe
            .otlp_endpoint
            .clone()
            .map(|endpoint| Exporter::start(endpoint, observe.service_name.clone(), redaction()))
            .transpose()
            .map_err(GatewayError::Worker)?;
        if let Some(log) = &access_log {
            metrics.watch_counter(
                "fluxlit_gateway_dropped_log_lines",
                "Lines of the access log that nobody took in time.",
                log.dropped(),
            );
        }
        if let Some(exporter) = &exporter {
            metrics.watch_counter(
                "fluxlit_gateway_dropped_spans",
                "Spans that the collector did not take in time.",
                exporter.dropped(),
            );
        }
        Ok(Self {
            metrics,
            access_log,
            exporter,
        })
    }

    /// What the workers tell with.
    pub(crate) fn observed(&self, settings: &Settings) -> Observed {
        let debug = settings.observe.debug.then(|| {
            Debug::new(
                settings.api.part.path(),
                settings.policy.mount(),
                settings
                    .table
                    .iter()
                    .map(|setting| (setting.name.clone(), setting.value.clone())),
                settings.app.is_none(),
            )
        });
        Observed {
            metrics: Arc::clone(&self.metrics),
            access_log: self.access_log.as_ref().map(AccessLog::logger),
            debug,
            spans: self.exporter.as_ref().map(Exporter::spans),
        }
    }

    /// Writes and sends what is left.
    pub(crate) fn end(self) {
        if let Some(log) = self.access_log {
            log.end(PATIENCE);
        }
        if let Some(exporter) = self.exporter {
            exporter.end(PATIENCE);
        }
    }
}

/// How long whoever reads logs or spans may take at the end.
const PATIENCE: Duration = Duration::from_secs(1);
