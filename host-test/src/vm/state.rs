//! What does the host hold for one VM?
//!
//! The data of the wasmtime store: its plugins, its streams, its calls, and what the running callback may see. Host
//! functions read and change it; the life cycle in `vm` and `exchange` decides when a module may see what. What several
//! VMs share is in [`Process`].

use std::collections::BTreeMap;

use wasmtime::{Memory, StoreLimits, TypedFunc};

use crate::abi::header_map::HeaderMap;
use crate::abi::property::Properties;
use crate::abi::{LogLevel, MapId, Version};
use crate::envoy::filter_state::FilterState;
use crate::envoy::local_reply::LocalReply;
use crate::envoy::profile::Profile;
use crate::plugin::StartOptions;
use crate::process::Process;
use crate::stream::Side;
use crate::vm::call_out::{CallOut, Calls};
use crate::vm::fault::Faults;
use crate::vm::trace::HostCall;

/// One line that a filter logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its severity.
    pub level: LogLevel,
    /// Its text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// What was recorded while callbacks of one context ran.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) logs: Vec<LogLine>,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) unknown_calls: BTreeMap<String, u64>,
    pub(crate) call_outs: Vec<CallOut>,
    pub(crate) trace: Vec<HostCall>,
    pub(crate) fuel: u64,
    pub(crate) abi_fuel: u64,
}

/// One plugin of the VM.
pub(crate) struct PluginState {
    pub(crate) configuration: Vec<u8>,
    pub(crate) name: String,
    pub(crate) root_id: String,
    pub(crate) is_configuring: bool,
    /// Nanoseconds between ticks; 0 is no tick.
    pub(crate) tick_period: u64,
    pub(crate) tick_due: u64,
    /// Properties that the plugin has declared, and whether each can be set only once.
    pub(crate) declared: BTreeMap<Vec<u8>, bool>,
}

/// One HTTP stream, or a connection through a network filter, as its host functions see it.
#[derive(Default)]
pub(crate) struct StreamState {
    /// The context of the plugin that the stream belongs to.
    pub(crate) plugin: u32,
    /// Whether it is a connection; its data lie where a body would, the client's where a request's would.
    pub(crate) is_connection: bool,
    /// Nanoseconds since the Unix epoch.
    pub(crate) opened_at: u64,
    pub(crate) properties: Properties,
    pub(crate) filter_state: FilterState,
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
    /// Whether headers are held while the body's callbacks go on, so that these can still read and write them.
    pub(crate) holds_request_headers: bool,
    pub(crate) holds_response_headers: bool,
    pub(crate) logging: bool,
    /// The details of the filter's own answer.
    pub(crate) code_details: Option<String>,
    pub(crate) reply: Option<LocalReply>,
    pub(crate) closed: bool,
}

/// A phase in which a side of a stream offers something to the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Headers,
    Body {
        end_of_stream: bool,
    },
    Trailers,
    /// A connection has come.
    Connection,
    /// Data of a connection.
    Data {
        end_of_stream: bool,
    },
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
            MapId::RequestHeaders
                if self.request_phase == Some(Phase::Headers) || self.holds_request_headers =>
            {
                self.request_headers.as_mut()
            }
            MapId::ResponseHeaders
                if self.response_phase == Some(Phase::Headers) || self.holds_response_headers =>
            {
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

    /// The map that may be read now: as [`Self::open_map`], which it never brings into being, and all maps but the
    /// request's trailers in `on_log`; where maps do not close, every one that has arrived.
    pub(crate) fn readable_map(&self, map: MapId, profile: Profile) -> Option<&HeaderMap> {
        let (phase, holds_headers, stored) = match map {
            MapId::RequestHeaders => (
                self.request_phase,
                self.holds_request_headers,
                &self.request_headers,
            ),
            MapId::RequestTrailers if self.logging => return None,
            MapId::RequestTrailers => (self.request_phase, false, &self.request_trailers),
            MapId::ResponseHeaders => (
                self.response_phase,
                self.holds_response_headers,
                &self.response_headers,
            ),
            MapId::ResponseTrailers => (self.response_phase, false, &self.response_trailers),
            MapId::GrpcInitialMetadata
            | MapId::GrpcTrailingMetadata
            | MapId::CallHeaders
            | MapId::CallTrailers => return None,
        };
        let is_open = match phase {
            Some(Phase::Headers) => {
                matches!(map, MapId::RequestHeaders | MapId::ResponseHeaders)
            }
            Some(Phase::Trailers | Phase::Body { .. }) => {
                holds_headers || matches!(map, MapId::RequestTrailers | MapId::ResponseTrailers)
            }
            Some(Phase::Connection | Phase::Data { .. }) => false,
            None => holds_headers,
        };
        stored
            .as_ref()
            .filter(|_| self.logging || is_open || !profile.closes_maps())
    }

    pub(crate) fn holds_headers_mut(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Request => &mut self.holds_request_headers,
            Side::Response => &mut self.holds_response_headers,
        }
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

    pub(crate) fn headers(&self, side: Side) -> Option<&HeaderMap> {
        match side {
            Side::Request => self.request_headers.as_ref(),
            Side::Response => self.response_headers.as_ref(),
        }
    }

    pub(crate) fn trailers(&self, side: Side) -> Option<&HeaderMap> {
        match side {
            Side::Request => self.request_trailers.as_ref(),
            Side::Response => self.response_trailers.as_ref(),
        }
    }
}

/// What the callback of a call-out may see.
#[derive(Default)]
pub(crate) struct CallData {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) initial_metadata: Option<HeaderMap>,
    pub(crate) trailing_metadata: Option<HeaderMap>,
    pub(crate) message: Option<Vec<u8>>,
    /// What a foreign function hands over.
    pub(crate) foreign: Option<Vec<u8>>,
}

impl CallData {
    pub(crate) fn map(&self, map: MapId) -> Option<&HeaderMap> {
        match map {
            MapId::GrpcInitialMetadata => self.initial_metadata.as_ref(),
            MapId::GrpcTrailingMetadata => self.trailing_metadata.as_ref(),
            MapId::CallHeaders => self.headers.as_ref(),
            MapId::CallTrailers => self.trailers.as_ref(),
            _ => None,
        }
    }
}

/// Everything one VM's host functions work on.
pub(crate) struct Host {
    /// What the VM was started with; each further plugin's own part is in `plugins`.
    pub(crate) options: StartOptions,
    pub(crate) version: Version,
    pub(crate) limits: StoreLimits,
    /// The module's memory and allocator, once they can be looked up for good.
    pub(crate) memory: Option<Memory>,
    pub(crate) allocator: Option<TypedFunc<u32, u32>>,
    pub(crate) process: Process,
    /// This VM's number in the process.
    pub(crate) number: usize,
    /// Whether the module is initialised; before that it may only log and call WASI.
    pub(crate) is_ready: bool,
    /// Whether the module's allocator runs; it may not ask for anything that needs the allocator again.
    pub(crate) is_allocating: bool,
    /// The callback that runs, and its context.
    pub(crate) callback: &'static str,
    pub(crate) running: u32,
    /// The context that host functions act on.
    pub(crate) effective: u32,
    pub(crate) plugins: BTreeMap<u32, PluginState>,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) records: BTreeMap<u32, Record>,
    /// Contexts whose `on_done` asked to wait for `proxy_done`.
    pub(crate) waiting_for_done: Vec<u32>,
    /// Contexts that have called `proxy_done`, to be deleted when the callback is over.
    pub(crate) done: Vec<u32>,
    /// Sides to be continued when the callback is over.
    pub(crate) continued: Vec<(u32, Side)>,
    pub(crate) calls: Calls,
    pub(crate) call_data: CallData,
    /// What `proxy_get_status` answers.
    pub(crate) status: (u32, String),
    /// The module's metrics: the process's place of each id.
    pub(crate) metrics: Vec<usize>,
    pub(crate) random: u64,
    pub(crate) faults: Faults,
    /// What the module passed and was given in the host call that runs, if it is traced.
    pub(crate) traced: Option<HostCall>,
}

impl Host {
    pub(crate) fn new(
        options: StartOptions,
        version: Version,
        limits: StoreLimits,
        process: Process,
        number: usize,
    ) -> Self {
        let mut calls = Calls::default();
        calls.know(options.upstreams.clone());
        Self {
            random: options.random_seed,
            faults: Faults::new(&options.faults),
            options,
            version,
            limits,
            memory: None,
            allocator: None,
            process,
            number,
            is_ready: false,
            is_allocating: false,
            callback: "",
            running: FIRST_PLUGIN,
            effective: FIRST_PLUGIN,
            plugins: BTreeMap::new(),
            streams: BTreeMap::new(),
            records: BTreeMap::new(),
            waiting_for_done: Vec::new(),
            done: Vec::new(),
            continued: Vec::new(),
            calls,
            call_data: CallData::default(),
            status: (0, String::new()),
            metrics: Vec::new(),
            traced: None,
        }
    }

    /// The stream that host functions act on; `None` in a plugin's own context.
    pub(crate) fn stream(&mut self) -> Option<&mut StreamState> {
        self.streams.get_mut(&self.effective)
    }

    /// The context of the plugin that the effective context belongs to.
    pub(crate) fn plugin_context(&self) -> u32 {
        self.streams
            .get(&self.effective)
            .map_or(self.effective, |stream| stream.plugin)
    }

    /// The plugin that the effective context belongs to.
    pub(crate) fn plugin(&mut self) -> Option<&mut PluginState> {
        let context = self.plugin_context();
        self.plugins.get_mut(&context)
    }

    /// Whether a callback may be called for `context`.
    pub(crate) fn has_context(&self, context: u32) -> bool {
        self.plugins.contains_key(&context) || self.streams.contains_key(&context)
    }

    /// Whether a stream ends with `on_log` before `on_done`. Of a connection it never does.
    pub(crate) fn logs_before_done(&self, context: u32) -> bool {
        let stream = self.streams.get(&context);
        let is_connection = stream.is_some_and(|stream| stream.is_connection);
        self.options.profile.logs_before_done() && !is_connection
    }

    pub(crate) fn record(&mut self) -> &mut Record {
        self.records.entry(self.running).or_default()
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: &[u8]) {
        if level >= self.options.log_level {
            let text = String::from_utf8_lossy(text).into_owned();
            self.record().logs.push(LogLine { level, text });
        }
    }

    /// Takes what plugins' own contexts logged.
    pub(crate) fn take_logs(&mut self, context: u32) -> Vec<LogLine> {
        self.records
            .remove(&context)
            .map_or_else(Vec::new, |record| record.logs)
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        self.process.state().now()
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

/// The id of the first plugin's context.
pub(crate) const FIRST_PLUGIN: u32 = 1;
