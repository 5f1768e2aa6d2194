//! What does the host hold for one VM?
//!
//! The data of the wasmtime store: the plugin's facts, its streams, and everything that is shared between them. Host
//! functions read and change it; the life cycle in `vm` and `stream` decides when a module may see what.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::StoreLimits;

use crate::abi::{LogLevel, MapId};
use crate::header_map::HeaderMap;
use crate::plugin::{Clock, StartOptions};
use crate::property::Properties;
use crate::reply::LocalReply;
use crate::stream::Side;

/// One line that a filter logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its severity.
    pub level: LogLevel,
    /// Its text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// A metric and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What it counts.
    pub kind: MetricKind,
    /// The count of a counter, the level of a gauge, the last sample of a histogram.
    pub value: u64,
}

/// What a metric counts (`proxy_metric_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Takes samples.
    Histogram,
}

/// What was recorded while callbacks of one context ran.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) logs: Vec<LogLine>,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) fuel: u64,
}

/// One HTTP stream as its host functions see it.
#[derive(Default)]
pub(crate) struct StreamState {
    pub(crate) properties: Properties,
    pub(crate) own_properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) request_headers: Option<HeaderMap>,
    pub(crate) request_trailers: Option<HeaderMap>,
    pub(crate) response_headers: Option<HeaderMap>,
    pub(crate) response_trailers: Option<HeaderMap>,
    /// Body bytes that the filter can see now: the current frame, and what it held back before.
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    /// The phase of each side whose callback runs, or that is paused.
    pub(crate) request_phase: Option<Phase>,
    pub(crate) response_phase: Option<Phase>,
    pub(crate) logging: bool,
    pub(crate) reply: Option<LocalReply>,
    pub(crate) closed: bool,
}

/// A phase in which a side of a stream offers something to the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Headers,
    Body { end_of_stream: bool },
    Trailers,
}

impl StreamState {
    /// The map that may be read and written now; `None` outside its phase.
    ///
    /// Trailers that the message does not have come into being when they are touched in the last body callback.
    pub(crate) fn open_map(&mut self, map: MapId) -> Option<&mut HeaderMap> {
        let last_body = Some(Phase::Body {
            end_of_stream: true,
        });
        match map {
            MapId::RequestHeaders if self.request_phase == Some(Phase::Headers) => {
                self.request_headers.as_mut()
            }
            MapId::ResponseHeaders if self.response_phase == Some(Phase::Headers) => {
                self.response_headers.as_mut()
            }
            MapId::RequestTrailers if self.request_phase == Some(Phase::Trailers) => {
                self.request_trailers.as_mut()
            }
            MapId::ResponseTrailers if self.response_phase == Some(Phase::Trailers) => {
                self.response_trailers.as_mut()
            }
            MapId::RequestTrailers if self.request_phase == last_body => {
                Some(self.request_trailers.get_or_insert_default())
            }
            MapId::ResponseTrailers if self.response_phase == last_body => {
                Some(self.response_trailers.get_or_insert_default())
            }
            _ => None,
        }
    }

    /// The map that may be read now: as [`Self::open_map`], which it never brings into being, and all maps in `on_log`.
    pub(crate) fn readable_map(&self, map: MapId) -> Option<&HeaderMap> {
        let (phase, stored) = match map {
            MapId::RequestHeaders => (self.request_phase, &self.request_headers),
            MapId::RequestTrailers => (self.request_phase, &self.request_trailers),
            MapId::ResponseHeaders => (self.response_phase, &self.response_headers),
            MapId::ResponseTrailers => (self.response_phase, &self.response_trailers),
            MapId::CallOut => return None,
        };
        let is_open = match phase {
            Some(Phase::Headers) => {
                matches!(map, MapId::RequestHeaders | MapId::ResponseHeaders)
            }
            Some(Phase::Trailers | Phase::Body { .. }) => {
                matches!(map, MapId::RequestTrailers | MapId::ResponseTrailers)
            }
            None => false,
        };
        stored.as_ref().filter(|_| self.logging || is_open)
    }

    pub(crate) fn phase_mut(&mut self, side: Side) -> &mut Option<Phase> {
        match side {
            Side::Request => &mut self.request_phase,
            Side::Response => &mut self.response_phase,
        }
    }

    pub(crate) fn body_mut(&mut self, side: Side) -> &mut Vec<u8> {
        match side {
            Side::Request => &mut self.request_body,
            Side::Response => &mut self.response_body,
        }
    }
}

/// A named queue.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) name: Vec<u8>,
    pub(crate) items: VecDeque<Vec<u8>>,
    /// The context that registered last; it is told when something comes in.
    pub(crate) reader: u32,
}

/// Everything one VM's host functions work on.
pub(crate) struct Host {
    pub(crate) options: StartOptions,
    pub(crate) limits: StoreLimits,
    /// Whether the module is initialised; before that it may only log and call WASI.
    pub(crate) is_ready: bool,
    pub(crate) is_configuring: bool,
    /// Whether the module's allocator runs; it may not ask for anything that needs the allocator again.
    pub(crate) is_allocating: bool,
    /// The context whose callback runs.
    pub(crate) running: u32,
    /// The context that host functions act on.
    pub(crate) effective: u32,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) records: BTreeMap<u32, Record>,
    /// Contexts whose `on_done` asked to wait for `proxy_done`.
    pub(crate) waiting_for_done: Vec<u32>,
    /// Contexts that have called `proxy_done`, to be deleted when the callback is over.
    pub(crate) done: Vec<u32>,
    /// Sides to be continued when the callback is over.
    pub(crate) continued: Vec<(u32, Side)>,
    /// Queues that got something in this callback.
    pub(crate) filled_queues: Vec<u32>,
    /// Milliseconds; 0 is no tick.
    pub(crate) tick_period: u32,
    pub(crate) clock: u64,
    pub(crate) random: u64,
    pub(crate) metrics: Vec<(String, Metric)>,
    pub(crate) shared_data: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    pub(crate) queues: Vec<Queue>,
}

impl Host {
    pub(crate) fn new(options: StartOptions, limits: StoreLimits) -> Self {
        let clock = match options.clock {
            Clock::Virtual { start } => start,
            Clock::System => 0,
        };
        Self {
            random: options.random_seed,
            options,
            limits,
            is_ready: false,
            is_configuring: false,
            is_allocating: false,
            running: PLUGIN_CONTEXT,
            effective: PLUGIN_CONTEXT,
            streams: BTreeMap::new(),
            records: BTreeMap::new(),
            waiting_for_done: Vec::new(),
            done: Vec::new(),
            continued: Vec::new(),
            filled_queues: Vec::new(),
            tick_period: 0,
            clock,
            metrics: Vec::new(),
            shared_data: BTreeMap::new(),
            queues: Vec::new(),
        }
    }

    /// The stream that host functions act on; `None` in the plugin's own context.
    pub(crate) fn stream(&mut self) -> Option<&mut StreamState> {
        self.streams.get_mut(&self.effective)
    }

    pub(crate) fn record(&mut self) -> &mut Record {
        self.records.entry(self.running).or_default()
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.record().logs.push(LogLine { level, text });
    }

    /// Takes what the plugin's own context logged.
    pub(crate) fn take_plugin_logs(&mut self) -> Vec<LogLine> {
        self.records
            .remove(&PLUGIN_CONTEXT)
            .map_or_else(Vec::new, |record| record.logs)
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        match self.options.clock {
            Clock::Virtual { .. } => self.clock,
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|time| u64::try_from(time.as_nanos()).ok())
                .unwrap_or(0),
        }
    }

    /// The next 64 bits of a seeded sequence (SplitMix64, Steele et al. 2014): the same in every run.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The id of the plugin's own context.
pub(crate) const PLUGIN_CONTEXT: u32 = 1;
