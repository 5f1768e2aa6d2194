//! Which callbacks does the host make, and to whom do they go?
//!
//! The functions are those of the proxy-wasm ABI v0.2.1. Envoy calls what a module exports and nothing else, so the
//! callbacks that are not here cost nothing: bodies, WebSocket frames and logs never enter the module.

#![expect(
    unsafe_code,
    reason = "an exported name is unsafe to choose: these are the ABI's"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::plugin::Root;
use crate::stream::{Flow, Stream};

thread_local! {
    /// A module has one thread, and the host never calls back while it is called.
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts::new()) };
}

struct Contexts {
    /// One for each plugin of this VM.
    roots: BTreeMap<u32, Root>,
    streams: BTreeMap<u32, Stream>,
}

impl Contexts {
    const fn new() -> Self {
        Self {
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }
}

/// Hands a callback to the contexts. `otherwise` is the answer where they are not to be had.
fn with<T>(otherwise: T, act: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => act(&mut contexts),
        Err(_) => otherwise,
    })
}

fn with_stream(id: u32, act: impl FnOnce(&mut Stream) -> Flow) -> u32 {
    with(Flow::Pause, |contexts| {
        match contexts.streams.get_mut(&id) {
            Some(stream) => act(stream),
            // The host knows a stream that we were never told of: nothing may pass unfiltered.
            None => crate::stream::refuse("unknown stream"),
        }
    }) as u32
}

/// Says which ABI this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Gives the host memory to put a result in; `host::take` frees it.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut memory = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size));
    memory.as_mut_ptr()
}

/// A plugin (`parent` 0) or a stream of the plugin `parent`.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    with((), |contexts| {
        if parent == 0 {
            contexts.roots.insert(id, Root::default());
        } else {
            let plugin = contexts.roots.get(&parent).and_then(Root::plugin);
            contexts.streams.insert(id, Stream::new(plugin));
        }
    });
}

/// The plugin's configuration is there; returns whether it can be used.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    with(0, |contexts| {
        u32::from(
            contexts
                .roots
                .get_mut(&root)
                .is_some_and(|root| root.configure(size)),
        )
    })
}

/// Another second has passed.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    with((), |contexts| {
        if let Some(root) = contexts.roots.get(&root) {
            root.tick();
        }
    });
}

/// The headers of a request.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _count: u32, _end: u32) -> u32 {
    with_stream(stream, Stream::request_headers)
}

/// The trailers of a request.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(stream: u32, _count: u32) -> u32 {
    with_stream(stream, |stream| stream.request_trailers())
}

/// The headers of a response.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _count: u32, _end: u32) -> u32 {
    with_stream(stream, |stream| stream.response_headers())
}

/// A context is over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    with((), |contexts| {
        if contexts.streams.remove(&id).is_none()
            && let Some(root) = contexts.roots.remove(&id)
        {
            root.hand_over();
        }
    });
}
