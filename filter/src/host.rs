//! How does the filter call its host, whatever the host answers?
//!
//! The SDK's own wrappers panic on a status they do not expect and on header bytes that are not UTF-8, and a panic
//! takes the whole VM down. Here a status is a value and a header is bytes. The functions are those of the proxy-wasm
//! ABI v0.2.1; the memory the host hands over was allocated by this module's own `proxy_on_memory_allocate`.

#![expect(
    unsafe_code,
    reason = "the ABI is a C interface: each call is one unsafe block with its reason"
)]

use std::ptr;

/// A header map, by its number in the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
}

/// A buffer, by its number in the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Buffer {
    PluginConfiguration = 7,
}

/// A log level, by its number in the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Level {
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Reads a whole header map in its serialised form; empty if there is none (`proxy_get_header_map_pairs`).
pub(crate) fn map(map: Map) -> Vec<u8> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both addresses are valid for one write each, as the ABI asks.
    let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
    take(status, data, size).unwrap_or_default()
}

/// The fields of a serialised header map: a count, the lengths of each name and value, then the bytes, each followed
/// by a zero. A map that does not keep to this form ends early.
pub(crate) fn pairs(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (count, rest) = split_u32(map).unwrap_or((0, b""));
    let (lengths, mut bytes) = count
        .checked_mul(8)
        .and_then(|length| rest.split_at_checked(length))
        .unwrap_or((b"", b""));
    lengths.chunks_exact(8).map_while(move |lengths| {
        let (name_length, lengths) = split_u32(lengths)?;
        let (value_length, _) = split_u32(lengths)?;
        let (name, rest) = bytes.split_at_checked(name_length)?;
        let (value, rest) = rest.get(1..)?.split_at_checked(value_length)?;
        bytes = rest.get(1..)?;
        Some((name, value))
    })
}

/// Adds a line after those that a field has (`proxy_add_header_map_value`). Returns whether that was done.
pub(crate) fn add(map: Map, name: &str, value: &[u8]) -> bool {
    is_sendable(value)
        // SAFETY: the addresses and lengths describe slices that live until the call returns.
        && unsafe {
            proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        } == OK
}

/// Replaces all lines of a field by one (`proxy_replace_header_map_value`). Returns whether that was done.
pub(crate) fn replace(map: Map, name: &str, value: &[u8]) -> bool {
    is_sendable_as(name, value)
        // SAFETY: as in `add`.
        && unsafe {
            proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        } == OK
}

/// Removes all lines of a field (`proxy_remove_header_map_value`). Returns whether that was done.
pub(crate) fn remove(map: Map, name: &str) -> bool {
    // SAFETY: as in `add`.
    unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) == OK }
}

/// Reads a property; `None` if the host does not have it (`proxy_get_property`).
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the path lives until the call returns, both addresses are valid for one write each.
    let status =
        unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut data, &raw mut size) };
    take(status, data, size)
}

/// Stores a value in the stream's filter state, where later filters, access logs and ourselves can read it as
/// `wasm.NAME` (`proxy_set_property`). There is nothing to do when it cannot be stored.
pub(crate) fn set_property(name: &str, value: &[u8]) {
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    let _ = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Defines a counter, or finds the one of that name (`proxy_define_metric`).
pub(crate) fn define_counter(name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: the name lives until the call returns, the address is valid for one write.
    let status = unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id) };
    (status == OK).then_some(id)
}

/// Adds to a counter (`proxy_increment_metric`).
pub(crate) fn count(counter: u32, by: u32) {
    // SAFETY: no memory is involved. There is nothing to do when it cannot be counted.
    let _ = unsafe { proxy_increment_metric(counter, i64::from(by)) };
}

/// Reads a buffer of `size` bytes; empty if there is none (`proxy_get_buffer_bytes`).
pub(crate) fn buffer(buffer: Buffer, size: usize) -> Vec<u8> {
    let (mut data, mut got) = (ptr::null_mut(), 0);
    // SAFETY: both addresses are valid for one write each.
    let status =
        unsafe { proxy_get_buffer_bytes(buffer as u32, 0, size, &raw mut data, &raw mut got) };
    take(status, data, got).unwrap_or_default()
}

/// Answers the request here (`proxy_send_local_response`). Returns whether the host took the answer.
pub(crate) fn send_local_response(status: u32, headers: &[(&str, &[u8])], body: &[u8]) -> bool {
    if !headers.iter().all(|(_, value)| is_sendable(value)) {
        return false;
    }
    let headers = serialise(headers);
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    unsafe {
        proxy_send_local_response(
            status,
            ptr::null(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        ) == OK
    }
}

/// Makes Envoy choose the route anew. Today's ABI version does so at each header write by itself; a later one will
/// not, and a host without the function needs nothing.
pub(crate) fn clear_route_cache() {
    call("clear_route_cache", &[]);
}

/// Says of what kind a property is that we set: text, and alive as long as the request, internal redirects included.
/// Without it, Envoy keeps bytes for one pass of the filter chain.
pub(crate) fn declare_request_property(name: &str) {
    // envoy.source.extensions.common.wasm.DeclarePropertyArguments: name = 1, type = 3 (1: String),
    // span = 5 (1: DownstreamRequest).
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let message = [&[0x0a, length], name.as_bytes(), &[0x18, 1, 0x28, 1]].concat();
    call("declare_property", &message);
}

/// Calls a function of this host that others may not have (`proxy_call_foreign_function`).
fn call(name: &str, arguments: &[u8]) {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: name and arguments live until the call returns, both addresses are valid for one write each.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &raw mut data,
            &raw mut size,
        )
    };
    drop(take(status, data, size));
}

/// Writes a line to the host's log (`proxy_log`).
pub(crate) fn log(level: Level, text: &str) {
    // SAFETY: the text lives until the call returns. There is nothing to do when it cannot be logged.
    let _ = unsafe { proxy_log(level as u32, text.as_ptr(), text.len()) };
}

/// Has the host call the root context every second (`proxy_set_tick_period_milliseconds`).
pub(crate) fn tick_every_second() {
    // SAFETY: no memory is involved. A host without ticks counts and forgets nothing.
    let _ = unsafe { proxy_set_tick_period_milliseconds(1000) };
}

/// Envoy writes response headers out unchecked, so a line break here would start a header of its own. No control
/// octet has a place in a field value but the tab, RFC 9110 §5.5.
fn is_sendable(value: &[u8]) -> bool {
    !value
        .iter()
        .any(|octet| octet.is_ascii_control() && *octet != b'\t')
}

/// Envoy sends spaces and fragments in `:path` and spaces in `:authority` as they are, which splits the request line.
fn is_sendable_as(name: &str, value: &[u8]) -> bool {
    match name {
        ":path" => {
            value.starts_with(b"/")
                && value
                    .iter()
                    .all(|octet| octet.is_ascii_graphic() && *octet != b'#')
        }
        ":authority" => value.iter().all(u8::is_ascii_graphic),
        _ => is_sendable(value),
    }
}

/// Takes over memory that the host has filled.
fn take(status: u32, data: *mut u8, size: usize) -> Option<Vec<u8>> {
    if status != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got this block of exactly `size` bytes from `proxy_on_memory_allocate`, which leaks a `Vec`
    // of that capacity, has filled it, and does not touch it again.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

fn split_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn serialise(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut map = Vec::new();
    map.extend(length(headers.len()));
    for (name, value) in headers {
        map.extend(length(name.len()));
        map.extend(length(value.len()));
    }
    for (name, value) in headers {
        map.extend(name.as_bytes());
        map.push(0);
        map.extend(*value);
        map.push(0);
    }
    map
}

/// `proxy_status_t` of success.
const OK: u32 = 0;

/// `proxy_metric_type_t` of a counter.
const COUNTER: u32 = 0;

/// Tells the host that the answer is not a gRPC status.
const NO_GRPC_STATUS: i32 = -1;

unsafe extern "C" {
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        result: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_log(level: u32, text: *const u8, text_size: usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}
