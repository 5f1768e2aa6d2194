//! Defines the functions of Envoy in memory, so that the module can be called without Envoy: with any bytes, and with faults.
//!
//! Each thread has one stream. A null pointer is passed as the filter object, which only Envoy would read.

#![expect(unsafe_code, reason = "it defines the other side of the C interface")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a fault of the test itself ends the test"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

use fluxlit_module::abi::{self, EnvoyBuffer, EnvoyHeader, ModuleBuffer, ModuleHeader};

/// A header map.
pub(crate) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// What Envoy knows about one stream.
#[derive(Default)]
pub(crate) struct Envoy {
    /// Headers of the request, trailers of the request, headers of the response.
    pub(crate) maps: [Lines; 3],
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) texts: BTreeMap<u32, Vec<u8>>,
    pub(crate) connection: u64,
    pub(crate) is_mutual_tls: bool,
    pub(crate) reply: Option<(u32, Lines, Vec<u8>)>,
    pub(crate) log: Vec<String>,
    pub(crate) counters: Vec<(String, u64)>,
    /// The function that panics when it is called.
    pub(crate) fault: Option<&'static str>,
}

thread_local! {
    static ENVOY: RefCell<Envoy> = RefCell::default();
}

/// Reads or changes the stream of this thread.
pub(crate) fn envoy<T>(work: impl FnOnce(&mut Envoy) -> T) -> T {
    ENVOY.with_borrow_mut(work)
}

fn in_function<T>(name: &str, work: impl FnOnce(&mut Envoy) -> T) -> T {
    envoy(|envoy| {
        assert!(envoy.fault != Some(name), "the fault of this test");
        work(envoy)
    })
}

fn bytes(buffer: ModuleBuffer) -> Vec<u8> {
    // SAFETY: the module passes valid bytes.
    unsafe { std::slice::from_raw_parts(buffer.pointer.cast::<u8>(), buffer.length) }.to_vec()
}

fn lent(bytes: &[u8]) -> EnvoyBuffer {
    EnvoyBuffer {
        pointer: bytes.as_ptr().cast(),
        length: bytes.len(),
    }
}

/// The configuration of the module; dropping it ends it.
pub(crate) struct Module(*const c_void);

impl Module {
    /// Configures the module; `None` if it refuses.
    pub(crate) fn configure(text: &str) -> Option<Self> {
        abi::envoy_dynamic_module_on_program_init();
        // SAFETY: the bytes outlive the call.
        let module = unsafe {
            abi::envoy_dynamic_module_on_http_filter_config_new(
                ptr::null_mut(),
                lent(b"fluxlit"),
                lent(text.as_bytes()),
            )
        };
        (!module.is_null()).then_some(Self(module))
    }

    /// Begins a stream.
    pub(crate) fn stream(&self) -> Stream {
        // SAFETY: the configuration has not ended.
        Stream(unsafe { abi::envoy_dynamic_module_on_http_filter_new(self.0, ptr::null_mut()) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: it has not ended.
        unsafe { abi::envoy_dynamic_module_on_http_filter_config_destroy(self.0) };
    }
}

/// A stream of the module; dropping it destroys it.
pub(crate) struct Stream(*const c_void);

impl Stream {
    /// Returns true if the module lets the message pass.
    pub(crate) fn request_headers(&self) -> bool {
        // SAFETY: the stream was not destroyed.
        let status = unsafe {
            abi::envoy_dynamic_module_on_http_filter_request_headers(ptr::null_mut(), self.0, true)
        };
        status == 0
    }

    pub(crate) fn request_trailers(&self) -> bool {
        // SAFETY: the stream was not destroyed.
        let status = unsafe {
            abi::envoy_dynamic_module_on_http_filter_request_trailers(ptr::null_mut(), self.0)
        };
        status == 0
    }

    pub(crate) fn response_headers(&self) -> bool {
        // SAFETY: the stream was not destroyed.
        let status = unsafe {
            abi::envoy_dynamic_module_on_http_filter_response_headers(ptr::null_mut(), self.0, true)
        };
        status == 0
    }

    pub(crate) fn complete(&self) {
        // SAFETY: the stream was not destroyed.
        unsafe {
            abi::envoy_dynamic_module_on_http_filter_stream_complete(ptr::null_mut(), self.0);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: it was not destroyed.
        unsafe { abi::envoy_dynamic_module_on_http_filter_destroy(self.0) };
    }
}

/// Defines functions of Envoy.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)+) => {
        $(
            // SAFETY: no other function has this name: there is no Envoy in this program.
            #[unsafe(no_mangle)]
            extern "C-unwind" fn $name($($argument: $type),*) $(-> $result)? $body
        )+
    };
}

functions! {
    fn envoy_dynamic_module_callback_log(_level: u32, message: ModuleBuffer) {
        let text = String::from_utf8_lossy(&bytes(message)).into_owned();
        envoy(|envoy| envoy.log.push(text));
    }

    fn envoy_dynamic_module_callback_log_enabled(_level: u32) -> bool {
        true
    }

    fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        _config: *mut c_void, name: ModuleBuffer, _labels: *mut ModuleBuffer, _count: usize, id: *mut usize,
    ) -> u32 {
        let name = String::from_utf8_lossy(&bytes(name)).into_owned();
        let place = envoy(|envoy| {
            envoy.counters.push((name, 0));
            envoy.counters.len() - 1
        });
        // SAFETY: the module passes a place to write to.
        unsafe { id.write(place) };
        0
    }

    fn envoy_dynamic_module_callback_http_filter_increment_counter(
        _filter: *mut c_void, id: usize, _labels: *mut ModuleBuffer, _count: usize, value: u64,
    ) -> u32 {
        in_function("increment_counter", |envoy| envoy.counters[id].1 += value);
        0
    }

    fn envoy_dynamic_module_callback_http_get_headers_size(_filter: *mut c_void, map: u32) -> usize {
        in_function("get_headers_size", |envoy| envoy.maps[map as usize].len())
    }

    fn envoy_dynamic_module_callback_http_get_headers(
        _filter: *mut c_void, map: u32, lines: *mut EnvoyHeader,
    ) -> bool {
        in_function("get_headers", |envoy| {
            for (place, (name, value)) in envoy.maps[map as usize].iter().enumerate() {
                // SAFETY: the module has room for as many lines as there are.
                unsafe { lines.add(place).write(EnvoyHeader { name: lent(name), value: lent(value) }) };
            }
        });
        true
    }

    fn envoy_dynamic_module_callback_http_get_header(
        _filter: *mut c_void, map: u32, name: ModuleBuffer, value: *mut EnvoyBuffer, index: usize, _count: *mut usize,
    ) -> bool {
        let name = bytes(name);
        envoy(|envoy| {
            let mut lines = envoy.maps[map as usize].iter().filter(|(other, _)| *other == name);
            let line = lines.nth(index);
            // SAFETY: the module passes a place to write to.
            line.map(|(_, found)| unsafe { value.write(lent(found)) }).is_some()
        })
    }

    fn envoy_dynamic_module_callback_http_add_header(
        _filter: *mut c_void, map: u32, name: ModuleBuffer, value: ModuleBuffer,
    ) -> bool {
        let line = (bytes(name), bytes(value));
        in_function("add_header", |envoy| envoy.maps[map as usize].push(line));
        true
    }

    fn envoy_dynamic_module_callback_http_set_header(
        _filter: *mut c_void, map: u32, name: ModuleBuffer, value: ModuleBuffer,
    ) -> bool {
        let name = bytes(name);
        let value = (!value.pointer.is_null()).then(|| bytes(value));
        in_function("set_header", |envoy| {
            let lines = &mut envoy.maps[map as usize];
            lines.retain(|(other, _)| *other != name);
            lines.extend(value.map(|value| (name, value)));
        });
        true
    }

    fn envoy_dynamic_module_callback_http_send_response(
        _filter: *mut c_void, status: u32, fields: *mut ModuleHeader, count: usize, body: ModuleBuffer, _details: ModuleBuffer,
    ) {
        // SAFETY: the module passes valid fields.
        let fields = unsafe { std::slice::from_raw_parts(fields, count) };
        let fields = fields.iter().map(|field| (bytes(field.name), bytes(field.value))).collect();
        let body = bytes(body);
        envoy(|envoy| envoy.reply = Some((status, fields, body)));
    }

    fn envoy_dynamic_module_callback_http_send_response_headers(
        _filter: *mut c_void, fields: *mut ModuleHeader, count: usize, _is_last: bool,
    ) {
        // SAFETY: the module passes valid fields.
        let fields = unsafe { std::slice::from_raw_parts(fields, count) };
        let fields = fields.iter().map(|field| (bytes(field.name), bytes(field.value))).collect();
        envoy(|envoy| envoy.reply = Some((200, fields, Vec::new())));
    }

    fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        _filter: *mut c_void, key: ModuleBuffer, value: *mut EnvoyBuffer,
    ) -> bool {
        let key = bytes(key);
        in_function("get_filter_state", |envoy| {
            // SAFETY: the module passes a place to write to.
            envoy.filter_state.get(&key).map(|found| unsafe { value.write(lent(found)) }).is_some()
        })
    }

    fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        _filter: *mut c_void, key: ModuleBuffer, value: ModuleBuffer,
    ) -> bool {
        let (key, value) = (bytes(key), bytes(value));
        in_function("set_filter_state", |envoy| envoy.filter_state.insert(key, value));
        true
    }

    fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        _filter: *mut c_void, attribute: u32, value: *mut EnvoyBuffer,
    ) -> bool {
        envoy(|envoy| {
            // SAFETY: the module passes a place to write to.
            envoy.texts.get(&attribute).map(|found| unsafe { value.write(lent(found)) }).is_some()
        })
    }

    fn envoy_dynamic_module_callback_http_filter_get_attribute_int(
        _filter: *mut c_void, _attribute: u32, value: *mut u64,
    ) -> bool {
        // SAFETY: the module passes a place to write to.
        envoy(|envoy| unsafe { value.write(envoy.connection) });
        true
    }

    fn envoy_dynamic_module_callback_http_filter_get_attribute_bool(
        _filter: *mut c_void, _attribute: u32, value: *mut bool,
    ) -> bool {
        // SAFETY: the module passes a place to write to.
        envoy(|envoy| unsafe { value.write(envoy.is_mutual_tls) });
        true
    }

    fn envoy_dynamic_module_callback_http_clear_route_cache(_filter: *mut c_void) {
        in_function("clear_route_cache", |_| ());
    }
}

/// Returns text as the bytes that Envoy would pass.
pub(crate) fn lines(lines: &[(&str, &str)]) -> Lines {
    lines
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}
