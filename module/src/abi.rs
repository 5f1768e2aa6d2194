//! Speaks Envoy's ABI for dynamic modules: declares the functions of Envoy, defines those that Envoy calls, and wraps both.
//!
//! The ABI is a C interface (Envoy: `source/extensions/dynamic_modules/abi/abi.h`). Envoy loads the library, and refuses the
//! configuration if one of its symbols is missing on either side. So only functions of Envoy 1.38.0 are declared here, and the
//! same file runs in 1.38, 1.39 and 1.40. Envoy compares the version that [`envoy_dynamic_module_on_program_init`] returns only
//! to warn about it; what was released is not changed.
//!
//! # What the unsafe code relies on
//!
//! Each `unsafe` block names the rules that it needs. Envoy promises:
//!
//! - **E1** A pointer that Envoy passes to a hook is valid until the hook returns. The pointer to the filter object is valid until
//!   [`envoy_dynamic_module_on_http_filter_destroy`] has returned, and its memory until Envoy's event loop runs again.
//! - **E2** Bytes that a function of Envoy hands out stay as they are until the hook returns or the module writes to the same
//!   header map or the same filter state. A null pointer has length 0.
//! - **E3** Bytes that the module hands in are only read, and not after the call has returned.
//! - **E4** All hooks of one stream run on one thread. Hooks of the configuration run on any thread, one after the other.
//! - **E5** A pointer that a hook has returned comes back unchanged, and not after the hook that destroys it.
//! - **E6** Functions of Envoy can be called with any value of an enum that they do not know: they return false.
//!
//! This module promises:
//!
//! - **M1** A value of `EnvoyStream` exists only during the hook that made it, and is never sent to another thread.
//! - **M2** What is read from Envoy is borrowed from `EnvoyStream`, and each write borrows it exclusively. So no bytes are used
//!   after a write (E2). The compiler checks it, through the trait [`Host`].
//! - **M3** No panic leaves a hook.

#![expect(
    unsafe_code,
    reason = "the ABI is a C interface: each call is one unsafe block with its reason"
)]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fluxlit_policy::{Header, Policy, Probe, ProbeOutcome};
use fluxlit_stream::{
    Attribute, CLIENT_KEY, Clock, Fields, Flow, Host, Map, Response, Stream, read_policy, refuse,
};
use log::{Level, LevelFilter, Log, Metadata, Record, error, info};

use crate::redirects::{self, EarlierPass, Identity};
use crate::{grpc, probes};

/// The filter object of Envoy for one stream, or the configuration object.
type EnvoyPtr = *mut c_void;

/// A pointer of this module that Envoy keeps.
type ModulePtr = *const c_void;

/// Bytes of Envoy (`envoy_dynamic_module_type_envoy_buffer`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvoyBuffer {
    /// The first byte; null if there are none.
    pub pointer: *const c_char,
    /// Their number.
    pub length: usize,
}

/// Bytes of this module (`envoy_dynamic_module_type_module_buffer`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModuleBuffer {
    /// The first byte; null means that there is no value.
    pub pointer: *const c_char,
    /// Their number.
    pub length: usize,
}

/// A header line of Envoy (`envoy_dynamic_module_type_envoy_http_header`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvoyHeader {
    /// The name, in lower case.
    pub name: EnvoyBuffer,
    /// The value.
    pub value: EnvoyBuffer,
}

/// A header line of this module (`envoy_dynamic_module_type_module_http_header`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModuleHeader {
    /// The name, in lower case.
    pub name: ModuleBuffer,
    /// The value.
    pub value: ModuleBuffer,
}

// All of them are in Envoy 1.38.0 and later. "C-unwind", so that a program that stands in for Envoy in a test can panic.
unsafe extern "C-unwind" {
    /// Writes a line to Envoy's log, as the component `dynamic_modules`. `level`: see [`log_level`].
    fn envoy_dynamic_module_callback_log(level: u32, message: ModuleBuffer);

    /// Returns true if Envoy writes lines of this level.
    fn envoy_dynamic_module_callback_log_enabled(level: u32) -> bool;

    /// Defines a counter while the configuration is read, here without labels, and writes its number to `id`. Returns 0 on
    /// success. Envoy shows it as `dynamicmodulescustom.NAME`.
    fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        configuration: EnvoyPtr,
        name: ModuleBuffer,
        label_names: *mut ModuleBuffer,
        label_names_length: usize,
        id: *mut usize,
    ) -> u32;

    /// Adds to a counter of the filter's configuration. Returns 0 on success.
    fn envoy_dynamic_module_callback_http_filter_increment_counter(
        filter: EnvoyPtr,
        id: usize,
        label_values: *mut ModuleBuffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;

    /// Returns the number of lines in a header map; 0 if there is no such map. `map`: see [`map_type`].
    fn envoy_dynamic_module_callback_http_get_headers_size(filter: EnvoyPtr, map: u32) -> usize;

    /// Writes all lines of a header map to `lines`, which must have room for as many as the function above has returned.
    /// Returns false if there is no such map.
    fn envoy_dynamic_module_callback_http_get_headers(
        filter: EnvoyPtr,
        map: u32,
        lines: *mut EnvoyHeader,
    ) -> bool;

    /// Writes the value of the line `index` of a field to `value`, and the number of its lines to `count` unless that is null.
    /// Returns false if there is no such line.
    fn envoy_dynamic_module_callback_http_get_header(
        filter: EnvoyPtr,
        map: u32,
        name: ModuleBuffer,
        value: *mut EnvoyBuffer,
        index: usize,
        count: *mut usize,
    ) -> bool;

    /// Adds a line after those that the field has. Returns false if there is no such map. Envoy does not check the value.
    fn envoy_dynamic_module_callback_http_add_header(
        filter: EnvoyPtr,
        map: u32,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;

    /// Replaces all lines of a field by one; with a null value, removes them. Returns false if there is no such map. Envoy does
    /// not check the value.
    fn envoy_dynamic_module_callback_http_set_header(
        filter: EnvoyPtr,
        map: u32,
        name: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;

    /// Responds in place of the upstream. A gRPC client gets `grpc-status: 0`, whatever the status is. Envoy adds `content-length` and, if there is a body and no other one, `content-type:
    /// text/plain`. It calls no response hook of this module for this response. `details` appear in access logs as
    /// `%RESPONSE_CODE_DETAILS%`.
    fn envoy_dynamic_module_callback_http_send_response(
        filter: EnvoyPtr,
        status: u32,
        fields: *mut ModuleHeader,
        fields_length: usize,
        body: ModuleBuffer,
        details: ModuleBuffer,
    );

    /// Sends the headers of a response in place of the upstream's, with `:status` among the fields; the response ends if
    /// `is_last`.
    fn envoy_dynamic_module_callback_http_send_response_headers(
        filter: EnvoyPtr,
        fields: *mut ModuleHeader,
        fields_length: usize,
        is_last: bool,
    );

    /// Writes the filter state under `key` to `value` if it is text, whoever has stored it: the listener's `set_filter_state` or
    /// a module. Returns false otherwise.
    fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        filter: EnvoyPtr,
        key: ModuleBuffer,
        value: *mut EnvoyBuffer,
    ) -> bool;

    /// Stores text in the filter state, for one pass of the filter chain and so that it cannot be replaced. Returns false if
    /// there is no stream.
    fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        filter: EnvoyPtr,
        key: ModuleBuffer,
        value: ModuleBuffer,
    ) -> bool;

    /// Writes an attribute that is text to `value`. Returns false if it is absent or not text. `attribute`: see
    /// [`attribute_id`].
    fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        filter: EnvoyPtr,
        attribute: u32,
        value: *mut EnvoyBuffer,
    ) -> bool;

    /// The same for an attribute that is a number.
    fn envoy_dynamic_module_callback_http_filter_get_attribute_int(
        filter: EnvoyPtr,
        attribute: u32,
        value: *mut u64,
    ) -> bool;

    /// The same for an attribute that is true or false.
    fn envoy_dynamic_module_callback_http_filter_get_attribute_bool(
        filter: EnvoyPtr,
        attribute: u32,
        value: *mut bool,
    ) -> bool;

    /// Makes Envoy select the route again, for the request headers and the filter state as they are now.
    fn envoy_dynamic_module_callback_http_clear_route_cache(filter: EnvoyPtr);
}

/// `envoy_dynamic_module_type_http_header_type`.
fn map_type(map: Map) -> u32 {
    match map {
        Map::RequestHeaders => 0,
        Map::RequestTrailers => 1,
        Map::ResponseHeaders => 2,
    }
}

/// `envoy_dynamic_module_type_attribute_id`. Later versions add numbers at the end only.
fn attribute_id(attribute: Attribute) -> u32 {
    match attribute {
        Attribute::Protocol => 10,
        Attribute::SourceAddress => 24,
        Attribute::TlsVersion => 31,
        Attribute::UriName => 37,
    }
}

const CONNECTION_ID: u32 = 28;
const CONNECTION_MTLS: u32 = 29;

/// `envoy_dynamic_module_type_log_level`.
fn log_level(level: Level) -> u32 {
    match level {
        Level::Trace => 0,
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    }
}

/// `..._status_Continue` of every hook that returns a status.
const CONTINUE: u32 = 0;

/// `..._status_StopIteration` of the hooks for headers and trailers.
const STOP_ITERATION: u32 = 1;

/// `envoy_dynamic_module_type_metrics_result_Success`.
const SUCCESS: u32 = 0;

/// The version of the ABI that this module was written for. Envoy 1.38 and 1.39 warn that it is another one than theirs.
const VERSION: &CStr = c"v0.2.0";

/// The field by which Envoy tells that it has redirected a request internally.
const ORIGINAL_URL: &str = "x-envoy-original-url";

/// What access logs show for responses of this module.
const DETAILS: &[u8] = b"fluxlit";

impl EnvoyBuffer {
    const EMPTY: Self = Self {
        pointer: ptr::null(),
        length: 0,
    };

    /// Returns the bytes.
    ///
    /// # Safety
    ///
    /// They must be valid, and not change, for the lifetime that the caller chooses.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.pointer.is_null() {
            return b"";
        }
        // SAFETY: the caller's promise; the pointer is not null, and bytes have no alignment.
        unsafe { std::slice::from_raw_parts(self.pointer.cast(), self.length) }
    }
}

impl ModuleBuffer {
    const NULL: Self = Self {
        pointer: ptr::null(),
        length: 0,
    };

    /// The result must not be used after `bytes` have ended: callers pass it to one call of Envoy (E3).
    fn of(bytes: &[u8]) -> Self {
        Self {
            // Not null, even for an empty slice.
            pointer: bytes.as_ptr().cast(),
            length: bytes.len(),
        }
    }
}

impl ModuleHeader {
    /// As for [`ModuleBuffer::of`], the result must not be used after the field has ended.
    fn of((name, value): &(&str, &[u8])) -> Self {
        Self {
            name: ModuleBuffer::of(name.as_bytes()),
            value: ModuleBuffer::of(value),
        }
    }
}

/// What all streams of one configuration share.
type Plugin = fluxlit_stream::Plugin<EnvoyStream>;

/// One configuration of the filter.
struct Configuration {
    /// Different for each configuration of the process.
    number: u64,
    plugin: Plugin,
}

/// One stream.
struct StreamContext {
    configuration: Arc<Configuration>,
    stream: Stream,
    /// The pass of a request that has ended just before this stream was made, if one has.
    earlier: Option<EarlierPass>,
    /// True from the time that the request was handed on until there is a response.
    is_waiting: bool,
    /// `x-envoy-original-url` as it was handed on.
    original_url: Option<Vec<u8>>,
}

/// A stream during one hook (M1).
struct EnvoyStream {
    filter: EnvoyPtr,
    /// What was stored as the client in an earlier pass of this request.
    earlier_client: Option<Vec<u8>>,
}

impl Host for EnvoyStream {
    type Bytes<'a> = &'a [u8];
    type Fields<'a> = Lines<'a>;
    type Clock = SinceStart;
    type Counter = usize;

    const SEES_OWN_REPLIES: bool = false;
    const WRITES_SELECT_ROUTE: bool = false;

    fn fields(&self, map: Map) -> Lines<'_> {
        // SAFETY: the pointer is valid (E1, M1).
        let count = unsafe {
            envoy_dynamic_module_callback_http_get_headers_size(self.filter, map_type(map))
        };
        let empty = EnvoyHeader {
            name: EnvoyBuffer::EMPTY,
            value: EnvoyBuffer::EMPTY,
        };
        let mut lines = vec![empty; count];
        // SAFETY: the pointer is valid (E1, M1), and there is room for as many lines as Envoy has just counted.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_get_headers(
                self.filter,
                map_type(map),
                lines.as_mut_ptr(),
            )
        };
        if !is_there {
            lines.clear();
        }
        Lines {
            lines,
            _stream: self,
        }
    }

    fn attribute(&self, attribute: Attribute) -> Option<&[u8]> {
        let mut value = EnvoyBuffer::EMPTY;
        // SAFETY: the pointer is valid (E1, M1), and `value` can be written.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.filter,
                attribute_id(attribute),
                &raw mut value,
            )
        };
        // SAFETY: the bytes are valid while the stream is borrowed (E2, M2).
        let value = unsafe { value.bytes() };
        (is_there && !value.is_empty()).then_some(value)
    }

    fn is_mutual_tls(&self) -> bool {
        let mut value = false;
        // SAFETY: the pointer is valid (E1, M1), and `value` can be written.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_filter_get_attribute_bool(
                self.filter,
                CONNECTION_MTLS,
                &raw mut value,
            )
        };
        is_there && value
    }

    fn filter_state(&self, key: &str) -> Option<&[u8]> {
        let mut value = EnvoyBuffer::EMPTY;
        // SAFETY: the pointer is valid (E1, M1), the key outlives the call (E3), and `value` can be written.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_get_filter_state_bytes(
                self.filter,
                ModuleBuffer::of(key.as_bytes()),
                &raw mut value,
            )
        };
        // SAFETY: the bytes are valid while the stream is borrowed (E2, M2).
        let value = unsafe { value.bytes() };
        is_there.then_some(value)
    }

    fn add(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        // SAFETY: the pointer is valid (E1, M1), and the bytes outlive the call (E3).
        unsafe {
            envoy_dynamic_module_callback_http_add_header(
                self.filter,
                map_type(map),
                ModuleBuffer::of(name.as_bytes()),
                ModuleBuffer::of(value),
            )
        }
    }

    fn replace(&mut self, map: Map, name: &str, value: &[u8]) -> bool {
        self.set_header(map, name, ModuleBuffer::of(value))
    }

    fn remove(&mut self, map: Map, name: &str) -> bool {
        self.set_header(map, name, ModuleBuffer::NULL)
    }

    fn store_client(&mut self, text: &[u8]) {
        // Envoy counts a second write as a fault of its own.
        if self.filter_state(CLIENT_KEY).is_some() {
            return;
        }
        // SAFETY: the pointer is valid (E1, M1), and the bytes outlive the call (E3).
        let _ = unsafe {
            envoy_dynamic_module_callback_http_set_filter_state_bytes(
                self.filter,
                ModuleBuffer::of(CLIENT_KEY.as_bytes()),
                ModuleBuffer::of(text),
            )
        };
    }

    fn stored_client(&self) -> Option<&[u8]> {
        self.filter_state(CLIENT_KEY)
            .or(self.earlier_client.as_deref())
    }

    fn select_route_again(&mut self) {
        // SAFETY: the pointer is valid (E1, M1).
        unsafe { envoy_dynamic_module_callback_http_clear_route_cache(self.filter) };
    }

    fn send_reply(&mut self, response: &Response<'_>) -> bool {
        let content_type = self.request_header("content-type");
        if content_type.is_some_and(grpc::is_content_type) {
            self.send_grpc_status(response);
            return true;
        }
        let mut fields: Vec<ModuleHeader> = response.fields.iter().map(ModuleHeader::of).collect();
        // SAFETY: the pointer is valid (E1, M1), and all bytes outlive the call (E3). Envoy can call hooks of this stream from
        // here, and even destroy it; `StreamPtr` is made for that.
        unsafe {
            envoy_dynamic_module_callback_http_send_response(
                self.filter,
                u32::from(response.status),
                fields.as_mut_ptr(),
                fields.len(),
                ModuleBuffer::of(response.body),
                ModuleBuffer::of(DETAILS),
            );
        }
        true
    }

    fn count(&self, counter: &usize, by: u32) {
        // SAFETY: the pointer is valid (E1, M1). The counter has no labels, so none are passed.
        let _ = unsafe {
            envoy_dynamic_module_callback_http_filter_increment_counter(
                self.filter,
                *counter,
                ptr::null_mut(),
                0,
                u64::from(by),
            )
        };
    }

    fn admit(&self, probe: &Probe) -> ProbeOutcome {
        probes::admit(probe)
    }
}

impl EnvoyStream {
    /// Sends a response that has no content: gRPC clients read the status and the message in the headers.
    fn send_grpc_status(&mut self, response: &Response<'_>) {
        let message = grpc::message(response.body);
        let own: [(&str, &[u8]); 4] = [
            (":status", b"200"),
            ("content-type", b"application/grpc"),
            ("grpc-status", grpc::status(response.status).as_bytes()),
            ("grpc-message", message.as_bytes()),
        ];
        let mut fields: Vec<ModuleHeader> = own
            .iter()
            .chain(response.fields)
            .map(ModuleHeader::of)
            .collect();
        // SAFETY: as in `send_reply`.
        unsafe {
            envoy_dynamic_module_callback_http_send_response_headers(
                self.filter,
                fields.as_mut_ptr(),
                fields.len(),
                true,
            );
        }
    }

    fn set_header(&mut self, map: Map, name: &str, value: ModuleBuffer) -> bool {
        // SAFETY: the pointer is valid (E1, M1), and the bytes outlive the call (E3).
        unsafe {
            envoy_dynamic_module_callback_http_set_header(
                self.filter,
                map_type(map),
                ModuleBuffer::of(name.as_bytes()),
                value,
            )
        }
    }

    /// Returns the first line of a request field.
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        let mut value = EnvoyBuffer::EMPTY;
        // SAFETY: the pointer is valid (E1, M1), the name outlives the call (E3), and `value` can be written; Envoy writes no
        // count to a null pointer.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_get_header(
                self.filter,
                map_type(Map::RequestHeaders),
                ModuleBuffer::of(name.as_bytes()),
                &raw mut value,
                0,
                ptr::null_mut(),
            )
        };
        // SAFETY: the bytes are valid while the stream is borrowed (E2, M2).
        let value = unsafe { value.bytes() };
        is_there.then_some(value)
    }

    /// Returns what identifies the request over its passes; `None` if it was not redirected.
    fn identity(&self, policy: &Policy) -> Option<Identity> {
        let original_url = self.request_header(ORIGINAL_URL)?.to_vec();
        let mut connection = 0;
        // SAFETY: the pointer is valid (E1, M1), and `connection` can be written.
        let is_there = unsafe {
            envoy_dynamic_module_callback_http_filter_get_attribute_int(
                self.filter,
                CONNECTION_ID,
                &raw mut connection,
            )
        };
        let map = self.fields(Map::RequestHeaders);
        let governed = map
            .iter()
            .filter(|(name, _)| name.starts_with(b":") || policy.governs(name))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        is_there.then_some(Identity {
            connection,
            original_url,
            governed,
        })
    }
}

/// A header map, in Envoy's memory.
struct Lines<'a> {
    lines: Vec<EnvoyHeader>,
    /// Nothing is written while the lines exist (M2).
    _stream: &'a EnvoyStream,
}

impl Fields for Lines<'_> {
    fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        self.lines.iter().map(|line| {
            // SAFETY: the bytes are valid while the stream is borrowed (E2, M2).
            let name = unsafe { line.name.bytes() };
            // SAFETY: as above.
            let value = unsafe { line.value.bytes() };
            (name, value)
        })
    }
}

/// Measures the time since the configuration was read.
struct SinceStart(Instant);

impl Clock for SinceStart {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Writes to Envoy's log.
struct EnvoyLog;

impl Log for EnvoyLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: the function can be called at any time, from any thread.
        unsafe { envoy_dynamic_module_callback_log_enabled(log_level(metadata.level())) }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = format!("fluxlit: {}", record.args());
            // SAFETY: as above; the text outlives the call (E3).
            unsafe {
                envoy_dynamic_module_callback_log(
                    log_level(record.level()),
                    ModuleBuffer::of(text.as_bytes()),
                );
            }
        }
    }

    fn flush(&self) {}
}

/// A stream as Envoy keeps it. While a hook uses the stream, Envoy can call another hook of it, and destroy it: when a
/// response is sent. So a hook holds a reference of its own, and a hook within a hook finds the stream in use.
type StreamPtr = Rc<RefCell<StreamContext>>;

/// Returns the stream that a hook is for.
///
/// # Safety
///
/// `stream` must be a pointer that [`envoy_dynamic_module_on_http_filter_new`] has returned and that was not destroyed.
unsafe fn stream_of(stream: ModulePtr) -> StreamPtr {
    let stream: *const RefCell<StreamContext> = stream.cast();
    // SAFETY: the caller's promise. Nothing else counts references of this stream at this time (E4).
    unsafe { Rc::increment_strong_count(stream) };
    // SAFETY: the caller's promise, and the reference that was just added.
    unsafe { Rc::from_raw(stream) }
}

/// Runs a hook for headers or trailers; a panic becomes a 500 for this request.
fn process(
    filter: EnvoyPtr,
    stream: &StreamPtr,
    work: impl FnOnce(&mut StreamContext, &mut EnvoyStream) -> Flow,
) -> u32 {
    let worked = catch_unwind(AssertUnwindSafe(|| {
        let Ok(mut context) = stream.try_borrow_mut() else {
            // Envoy asks about a response that this module is sending.
            return Flow::Continue;
        };
        let mut host = EnvoyStream {
            filter,
            earlier_client: None,
        };
        if let Some(earlier) = context.earlier.take()
            && host.identity(context.configuration.plugin.policy()) == Some(earlier.identity)
        {
            host.earlier_client = Some(earlier.client);
        }
        work(&mut context, &mut host)
    }));
    match worked {
        Ok(Flow::Continue) => CONTINUE,
        Ok(Flow::Stop) => STOP_ITERATION,
        Err(_) => {
            let refused = catch_unwind(AssertUnwindSafe(|| {
                let context = stream.try_borrow().ok();
                let decided = context.as_ref().and_then(|context| {
                    let exchange = context.stream.exchange()?;
                    Some((&context.configuration.plugin, exchange))
                });
                let mut host = EnvoyStream {
                    filter,
                    earlier_client: None,
                };
                refuse(&mut host, decided, "the module has panicked");
            }));
            // The stream stays stopped, whether a response was sent or not.
            drop(refused);
            STOP_ITERATION
        }
    }
}

/// Runs a hook that has no one to tell about a panic.
fn quietly<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Envoy has loaded the module. Returns the version of the ABI.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    // Fails if the module was loaded before.
    let _ = log::set_logger(&EnvoyLog);
    // Envoy applies its own level, which operators can change at run time.
    log::set_max_level(LevelFilter::Trace);
    VERSION.as_ptr()
}

/// Envoy reads a configuration of the filter. Returns null if it is invalid; then Envoy refuses it.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: EnvoyPtr,
    _name: EnvoyBuffer,
    text: EnvoyBuffer,
) -> ModulePtr {
    // SAFETY: Envoy passes valid bytes, which are not used after this hook (E1).
    let text = unsafe { text.bytes() };
    quietly(ptr::null(), || {
        // Before the configuration is read, so that the log of a refused one has it, too.
        info!("fluxlit-module {}", fluxlit_stream::VERSION);
        let Some(policy) = read_policy(text) else {
            return ptr::null();
        };
        if policy.answers_probes() {
            probes::prepare();
        }
        let define = |name: &str| {
            let mut id = 0;
            // SAFETY: the pointer is valid (E1), the name outlives the call (E3), there are no labels, and `id` can be
            // written.
            let result = unsafe {
                envoy_dynamic_module_callback_http_filter_config_define_counter(
                    envoy,
                    ModuleBuffer::of(name.as_bytes()),
                    ptr::null_mut(),
                    0,
                    &raw mut id,
                )
            };
            (result == SUCCESS).then_some(id)
        };
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let configuration = Configuration {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            plugin: Plugin::new(policy, SinceStart(Instant::now()), define),
        };
        Arc::into_raw(Arc::new(configuration)).cast()
    })
}

/// Envoy gives up a configuration.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_config_destroy(
    configuration: ModulePtr,
) {
    if !configuration.is_null() {
        // SAFETY: the pointer is that of `Arc::into_raw` above, and is given up here (E5).
        let configuration: Arc<Configuration> = unsafe { Arc::from_raw(configuration.cast()) };
        quietly((), || drop(configuration));
    }
}

/// Envoy reads a configuration for a route. There is none, so Envoy refuses it: a route that silently had other rules than the
/// listener would not be safe.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    _name: EnvoyBuffer,
    _text: EnvoyBuffer,
) -> ModulePtr {
    quietly((), || {
        error!(
            "configuration refused: settings cannot differ by route; use \"mounts\" in the configuration of the filter"
        );
    });
    ptr::null()
}

/// Never called, because there is no configuration for a route.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(
    _configuration: ModulePtr,
) {
}

/// Envoy makes the filter of a stream.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_new(
    configuration: ModulePtr,
    _filter: EnvoyPtr,
) -> ModulePtr {
    let configuration: *const Configuration = configuration.cast();
    // SAFETY: the pointer is that of `Arc::into_raw` and was not given up (E5); the count is atomic.
    unsafe { Arc::increment_strong_count(configuration) };
    // SAFETY: as above, and the reference that was just added.
    let configuration = unsafe { Arc::from_raw(configuration) };
    quietly(ptr::null(), || {
        let context = StreamContext {
            earlier: redirects::take(configuration.number),
            configuration,
            stream: Stream::default(),
            is_waiting: false,
            original_url: None,
        };
        Rc::into_raw(Rc::new(RefCell::new(context))).cast()
    })
}

/// The headers of a request have arrived.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_request_headers(
    filter: EnvoyPtr,
    stream: ModulePtr,
    _is_last: bool,
) -> u32 {
    // SAFETY: Envoy passes what `..._filter_new` has returned (E5).
    let stream = unsafe { stream_of(stream) };
    process(filter, &stream, |context, host| {
        let plugin = &context.configuration.plugin;
        let flow = context.stream.request_headers(host, plugin);
        context.is_waiting = flow == Flow::Continue;
        if context.stream.has_original_url() {
            context.original_url = host.request_header(ORIGINAL_URL).map(<[u8]>::to_vec);
        }
        flow
    })
}

/// A part of a request's content has arrived.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_request_body(
    _filter: EnvoyPtr,
    _stream: ModulePtr,
    _is_last: bool,
) -> u32 {
    CONTINUE
}

/// The trailers of a request have arrived.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_request_trailers(
    filter: EnvoyPtr,
    stream: ModulePtr,
) -> u32 {
    // SAFETY: Envoy passes what `..._filter_new` has returned (E5).
    let stream = unsafe { stream_of(stream) };
    process(filter, &stream, |context, host| {
        let plugin = &context.configuration.plugin;
        context.stream.request_trailers(host, plugin)
    })
}

/// The headers of a response have arrived, of the upstream or of Envoy itself.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_response_headers(
    filter: EnvoyPtr,
    stream: ModulePtr,
    _is_last: bool,
) -> u32 {
    // SAFETY: Envoy passes what `..._filter_new` has returned (E5).
    let stream = unsafe { stream_of(stream) };
    process(filter, &stream, |context, host| {
        context.is_waiting = false;
        let plugin = &context.configuration.plugin;
        context.stream.response_headers(host, plugin)
    })
}

/// A part of a response's content has arrived.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_response_body(
    _filter: EnvoyPtr,
    _stream: ModulePtr,
    _is_last: bool,
) -> u32 {
    CONTINUE
}

/// The trailers of a response have arrived.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_response_trailers(
    _filter: EnvoyPtr,
    _stream: ModulePtr,
) -> u32 {
    CONTINUE
}

/// The stream ends, also if its request is redirected internally: see `redirects`.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_stream_complete(
    filter: EnvoyPtr,
    stream: ModulePtr,
) {
    // SAFETY: Envoy passes what `..._filter_new` has returned (E5).
    let stream = unsafe { stream_of(stream) };
    quietly((), || {
        let Ok(context) = stream.try_borrow() else {
            return;
        };
        if !context.is_waiting {
            return;
        }
        let host = EnvoyStream {
            filter,
            earlier_client: None,
        };
        let Some(identity) = host.identity(context.configuration.plugin.policy()) else {
            return;
        };
        // A client can end a stream early, but it cannot change this field.
        if context.original_url.as_ref() == Some(&identity.original_url) {
            return;
        }
        if let Some(client) = host.filter_state(CLIENT_KEY) {
            redirects::remember(EarlierPass {
                configuration: context.configuration.number,
                identity,
                client: client.to_vec(),
            });
        }
    });
}

/// Envoy destroys the filter of a stream.
///
/// # Safety
///
/// Only Envoy calls it.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn envoy_dynamic_module_on_http_filter_destroy(stream: ModulePtr) {
    if !stream.is_null() {
        // SAFETY: the pointer is that of `Rc::into_raw` above, and is given up here (E5), on the thread of the stream (E4).
        let stream: StreamPtr = unsafe { Rc::from_raw(stream.cast()) };
        quietly((), || drop(stream));
    }
}

/// Envoy sends a response of its own, or one of this module.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn envoy_dynamic_module_on_http_filter_local_reply(
    _filter: EnvoyPtr,
    _stream: ModulePtr,
    _status: u32,
    _details: EnvoyBuffer,
    _resets: bool,
) -> u32 {
    CONTINUE
}

/// Defines hooks for what this module never asks Envoy for: requests of its own, events, watermarks. Envoy looks for all of them.
macro_rules! unused_hooks {
    ($($name:ident($($argument:ty),*);)+) => {
        $(
            /// Does nothing.
            #[unsafe(no_mangle)]
            pub extern "C-unwind" fn $name($(_: $argument),*) {}
        )+
    };
}

unused_hooks! {
    envoy_dynamic_module_on_http_filter_http_callout_done(
        EnvoyPtr, ModulePtr, u64, u32, *mut EnvoyHeader, usize, *mut EnvoyBuffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        EnvoyPtr, ModulePtr, u64, *mut EnvoyHeader, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        EnvoyPtr, ModulePtr, u64, *const EnvoyBuffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        EnvoyPtr, ModulePtr, u64, *mut EnvoyHeader, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(EnvoyPtr, ModulePtr, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(EnvoyPtr, ModulePtr, u64, u32);
    envoy_dynamic_module_on_http_filter_scheduled(EnvoyPtr, ModulePtr, u64);
    envoy_dynamic_module_on_http_filter_config_scheduled(EnvoyPtr, ModulePtr, u64);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
        EnvoyPtr, ModulePtr
    );
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
        EnvoyPtr, ModulePtr
    );
    envoy_dynamic_module_on_http_filter_config_http_callout_done(
        EnvoyPtr, ModulePtr, u64, u32, *mut EnvoyHeader, usize, *mut EnvoyBuffer, usize
    );
    envoy_dynamic_module_on_http_filter_config_http_stream_headers(
        EnvoyPtr, ModulePtr, u64, *mut EnvoyHeader, usize, bool
    );
    envoy_dynamic_module_on_http_filter_config_http_stream_data(
        EnvoyPtr, ModulePtr, u64, *const EnvoyBuffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_config_http_stream_trailers(
        EnvoyPtr, ModulePtr, u64, *mut EnvoyHeader, usize
    );
    envoy_dynamic_module_on_http_filter_config_http_stream_complete(EnvoyPtr, ModulePtr, u64);
    envoy_dynamic_module_on_http_filter_config_http_stream_reset(EnvoyPtr, ModulePtr, u64, u32);
}

/// A configuration is used by all workers.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Configuration>();
};
