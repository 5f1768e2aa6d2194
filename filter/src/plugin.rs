//! Builds the policy from the plugin configuration, and logs why a configuration is invalid.
//!
//! Envoy rejects a configuration if `on_configure` returns false: at start it exits, on an update it keeps the old
//! configuration. So a request never meets an incomplete policy. Envoy configures once for each worker and twice more, so
//! this module only reads the configuration and builds the policy.

use std::rc::Rc;
use std::time::Duration;

use fluxlit_policy::{Defaults, Policy};
use log::{error, warn};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::counters::Counters;
use crate::probes;
use crate::stream::{CLIENT, Stream};
use crate::warnings::Warnings;

/// One configured plugin, shared by its streams.
pub(crate) struct Plugin {
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
    pub(crate) warnings: Warnings,
}

/// The root context of a plugin.
#[derive(Default)]
pub(crate) struct Root {
    /// `None` until a valid configuration arrives.
    plugin: Option<Rc<Plugin>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let policy = match read_policy(&configuration) {
            Ok(policy) => policy,
            Err(reason) => {
                for line in reason.lines() {
                    error!("configuration refused: {line}");
                }
                return false;
            }
        };
        for warning in policy.warnings() {
            warn!("{warning}");
        }
        self.declare_client();
        if policy.answers_probes() {
            probes::prepare();
        }
        self.set_tick_period(Duration::from_secs(1));
        self.plugin = Some(Rc::new(Plugin {
            policy,
            counters: Counters::define(),
            warnings: Warnings::default(),
        }));
        true
    }

    fn on_tick(&mut self) {
        if let Some(plugin) = &self.plugin {
            plugin.counters.flush();
            plugin.warnings.tick();
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.plugin.clone())))
    }
}

impl Root {
    /// Declares the property that streams set, as text that lives as long as the request, including internal redirects.
    /// Without a declaration, Envoy stores bytes for one pass of the filter chain.
    fn declare_client(&self) {
        // envoy.source.extensions.common.wasm.DeclarePropertyArguments: name = 1, type = 3 (1: String),
        // span = 5 (1: DownstreamRequest).
        let length = u8::try_from(CLIENT.len()).unwrap_or(u8::MAX);
        let message = [&[0x0a, length], CLIENT.as_bytes(), &[0x18, 1, 0x28, 1]].concat();
        // Fails if the property is already declared, and on hosts other than Envoy.
        let _ = self.call_foreign_function("declare_property", Some(&message));
    }
}

fn read_policy(configuration: &[u8]) -> Result<Policy, String> {
    if configuration.trim_ascii().is_empty() {
        return Err(
            "there is no plugin configuration. Give a JSON object; {} trusts no peer, has no mount \
             and removes every forged header."
                .to_owned(),
        );
    }
    if !configuration.trim_ascii_start().starts_with(b"{") {
        return Err(
            "the plugin configuration is not a JSON object. In Envoy, give it as a \
             google.protobuf.StringValue that holds JSON; a Struct arrives as binary."
                .to_owned(),
        );
    }
    Policy::from_json(configuration, Defaults::FILTER).map_err(|errors| errors.to_string())
}
