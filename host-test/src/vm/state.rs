//! Holds the state of one VM: its plugins, its streams, its calls, and what the running callback may access.
//!
//! Everything that a callback does is recorded for the context that `proxy_set_effective_context` made effective, or else for
//! its own. So a call-out's callback, which runs in the plugin's context, is recorded for the stream on whose behalf it acts.
//!
//! This is the data of the wasmtime store. Host functions read and change it; `dispatch` and `feed` decide what a module
//! may access at a given time. State that several VMs share is in [`super::shared`].

use std::collections::{BTreeMap, VecDeque};

use wasmtime::{Memory, StoreLimits, TypedFunc};

use super::call_out::{CallOut, Calls, Chain};
use super::fault::Faults;
use super::options::StartOptions;
use super::shared::Shared;
use super::trace::HostCall;
use crate::abi::{HeaderMap, LogLevel, MapId, Properties, Version};
use crate::envoy::filter_state::FilterState;
use crate::envoy::local_reply::LocalReply;
use crate::envoy::profile::Profile;
use crate::event::{LogLine, Side};

/// Everything recorded while one context was effective.
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

/// A plugin of the VM.
pub(crate) struct PluginState {
    pub(crate) configuration: Vec<u8>,
    pub(crate) name: String,
    pub(crate) root_id: String,
    pub(crate) is_configuring: bool,
    /// Nanoseconds between ticks; 0 for no ticks.
    pub(crate) tick_period: u64,
    pub(crate) tick_due: u64,
    /// The properties that the plugin declared; true for those that can be set only once.
    pub(crate) declared: BTreeMap<Vec<u8>, bool>,
}

/// An HTTP stream or a connection through a network filter, as host functions see it.
#[derive(Default)]
pub(crate) struct StreamState {
    /// The context of the plugin to which the stream belongs.
    pub(crate) plugin: u32,
    /// True for a connection. Data of the client are stored as the request body, data of the upstream as the response body.
    pub(crate) is_connection: bool,
    /// Nanoseconds since the Unix epoch.
    pub(crate) opened_at: u64,
    pub(crate) properties: Properties,
    pub(crate) filter_state: FilterState,
    pub(crate) request_headers: Option<HeaderMap>,
    pub(crate) request_trailers: Option<HeaderMap>,
    pub(crate) response_headers: Option<HeaderMap>,
    pub(crate) response_trailers: Option<HeaderMap>,
    /// The body bytes that the filter can access now: the current frame and those that it held before.
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    /// The phase of a side while its callback runs or is paused.
    pub(crate) request_phase: Option<Phase>,
    pub(crate) response_phase: Option<Phase>,
    /// True from the callback of the headers until it continues, or for the request until the filter continues a side. The
    /// headers may be read and written in this time, even if they have been sent, so that a change has no effect.
    pub(crate) holds_request_headers: bool,
    pub(crate) holds_response_headers: bool,
    /// True once the filter has continued a side in the running callback, which closes the request's maps and body at once.
    pub(crate) is_request_closed: bool,
    /// The number of body bytes received from the client and sent to it.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// The number of this stream's connection, from 1.
    pub(crate) connection_id: u64,
    /// The times at which the request's headers were sent and the end of the response arrived.
    pub(crate) first_sent_at: Option<u64>,
    pub(crate) response_ended_at: Option<u64>,
    /// The status of the response, as it arrived or was sent.
    pub(crate) response_code: Option<Vec<u8>>,
    pub(crate) is_logging: bool,
    /// The response code details of the filter's local reply.
    pub(crate) code_details: Option<String>,
    /// True if the outcome has been returned and the context only waits for `proxy_done`.
    pub(crate) is_finished: bool,
}

/// Something that a callback requested, which is carried out after it.
pub(crate) struct Requested {
    /// The context for which it was requested.
    pub(crate) context: u32,
    pub(crate) callback: &'static str,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Close,
    Continue(Side),
    /// Ends a context that waited for `proxy_done`.
    Delete,
    Reply(LocalReply),
}

/// The part of a message that a side of a stream passes to the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Headers,
    Body {
        end_of_stream: bool,
    },
    Trailers,
    /// A new connection.
    Connection,
    /// Data of a connection.
    Data {
        end_of_stream: bool,
    },
}

impl StreamState {
    /// Returns a map that may be read and written now; `None` outside its phase.
    ///
    /// If the message has no trailers, an access during the last body callback creates them.
    pub(crate) fn open_map(&mut self, map: MapId) -> Option<&mut HeaderMap> {
        let last_body = Some(Phase::Body {
            end_of_stream: true,
        });
        match map {
            MapId::RequestHeaders | MapId::RequestTrailers if self.is_request_closed => None,
            MapId::RequestHeaders if self.holds_request_headers => self.request_headers.as_mut(),
            MapId::ResponseHeaders if self.holds_response_headers => self.response_headers.as_mut(),
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

    /// Returns a map that may be read now: as [`Self::open_map`], but without creating trailers; in `on_log` all maps except
    /// the request trailers; and every map that has arrived if the profile does not close maps.
    pub(crate) fn readable_map(&self, map: MapId, profile: Profile) -> Option<&HeaderMap> {
        let is_trailers = |phase| matches!(phase, Some(Phase::Trailers | Phase::Body { .. }));
        let (is_open, stored) = match map {
            MapId::RequestHeaders => (
                self.holds_request_headers && !self.is_request_closed,
                &self.request_headers,
            ),
            MapId::RequestTrailers if self.is_logging => return None,
            MapId::RequestTrailers => (
                is_trailers(self.request_phase) && !self.is_request_closed,
                &self.request_trailers,
            ),
            MapId::ResponseHeaders => (self.holds_response_headers, &self.response_headers),
            MapId::ResponseTrailers => (is_trailers(self.response_phase), &self.response_trailers),
            MapId::GrpcInitialMetadata
            | MapId::GrpcTrailingMetadata
            | MapId::CallHeaders
            | MapId::CallTrailers => return None,
        };
        stored
            .as_ref()
            .filter(|_| self.is_logging || is_open || !profile.closes_maps())
    }

    pub(crate) fn holds_headers_mut(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Request => &mut self.holds_request_headers,
            Side::Response => &mut self.holds_response_headers,
        }
    }

    pub(crate) fn phase(&self, side: Side) -> Option<Phase> {
        match side {
            Side::Request => self.request_phase,
            Side::Response => self.response_phase,
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

/// The data that the callback of a call-out or foreign function may read.
#[derive(Default)]
pub(crate) struct CallData {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) initial_metadata: Option<HeaderMap>,
    pub(crate) trailing_metadata: Option<HeaderMap>,
    pub(crate) message: Option<Vec<u8>>,
    /// The arguments of a foreign function.
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

/// The state on which the host functions of one VM operate.
pub(crate) struct HostState {
    /// The options that the VM was started with; those of each plugin are in `plugins`.
    pub(crate) options: StartOptions,
    pub(crate) version: Version,
    pub(crate) limits: StoreLimits,
    /// The module's memory and allocator, looked up once after instantiation.
    pub(crate) memory: Option<Memory>,
    pub(crate) allocator: Option<TypedFunc<u32, u32>>,
    pub(crate) shared: Shared,
    /// This VM's number in the process.
    pub(crate) number: usize,
    /// True once the module is initialized; before that it may only log and call WASI.
    pub(crate) is_initialized: bool,
    /// True while the module's allocator runs, during which host calls that need the allocator fail.
    pub(crate) is_allocating: bool,
    /// The running callback.
    pub(crate) callback: &'static str,
    /// The lines that the running callback has logged as errors, in which a panic says why.
    pub(crate) error_lines: Vec<String>,
    /// The context on which host functions operate.
    pub(crate) effective: u32,
    /// The fuel that was left when fuel was last recorded.
    pub(crate) recorded_fuel: u64,
    pub(crate) plugins: BTreeMap<u32, PluginState>,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) records: BTreeMap<u32, Record>,
    /// Contexts whose `on_done` returned false, so that they wait for `proxy_done`.
    pub(crate) waiting_for_done: Vec<u32>,
    /// What callbacks requested, in order.
    pub(crate) requested: VecDeque<Requested>,
    pub(crate) calls: Calls,
    /// The chain of the running callback, if it is that of a call-out.
    pub(crate) chain: Option<Chain>,
    pub(crate) call_data: CallData,
    /// The status that `proxy_get_status` returns.
    pub(crate) status: (u32, String),
    /// The index of each of the module's metrics in the shared state, by id.
    pub(crate) metrics: Vec<usize>,
    pub(crate) random: u64,
    pub(crate) faults: Faults,
    /// The record of the running host call, if calls are traced.
    pub(crate) traced: Option<HostCall>,
}

impl HostState {
    pub(crate) fn new(
        options: StartOptions,
        version: Version,
        limits: StoreLimits,
        shared: Shared,
        number: usize,
    ) -> Self {
        let mut calls = Calls::default();
        calls.add_clusters(options.clusters.clone());
        Self {
            random: options.random_seed,
            faults: Faults::new(&options.faults),
            options,
            version,
            limits,
            memory: None,
            allocator: None,
            shared,
            number,
            is_initialized: false,
            is_allocating: false,
            callback: "",
            error_lines: Vec::new(),
            effective: FIRST_PLUGIN,
            recorded_fuel: 0,
            plugins: BTreeMap::new(),
            streams: BTreeMap::new(),
            records: BTreeMap::new(),
            waiting_for_done: Vec::new(),
            requested: VecDeque::new(),
            calls,
            chain: None,
            call_data: CallData::default(),
            status: (0, String::new()),
            metrics: Vec::new(),
            traced: None,
        }
    }

    /// Returns the stream on which host functions operate; `None` in a plugin's own context.
    pub(crate) fn stream(&mut self) -> Option<&mut StreamState> {
        self.streams.get_mut(&self.effective)
    }

    /// Returns the context of the plugin to which the effective context belongs.
    pub(crate) fn plugin_context(&self) -> u32 {
        self.streams
            .get(&self.effective)
            .map_or(self.effective, |stream| stream.plugin)
    }

    /// Returns the plugin to which the effective context belongs.
    pub(crate) fn plugin(&mut self) -> Option<&mut PluginState> {
        let context = self.plugin_context();
        self.plugins.get_mut(&context)
    }

    /// Returns true if a callback may be called for `context`.
    pub(crate) fn has_context(&self, context: u32) -> bool {
        self.plugins.contains_key(&context) || self.streams.contains_key(&context)
    }

    /// Returns true if `on_log` precedes `on_done` at the end of a stream. For a connection it never does.
    pub(crate) fn logs_before_done(&self, context: u32) -> bool {
        let stream = self.streams.get(&context);
        let is_connection = stream.is_some_and(|stream| stream.is_connection);
        self.options.profile.logs_before_done() && !is_connection
    }

    /// Returns the record of the effective context.
    pub(crate) fn record(&mut self) -> &mut Record {
        self.record_of(self.effective)
    }

    /// Returns the record of a context, or of its plugin if the context's outcome has already been returned.
    pub(crate) fn record_of(&mut self, context: u32) -> &mut Record {
        let stream = self.streams.get(&context);
        let finished = stream.filter(|stream| stream.is_finished);
        let context = finished.map_or(context, |stream| stream.plugin);
        self.records.entry(context).or_default()
    }

    /// Records for `context` the fuel used since this was last called.
    pub(crate) fn record_fuel(&mut self, context: u32, remaining: u64) {
        let used = self.recorded_fuel.saturating_sub(remaining);
        self.recorded_fuel = remaining;
        self.record_of(context).fuel += used;
    }

    /// Requests an action for the effective context.
    pub(crate) fn request(&mut self, action: Action) {
        self.requested.push_back(Requested {
            context: self.effective,
            callback: self.callback,
            action,
        });
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if level >= LogLevel::Error && self.error_lines.len() < MAX_ERROR_LINES {
            self.error_lines.push(text.clone().into_owned());
        }
        if level >= self.options.log_level {
            let text = text.into_owned();
            self.record().logs.push(LogLine { level, text });
        }
    }

    /// Takes the log lines of a plugin's own context.
    pub(crate) fn take_logs(&mut self, context: u32) -> Vec<LogLine> {
        self.records
            .remove(&context)
            .map_or_else(Vec::new, |record| record.logs)
    }

    /// Returns nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        self.shared.lock().now()
    }

    /// Returns the next 64 bits of a seeded sequence (SplitMix64, Steele et al. 2014), which is the same in every run.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The maximum number of error lines of a callback that are searched for the message of a panic.
const MAX_ERROR_LINES: usize = 64;

/// The id of the first plugin's context.
pub(crate) const FIRST_PLUGIN: u32 = 1;
