//! Lets streams call Envoy through the proxy-wasm ABI.
//!
//! Filter state is read by its two-part path, because another plugin could set a bare top-level property. Counts are kept
//! here and passed to Envoy once a second: a call into the host costs a third as much as reading a header map.

use std::cell::Cell;
use std::time::Duration;

use fluxlit_policy::{Header, Probe, ProbeOutcome};
use fluxlit_stream::{Attribute, CLIENT, CLIENT_KEY, Clock, Fields, Host, Map, Response};
use proxy_wasm::hostcalls::{define_metric, increment_metric};
use proxy_wasm::types::{MapType, MetricType};

use crate::{host, probes};

/// The plugin of a root context.
pub(crate) type Plugin = fluxlit_stream::Plugin<WasmHost>;

/// The stream that Envoy has made effective: calls need no handle.
pub(crate) struct WasmHost;

impl Host for WasmHost {
    type Bytes<'a> = Vec<u8>;
    type Fields<'a> = SerializedMap;
    type Clock = Ticks;
    type Counter = PendingCounter;

    const SEES_OWN_REPLIES: bool = true;

    // The SDK declares version 0.2.1 of the ABI, with which they do.
    const WRITES_SELECT_ROUTE: bool = true;

    fn fields(&self, map: Map) -> SerializedMap {
        SerializedMap(host::map(map_type(map)))
    }

    fn attribute(&self, attribute: Attribute) -> Option<Vec<u8>> {
        let path = match attribute {
            Attribute::Protocol => ["request", "protocol"],
            Attribute::SourceAddress => ["source", "address"],
            Attribute::TlsVersion => ["connection", "tls_version"],
            Attribute::UriName => ["connection", "uri_san_peer_certificate"],
        };
        host::property(&path)
    }

    fn is_mutual_tls(&self) -> bool {
        host::property(&["connection", "mtls"]).is_some_and(|value| value.first() == Some(&1))
    }

    fn filter_state(&self, key: &str) -> Option<Vec<u8>> {
        host::property(&["filter_state", key])
    }

    fn add(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        host::add(map_type(map), name, value)
    }

    fn replace(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        host::replace(map_type(map), name, value)
    }

    fn remove(&mut self, map: Map, name: &str) -> bool {
        host::remove(map_type(map), name)
    }

    fn store_client(&mut self, text: &[u8]) {
        host::set_property(CLIENT, text);
    }

    fn stored_client(&self) -> Option<Vec<u8>> {
        self.filter_state(CLIENT_KEY)
    }

    fn select_route_again(&mut self) {
        host::clear_route_cache();
    }

    fn send_reply(&mut self, response: &Response<'_>) -> bool {
        host::send_local_response(response.status, response.fields, response.body)
    }

    fn count(&self, counter: &PendingCounter, by: u32) {
        let pending = &counter.pending;
        pending.set(pending.get().saturating_add(by));
    }

    fn admit(&self, probe: &Probe) -> ProbeOutcome {
        probes::admit(probe)
    }
}

fn map_type(map: Map) -> MapType {
    match map {
        Map::RequestHeaders => MapType::HttpRequestHeaders,
        Map::RequestTrailers => MapType::HttpRequestTrailers,
        Map::ResponseHeaders => MapType::HttpResponseHeaders,
    }
}

/// A header map as the ABI serializes it.
pub(crate) struct SerializedMap(Vec<u8>);

impl Fields for SerializedMap {
    fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        host::pairs(&self.0)
    }
}

/// A counter of Envoy, and what it was not yet told.
pub(crate) struct PendingCounter {
    id: u32,
    pending: Cell<u32>,
}

impl PendingCounter {
    /// Defines the counter; `None` if the host refuses. Envoy shows it as `wasmcustom.NAME`, and in the Prometheus format as
    /// the name alone with underscores for dots.
    pub(crate) fn define(name: &str) -> Option<Self> {
        Some(Self {
            id: define_metric(MetricType::Counter, name).ok()?,
            pending: Cell::new(0),
        })
    }

    /// Passes the count since the last call to the host.
    pub(crate) fn flush(&self) {
        let count = self.pending.take();
        if count > 0 {
            // Fails if the host does not know the counter.
            let _ = increment_metric(self.id, i64::from(count));
        }
    }
}

/// Flushes the last count of a plugin that ends or is configured again.
impl Drop for PendingCounter {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Counts the seconds since the plugin was configured.
#[derive(Default)]
pub(crate) struct Ticks(Cell<u64>);

impl Ticks {
    /// Advances the time by a second.
    pub(crate) fn tick(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }
}

impl Clock for Ticks {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.get())
    }
}
