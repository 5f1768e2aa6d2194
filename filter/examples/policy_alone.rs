//! What do the rules cost without a host?
//!
//! A filter that decides as ours does and does nothing about it. It reads the messages of its first stream through the
//! host and keeps them; for every later stream it decides on those, without a single host call. So its instructions are
//! the policy's own, and what our filter needs beyond them is the price of the ABI.

#![expect(
    unsafe_code,
    reason = "an exported name is unsafe to choose: these are the ABI's"
)]

#[expect(dead_code, reason = "the filter uses the rest")]
#[path = "../src/host.rs"]
mod host;
#[path = "../src/memory.rs"]
mod memory;

use std::cell::RefCell;

use fluxlit_policy::{Defaults, Exchange, Header, Peer, Policy, Request, Response};

use host::{Buffer, Map};

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::new()) };
}

struct State {
    policy: Option<Policy>,
    peer: Peer,
    is_tls: bool,
    request: Option<Message>,
    response: Option<Message>,
    exchange: Option<Exchange>,
}

/// A message that was read once and is kept for good.
struct Message {
    pseudo: Vec<Header<'static>>,
    headers: Vec<Header<'static>>,
}

impl State {
    const fn new() -> Self {
        Self {
            policy: None,
            peer: Peer::Unknown,
            is_tls: false,
            request: None,
            response: None,
            exchange: None,
        }
    }

    fn request(&mut self) -> Option<()> {
        let policy = self.policy.as_ref()?;
        if self.request.is_none() {
            let key = policy.peer_filter_state_key()?;
            let address = host::property(&["filter_state", key])?;
            self.peer = Peer::from_recorded_address(&address);
            self.is_tls = host::property(&["connection", "tls_version"]).is_some();
            self.request = Some(Message::read(Map::RequestHeaders));
        }
        let message = self.request.as_ref()?;
        let decision = policy.request(&Request {
            peer: self.peer,
            identity: None,
            is_reentry: false,
            tls: self.is_tls,
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
            .get_or_insert_with(|| Message::read(Map::ResponseHeaders));
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

impl Message {
    fn read(map: Map) -> Self {
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

fn with(act: impl FnOnce(&mut State) -> Option<()>) -> bool {
    STATE.with(|state| {
        state
            .try_borrow_mut()
            .is_ok_and(|mut state| act(&mut state).is_some())
    })
}

/// Says which ABI this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Gives the host memory to put a result in.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut memory = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size));
    memory.as_mut_ptr()
}

/// The plugin's configuration is there; returns whether it can be used.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(_root: u32, size: usize) -> u32 {
    let configuration = host::buffer(Buffer::PluginConfiguration, size);
    u32::from(with(|state| {
        state.policy = Policy::from_json(&configuration, Defaults::FILTER).ok();
        state.policy.as_ref().map(|_| ())
    }))
}

/// The headers of a request. Pauses the stream if it could not be decided, so that nobody measures nothing.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(_stream: u32, _count: u32, _end: u32) -> u32 {
    u32::from(!with(State::request))
}

/// The headers of a response, likewise.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_stream: u32, _count: u32, _end: u32) -> u32 {
    u32::from(!with(State::response))
}
