//! Recognizes requests for a decision record, which only the holder of the probe key can make, and seals the answers.
//!
//! A client cannot see what a hop behind a front has decided. With the setting `probe_key`, `doctor --probe` can ask: a
//! `GET` whose path ends in [`PROBE_PATH`] and that has one line of [`PROBE_FIELD`] is answered by the hop that it names.
//! The value has this form, with its parts in this order:
//!
//! ```text
//! v1;hop=filter;time=1790000000;nonce=000102030405060708090a0b0c0d0e0f;host=portal.example.com;mac=…
//! ```
//!
//! | part | content |
//! | --- | --- |
//! | `hop` | who must answer, `filter` or `gateway`; every other hop treats the request like any other |
//! | `time` | seconds since 1970 at the prober |
//! | `nonce` | 16 random octets in hexadecimal, new for each request |
//! | `host` | the host that the prober has asked. It is repeated in the record and compared with nothing, because a front that replaces the host is a fault that the record must show |
//! | `mac` | HMAC-SHA256 (RFC 2104) of `fluxlit-edge probe v1`, a line feed, and all octets of the value before `;mac=` |
//!
//! The path is matched by its end, so that it does not matter whether a front removes the mount. It is not covered by the
//! MAC for the same reason. A request without a valid MAC is treated as if it had no such field, so that nobody without the
//! key can see that a key is set. Whether a request is too old, or is repeated, depends on a clock and on earlier requests:
//! see [`ProbeGuard`](crate::ProbeGuard).
//!
//! The answer is sealed too: [`SEAL_FIELD`] contains the HMAC-SHA256 of `fluxlit-edge record v1`, a line feed, the nonce in
//! hexadecimal, a line feed, and the body. So an answer proves that a hop with the key is in the path.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::config_error::ConfigError;
use crate::effective::Authority;
use crate::header::{lines, only_line};
use crate::labels::labeled_enum;
use crate::message::Request;
use crate::mount::decode_hex;
use crate::target::Target;

/// The end of the path of a request for a decision record.
pub const PROBE_PATH: &str = "/__fluxlit/record";

/// The field of a request for a decision record.
pub const PROBE_FIELD: &str = "x-fluxlit-probe";

/// The field that seals the answer.
pub const SEAL_FIELD: &str = "x-fluxlit-seal";

/// The octets of a nonce.
pub type Nonce = [u8; 16];

labeled_enum! {
    /// A hop that can answer with its decision record.
    pub enum Hop {
        /// The filter in Envoy.
        Filter = "filter",
        /// The native gateway.
        Gateway = "gateway",
    }
}

labeled_enum! {
    /// What happened to a request for a decision record. Only the first and the third are visible to the client.
    pub enum ProbeOutcome {
        /// It was answered with the record.
        Answered = "answered",
        /// Its time is not within 60 s of the clock, or before the start of this process.
        Expired = "expired",
        /// It was answered with 429, because too many were answered before.
        Limited = "limited",
        /// The field is malformed, or its MAC is wrong.
        Invalid = "invalid",
        /// Its nonce was used before.
        Replayed = "replayed",
        /// The host has no clock, or cannot store nonces.
        Unavailable = "unavailable",
    }
}

/// The secret that probers share with the filter and the gateway. It is never shown.
#[derive(Clone)]
pub struct ProbeKey(Hmac<Sha256>);

impl ProbeKey {
    /// The minimum length of a key in bytes. Whoever has seen a probe can try keys offline, so a key should be random:
    /// `openssl rand -hex 32`.
    pub const MIN_LENGTH: usize = 16;

    /// Takes the octets of `text`, without white space at both ends, as the key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ProbeKey`] if it is shorter than [`Self::MIN_LENGTH`]. The error does not contain the key.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let octets = text.trim_ascii().as_bytes();
        let error = ConfigError::ProbeKey {
            length: octets.len(),
        };
        if octets.len() < Self::MIN_LENGTH {
            return Err(error);
        }
        // HMAC accepts keys of any length.
        Hmac::new_from_slice(octets).map(Self).map_err(|_| error)
    }

    /// Returns true if `seal` is the value of [`SEAL_FIELD`] for this body, in answer to the request with this nonce.
    pub fn is_seal(&self, seal: &[u8], nonce: &Nonce, body: &[u8]) -> bool {
        let mac = decode_octets::<MAC_LENGTH>(seal);
        mac.is_some_and(|mac| self.seal_input(nonce, body).verify_slice(&mac).is_ok())
    }

    /// Returns the value of [`SEAL_FIELD`] for a body.
    pub(crate) fn seal(&self, nonce: &Nonce, body: &[u8]) -> String {
        to_hex(&self.seal_input(nonce, body).finalize().into_bytes())
    }

    fn seal_input(&self, nonce: &Nonce, body: &[u8]) -> Hmac<Sha256> {
        let nonce = to_hex(nonce);
        self.input(&[SEAL_CONTEXT, nonce.as_bytes(), b"\n", body])
    }

    fn input(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey([REDACTED])")
    }
}

/// A request for the decision record of one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    hop: Hop,
    time: u64,
    nonce: Nonce,
    host: String,
}

impl Probe {
    /// Makes a request. `host`: the host that is asked, with its port unless it is the default one. `time`: seconds since
    /// 1970. `nonce`: random octets, new for each request.
    ///
    /// `None` if `host` is not a host name or address.
    pub fn new(hop: Hop, host: &str, time: u64, nonce: Nonce) -> Option<Self> {
        Authority::parse(host.as_bytes())?;
        Some(Self {
            hop,
            time,
            nonce,
            host: host.to_owned(),
        })
    }

    /// Returns the value of [`PROBE_FIELD`].
    pub fn field(&self, key: &ProbeKey) -> String {
        let Self {
            hop,
            time,
            nonce,
            host,
        } = self;
        let hop = hop.label();
        let nonce = to_hex(nonce);
        let signed = format!("v1;hop={hop};time={time};nonce={nonce};host={host}");
        let mac = key.input(&[PROBE_CONTEXT, signed.as_bytes()]).finalize();
        format!("{signed};mac={}", to_hex(&mac.into_bytes()))
    }

    /// Returns the hop that must answer.
    pub fn hop(&self) -> Hop {
        self.hop
    }

    /// Returns the time at which it was made, in seconds since 1970.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Returns the nonce.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Returns the host that the prober has asked.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Finds a request for a decision record; `None` for every other request, and for one that another hop must answer.
    ///
    /// # Errors
    ///
    /// [`ProbeOutcome::Invalid`] if the field is malformed or its MAC is wrong.
    pub(crate) fn find(
        key: &ProbeKey,
        request: &Request<'_>,
        hop: Hop,
    ) -> Option<Result<Self, ProbeOutcome>> {
        // Only the rare requests that pass this comparison cost more.
        if !ends_in_probe_path(request.target) || request.method != b"GET" {
            return None;
        }
        let target = Target::parse(request.method, request.target).ok()?;
        if !target.path.ends_with(PROBE_PATH.as_bytes()) {
            return None;
        }
        let headers = request.headers;
        lines(headers, PROBE_FIELD.as_bytes()).next()?;
        // A WebSocket handshake must not be answered with 200.
        if lines(headers, b"upgrade").next().is_some() {
            return None;
        }
        let found = only_line(headers, PROBE_FIELD.as_bytes()).and_then(Signed::parse);
        match found {
            Some(Signed { probe, .. }) if probe.hop != hop => None,
            Some(signed) => Some(signed.verify(key).ok_or(ProbeOutcome::Invalid)),
            None => Some(Err(ProbeOutcome::Invalid)),
        }
    }
}

/// A request whose MAC is not verified yet.
struct Signed<'a> {
    probe: Probe,
    text: &'a str,
    mac: [u8; MAC_LENGTH],
}

impl<'a> Signed<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > MAX_VALUE {
            return None;
        }
        let (text, mac) = std::str::from_utf8(value).ok()?.rsplit_once(";mac=")?;
        let mut parts = text.split(';');
        let mut part = |name| parts.next()?.strip_prefix(name);
        part("v1").filter(|rest| rest.is_empty())?;
        let hop = part("hop=")?;
        let hop = Hop::ALL.iter().find(|known| known.label() == hop)?;
        // `parse` would also accept a sign.
        let time = part("time=").filter(|time| time.bytes().all(|octet| octet.is_ascii_digit()))?;
        let time = time.parse().ok()?;
        let nonce = decode_octets(part("nonce=")?.as_bytes())?;
        let host = part("host=")?;
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            probe: Probe::new(*hop, host, time, nonce)?,
            text,
            mac: decode_octets(mac.as_bytes())?,
        })
    }

    /// Returns the request if its MAC is right. The comparison takes the same time wherever the two differ.
    fn verify(self, key: &ProbeKey) -> Option<Probe> {
        let input = key.input(&[PROBE_CONTEXT, self.text.as_bytes()]);
        input.verify_slice(&self.mac).ok()?;
        Some(self.probe)
    }
}

/// Returns true if a target ends in the path, or has a query after it.
fn ends_in_probe_path(target: &[u8]) -> bool {
    let query = target.iter().position(|octet| *octet == b'?');
    let path = target.get(..query.unwrap_or(target.len()));
    path.is_some_and(|path| path.ends_with(PROBE_PATH.as_bytes()))
}

fn decode_octets<const LENGTH: usize>(hex: &[u8]) -> Option<[u8; LENGTH]> {
    let mut octets = [0; LENGTH];
    let (pairs, rest) = hex.as_chunks::<2>();
    if pairs.len() != LENGTH || !rest.is_empty() {
        return None;
    }
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = decode_hex(*high, *low)?;
    }
    Some(octets)
}

/// Returns octets as hexadecimal digits in lower case.
pub(crate) fn to_hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}

// Each use of the key has its own context, so that no MAC can be used for another purpose.
const PROBE_CONTEXT: &[u8] = b"fluxlit-edge probe v1\n";
const SEAL_CONTEXT: &[u8] = b"fluxlit-edge record v1\n";

/// The octets of an HMAC-SHA256.
const MAC_LENGTH: usize = 32;

/// The maximum length of a value of [`PROBE_FIELD`]: the host has at most 253 bytes and a port.
const MAX_VALUE: usize = 512;

#[cfg(test)]
mod tests {
    use super::{MAX_VALUE, Signed};

    /// A longer value would cost every hop a MAC of all its octets.
    #[test]
    fn a_value_that_is_too_long_is_not_read() {
        let value = |zeros: usize| {
            let (zeros, nonce, mac) = ("0".repeat(zeros), "0".repeat(32), "0".repeat(64));
            format!("v1;hop=filter;time={zeros};nonce={nonce};host=a;mac={mac}")
        };
        let room = MAX_VALUE - value(0).len();
        for (zeros, is_read) in [
            (1, true),
            (room - 1, true),
            (room, true),
            (room + 1, false),
            (2 * room, false),
        ] {
            let value = value(zeros);
            assert_eq!(
                Signed::parse(value.as_bytes()).is_some(),
                is_read,
                "{zeros}"
            );
        }
    }

    #[test]
    fn a_nonce_or_mac_of_another_length_is_not_read() {
        for (nonce, mac, is_read) in [
            (32, 64, true),
            (30, 64, false),
            (31, 64, false),
            (33, 64, false),
            (34, 64, false),
            (0, 64, false),
            (32, 62, false),
            (32, 63, false),
            (32, 65, false),
            (32, 66, false),
            (32, 0, false),
        ] {
            let (nonce_digits, mac_digits) = ("a".repeat(nonce), "a".repeat(mac));
            let value =
                format!("v1;hop=filter;time=1;nonce={nonce_digits};host=a;mac={mac_digits}");
            let read = Signed::parse(value.as_bytes());
            assert_eq!(read.is_some(), is_read, "{nonce} {mac}");
        }
    }
}
