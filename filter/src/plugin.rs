//! How does a plugin configuration become a policy, and what does the operator read when it does not?
//!
//! Envoy refuses a configuration whose `on_configure` returns false: at start it exits, on an update it keeps the old
//! one. So nothing ever runs with half a policy. Envoy configures once for each worker and twice more, so this only
//! reads and builds.

use std::rc::Rc;

use fluxlit_policy::{Defaults, Policy};

use crate::counters::Counters;
use crate::host::{self, Buffer, Level};
use crate::stream::CLIENT;
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
    pub(crate) fn plugin(&self) -> Option<Rc<Plugin>> {
        self.plugin.clone()
    }

    /// Reads the configuration of `size` bytes; returns whether it can be used.
    pub(crate) fn configure(&mut self, size: usize) -> bool {
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

    /// Another second has passed.
    pub(crate) fn tick(&self) {
        self.hand_over();
        if let Some(plugin) = &self.plugin {
            plugin.warnings.tick();
        }
    }

    /// Tells the host what was counted.
    pub(crate) fn hand_over(&self) {
        if let Some(plugin) = &self.plugin {
            plugin.counters.hand_over();
        }
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
