//! Passes the callbacks of one stream to [`fluxlit_stream`].

use std::rc::Rc;

use fluxlit_stream::{Flow, Stream, refuse};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::wasm_host::{Plugin, WasmHost};

/// The context of one HTTP stream.
pub(crate) struct StreamContext {
    /// `None` if the root context has no valid configuration.
    plugin: Option<Rc<Plugin>>,
    stream: Stream,
}

impl StreamContext {
    pub(crate) fn new(plugin: Option<Rc<Plugin>>) -> Self {
        Self {
            plugin,
            stream: Stream::default(),
        }
    }
}

impl Context for StreamContext {}

impl HttpContext for StreamContext {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        match &self.plugin {
            Some(plugin) => action(self.stream.request_headers(&mut WasmHost, plugin)),
            None => refuse_without_policy(),
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        match &self.plugin {
            Some(plugin) => action(self.stream.request_trailers(&mut WasmHost, plugin)),
            None => refuse_without_policy(),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        match &self.plugin {
            Some(plugin) => action(self.stream.response_headers(&mut WasmHost, plugin)),
            None => Action::Continue,
        }
    }
}

fn refuse_without_policy() -> Action {
    refuse(&mut WasmHost, None, "no policy");
    Action::Pause
}

fn action(flow: Flow) -> Action {
    match flow {
        Flow::Continue => Action::Continue,
        Flow::Stop => Action::Pause,
    }
}
