//! Builds the policy from the plugin configuration, and runs the tick.
//!
//! Envoy rejects a configuration if `on_configure` returns false: at start it exits, on an update it keeps the old
//! configuration. So a request never meets an incomplete policy. Envoy configures once for each worker and twice more, so
//! this module only reads the configuration and builds the policy.

use std::rc::Rc;
use std::time::Duration;

use fluxlit_stream::{CLIENT, VERSION, read_policy};
use proxy_wasm::hostcalls::{get_log_level, log};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::probes;
use crate::stream::StreamContext;
use crate::wasm_host::{PendingCounter, Plugin, Ticks};

/// The root context of a plugin.
#[derive(Default)]
pub(crate) struct Root {
    /// `None` until a valid configuration arrives.
    plugin: Option<Rc<Plugin>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        // Before the configuration is read, so that the log of a refused one has it, too. The SDK panics if a line cannot be
        // written, so none is written that nobody reads.
        use LogLevel::{Debug, Info, Trace};
        if matches!(get_log_level(), Ok(Trace | Debug | Info)) {
            let _ = log(Info, &format!("fluxlit-filter {VERSION}"));
        }
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let Some(policy) = read_policy(&configuration) else {
            return false;
        };
        self.declare_client();
        if policy.answers_probes() {
            probes::prepare();
        }
        self.set_tick_period(Duration::from_secs(1));
        self.plugin = Some(Rc::new(Plugin::new(
            policy,
            Ticks::default(),
            PendingCounter::define,
        )));
        true
    }

    fn on_tick(&mut self) {
        if let Some(plugin) = &self.plugin {
            plugin.counters().iter().for_each(PendingCounter::flush);
            plugin.clock().tick();
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(StreamContext::new(self.plugin.clone())))
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
