//! Accesses header maps and properties, and sends local responses, through the proxy-wasm ABI v0.2.1.
//!
//! The SDK's wrappers panic on a status that they do not expect and on header bytes that are not UTF-8. Both can happen
//! here: a map is absent in some phases (`BAD_ARGUMENT`), a property of another filter may be read-only, a second local
//! response is rejected, and the bytes come from the network. So these calls return statuses as values and headers as
//! bytes.

#![expect(
    unsafe_code,
    reason = "the ABI is a C interface: each call is one unsafe block with its reason"
)]

use std::ptr;

use proxy_wasm::types::MapType;

/// Reads a whole header map in its serialized form; empty if the host has no such map.
pub(crate) fn map(map: MapType) -> Vec<u8> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both addresses are valid for one write each, as the ABI requires.
    let status = unsafe { proxy_get_header_map_pairs(map, &raw mut data, &raw mut size) };
    take(status, data, size).unwrap_or_default()
}

/// Iterates over the fields of a serialized header map: a count, the lengths of each name and value, then the bytes,
/// each followed by a zero. In an invalid map, the iteration ends early.
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

fn split_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// Adds a line after those that the field already has. Returns true if the host accepted it.
pub(crate) fn add(map: MapType, name: &str, value: &[u8]) -> bool {
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    unsafe {
        proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            == OK
    }
}

/// Replaces all lines of a field by one. Returns true if the host accepted it.
pub(crate) fn replace(map: MapType, name: &str, value: &[u8]) -> bool {
    // SAFETY: as in `add`.
    unsafe {
        proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            == OK
    }
}

/// Removes all lines of a field. Returns true if the host accepted it.
pub(crate) fn remove(map: MapType, name: &str) -> bool {
    // SAFETY: as in `add`.
    unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) == OK }
}

/// Reads a property; `None` if the host does not have it.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the path lives until the call returns, both addresses are valid for one write each.
    let status =
        unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut data, &raw mut size) };
    take(status, data, size)
}

/// Stores a value in the filter state of the stream, where later filters, access logs and this filter can read it as
/// `wasm.NAME`. A failure is ignored: without the value, no guarded route matches the request.
pub(crate) fn set_property(name: &str, value: &[u8]) {
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    let _ = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Makes Envoy select the route again. A failure is ignored, because Envoy then keeps the route that it has.
pub(crate) fn clear_route_cache() {
    const NAME: &str = "clear_route_cache";
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the name lives until the call returns, the arguments are empty, both addresses are valid for one write each.
    let status = unsafe {
        proxy_call_foreign_function(
            NAME.as_ptr(),
            NAME.len(),
            ptr::null(),
            0,
            &raw mut data,
            &raw mut size,
        )
    };
    drop(take(status, data, size));
}

/// Returns the seconds since 1970; `None` if the host has no clock.
pub(crate) fn unix_time() -> Option<u64> {
    let mut nanoseconds = 0;
    // SAFETY: the address is valid for one write, as the ABI requires.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    (status == OK).then_some(nanoseconds / 1_000_000_000)
}

/// A value that all VMs of the process with the same `vm_id` share.
pub(crate) enum SharedData {
    /// The host has no such value.
    Absent,
    /// The value and its version.
    Present(Vec<u8>, u32),
    /// The host does not tell.
    Unavailable,
}

/// Reads a shared value.
pub(crate) fn shared_data(key: &str) -> SharedData {
    let (mut data, mut size, mut version) = (ptr::null_mut(), 0, 0);
    // SAFETY: the key lives until the call returns, the other addresses are valid for one write each.
    let status = unsafe {
        proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut data,
            &raw mut size,
            &raw mut version,
        )
    };
    match take(status, data, size) {
        Some(value) => SharedData::Present(value, version),
        None if status == NOT_FOUND => SharedData::Absent,
        None => SharedData::Unavailable,
    }
}

/// Writes a shared value if it still has this version, or if there is none. Returns true if it was written.
pub(crate) fn set_shared_data(key: &str, value: &[u8], version: u32) -> bool {
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    unsafe {
        proxy_set_shared_data(
            key.as_ptr(),
            key.len(),
            value.as_ptr(),
            value.len(),
            version,
        ) == OK
    }
}

/// Responds to the request in place of the upstream. Returns true if the host accepted the response.
pub(crate) fn send_local_response(status: u16, fields: &[(&str, &[u8])], body: &[u8]) -> bool {
    let headers = serialize(fields);
    // SAFETY: the addresses and lengths describe slices that live until the call returns.
    unsafe {
        proxy_send_local_response(
            u32::from(status),
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

/// Serializes a header map, as [`pairs`] reads it; an empty map as no bytes.
fn serialize(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut map = Vec::new();
    if !fields.is_empty() {
        map.extend(length(fields.len()));
    }
    for (name, value) in fields {
        map.extend(length(name.len()));
        map.extend(length(value.len()));
    }
    for (name, value) in fields {
        for part in [name.as_bytes(), b"\0", value, b"\0"] {
            map.extend_from_slice(part);
        }
    }
    map
}

/// Takes ownership of memory that the host has filled.
fn take(status: u32, data: *mut u8, size: usize) -> Option<Vec<u8>> {
    if status != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got this block of exactly `size` bytes from the SDK's `proxy_on_memory_allocate`, which leaks a
    // boxed slice of that length, has filled it, and does not touch it again.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// `proxy_status_t` of success.
const OK: u32 = 0;

/// `proxy_status_t` of an absent value.
const NOT_FOUND: u32 = 1;

/// Tells the host that the response is not a gRPC status.
const NO_GRPC_STATUS: i32 = -1;

// As in the SDK, except that a status is a number: a host may return one that the SDK's closed enum does not have.
unsafe extern "C" {
    fn proxy_add_header_map_value(
        map: MapType,
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
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> u32;
    fn proxy_remove_header_map_value(map: MapType, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: MapType,
        name: *const u8,
        name_size: usize,
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
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        version: u32,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
}
