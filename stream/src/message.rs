//! Splits a header map into pseudo-headers and fields.

use fluxlit_policy::Header;

use crate::host::Fields;

/// A header map, split into pseudo-headers and fields.
pub(crate) struct Message<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) status: u16,
    /// True if Envoy may have redirected the request internally. Envoy then sets `x-envoy-original-url`, but a client can
    /// send it as well, so this only means that the filter state must be read.
    pub(crate) has_original_url: bool,
    pub(crate) headers: Vec<Header<'a>>,
}

impl<'a> Message<'a> {
    pub(crate) fn read(map: &'a impl Fields) -> Self {
        let mut message = Self {
            method: b"",
            path: b"",
            authority: None,
            status: 0,
            has_original_url: false,
            headers: Vec::with_capacity(32),
        };
        for (name, value) in map.iter() {
            match name {
                b":method" => message.method = value,
                b":path" => message.path = value,
                b":authority" => message.authority = Some(value),
                b":status" => {
                    message.status = std::str::from_utf8(value)
                        .ok()
                        .and_then(|status| status.parse().ok())
                        .unwrap_or(0);
                }
                [b':', ..] => {}
                _ => {
                    message.has_original_url |= name == b"x-envoy-original-url";
                    message.headers.push((name, value));
                }
            }
        }
        message
    }
}
