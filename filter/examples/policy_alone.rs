//! Decides as the filter does, and applies nothing: measures the cost of the rules without host calls.
//!
//! It reads the messages of its first stream through the host and keeps them. For every later stream it decides on those
//! without a single host call. So its instructions are those of the policy and the SDK's dispatch, and the additional
//! instructions of the filter are the cost of the ABI.

#![expect(
    missing_docs,
    reason = "the SDK's macro defines a public function without documentation; there are no others"
)]

#[expect(dead_code, reason = "the filter uses the rest")]
#[path = "../src/host.rs"]
mod host;
#[path = "../src/memory.rs"]
mod memory;

use std::cell::RefCell;
use std::rc::Rc;

use fluxlit_policy::{Defaults, Exchange, Header, Peer, Policy, Request, Response};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, MapType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default)]
struct Root(Rc<RefCell<State>>);

/// The state that all streams share.
#[derive(Default)]
struct State {
    policy: Option<Policy>,
    connection: Option<(Peer, bool)>,
    request: Option<Message>,
    response: Option<Message>,
    exchange: Option<Exchange>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let policy = Policy::from_json(&configuration, Defaults::FILTER).ok();
        let is_valid = policy.is_some();
        self.0.borrow_mut().policy = policy;
        is_valid
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream(Rc::clone(&self.0))))
    }
}

struct Stream(Rc<RefCell<State>>);

impl Context for Stream {}

/// Pauses the stream if nothing was decided, so that a failure is not measured.
impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        flow(self.0.borrow_mut().request())
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        flow(self.0.borrow_mut().response())
    }
}

fn flow(decided: Option<()>) -> Action {
    decided.map_or(Action::Pause, |()| Action::Continue)
}

impl State {
    fn request(&mut self) -> Option<()> {
        let policy = self.policy.as_ref()?;
        if self.connection.is_none() {
            let key = policy.peer_filter_state_key()?;
            let address = host::property(&["filter_state", key])?;
            let is_tls = host::property(&["connection", "tls_version"]).is_some();
            self.connection = Some((Peer::from_recorded_address(&address), is_tls));
        }
        let (peer, tls) = self.connection?;
        let message = self
            .request
            .get_or_insert_with(|| Message::read(MapType::HttpRequestHeaders));
        let decision = policy.request(&Request {
            peer,
            identity: None,
            is_reentry: false,
            tls,
            method: message.pseudo(b":method"),
            target: message.pseudo(b":path"),
            host: Some(message.pseudo(b":authority")),
            headers: &message.headers,
        });
        self.exchange = Some(decision.exchange);
        Some(())
    }

    fn response(&mut self) -> Option<()> {
        let message = self
            .response
            .get_or_insert_with(|| Message::read(MapType::HttpResponseHeaders));
        let status = std::str::from_utf8(message.pseudo(b":status")).ok()?;
        let response = Response {
            status: status.parse().ok()?,
            headers: &message.headers,
        };
        let decision = self
            .policy
            .as_ref()?
            .response(self.exchange.as_ref()?, &response);
        drop(decision);
        Some(())
    }
}

/// A message that was read once and is never freed.
struct Message {
    pseudo: Vec<Header<'static>>,
    headers: Vec<Header<'static>>,
}

impl Message {
    fn read(map: MapType) -> Self {
        let map: &'static [u8] = Vec::leak(host::map(map));
        let (pseudo, headers) = host::pairs(map).partition(|(name, _)| name.starts_with(b":"));
        Self { pseudo, headers }
    }

    fn pseudo(&self, name: &[u8]) -> &'static [u8] {
        let mut pseudo = self.pseudo.iter();
        pseudo
            .find(|(other, _)| *other == name)
            .map_or(b"", |(_, value)| value)
    }
}
