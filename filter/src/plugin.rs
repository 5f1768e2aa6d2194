//! How does a plugin configuration become a policy, and what does the operator read when it does not?
//!
//! Envoy refuses a configuration whose `on_configure` returns false: at start it exits, on an update it keeps the old
//! one. So nothing ever runs with half a policy. Envoy calls `on_configure` once for each worker and twice more, so
//! it only reads and builds.

use std::rc::Rc;

use fluxlit_policy::{Defaults, Policy};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::counters::Counters;
use crate::host::{self, Buffer, Level};
use crate::stream::{CLIENT, Stream};
use crate::warnings::Warnings;

/// One configured plugin; all its streams share it.
pub(crate) struct Plugin {
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
    pub(crate) warnings: Warnings,
}

/// The root context: holds the plugin once it is configured.
#[derive(Default)]
pub(crate) struct Root {
    plugin: Option<Rc<Plugin>>,
}

impl Root {
    fn hand_over(&self) {
        if let Some(plugin) = &self.plugin {
            plugin.counters.hand_over();
        }
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.hand_over();
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match read_policy(&host::buffer(Buffer::PluginConfiguration, size)) {
            Ok(policy) => {
                for warning in policy.warnings() {
                    host::log(Level::Warn, &warning.to_string());
                }
                // A configuration may come again; what was counted under the old one counts.
                self.hand_over();
                host::declare_request_property(CLIENT);
                host::tick_every_second();
                self.plugin = Some(Rc::new(Plugin {
                    policy,
                    counters: Counters::define(),
                    warnings: Warnings::default(),
                }));
                true
            }
            Err(reason) => {
                for line in reason.lines() {
                    host::log(Level::Error, &format!("configuration refused: {line}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.hand_over();
        if let Some(plugin) = &self.plugin {
            plugin.warnings.tick();
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.plugin.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn read_policy(configuration: &[u8]) -> Result<Policy, String> {
    if configuration.trim_ascii().is_empty() {
        return Err(
            "there is no plugin configuration. Give a JSON object; {} trusts nobody, has no mount \
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
