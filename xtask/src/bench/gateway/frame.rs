//! How does a WebSocket frame look?
//!
//! As [RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2) says; no more than an echo needs. Compression is
//! never negotiated, and fragments are echoed one by one.

use std::io::{Error, ErrorKind, Read};

/// Reads a frame; its payload is left in `payload`, and its first octet (`FIN` and opcode) is returned.
pub(super) fn read(stream: &mut impl Read, payload: &mut Vec<u8>) -> std::io::Result<u8> {
    let [first, second] = read_array(stream)?;
    let length = match second & !MASKED {
        TWO_OCTETS => u64::from(u16::from_be_bytes(read_array(stream)?)),
        EIGHT_OCTETS => u64::from_be_bytes(read_array(stream)?),
        length => u64::from(length),
    };
    let mask: [u8; 4] = match second & MASKED {
        0 => [0; 4],
        _ => read_array(stream)?,
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= LONGEST)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a frame is too long"))?;
    payload.resize(length, 0);
    stream.read_exact(payload)?;
    // Ours are masked with zeros: what the load spends on it, the proxies do not get to do.
    if mask != [0; 4] {
        for (octet, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
            *octet ^= mask;
        }
    }
    Ok(first)
}

/// Writes a frame, as a client does or as a server does.
pub(super) fn write(first: u8, payload: &[u8], is_client: bool, frame: &mut Vec<u8>) {
    let masked = if is_client { MASKED } else { 0 };
    frame.clear();
    frame.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < TWO_OCTETS => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | TWO_OCTETS);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(masked | EIGHT_OCTETS);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if is_client {
        frame.extend([0; 4]);
    }
    frame.extend_from_slice(payload);
}

fn read_array<const N: usize>(stream: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut octets = [0; N];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}

/// A whole binary message.
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

const MASKED: u8 = 0x80;
/// Lengths that say how many octets of length follow.
const TWO_OCTETS: u8 = 126;
const EIGHT_OCTETS: u8 = 127;

const LONGEST: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 125, 126, 65_535, 65_536] {
            for is_client in [false, true] {
                let (mut frame, mut payload) = (Vec::new(), Vec::new());
                write(BINARY, &vec![b'x'; length], is_client, &mut frame);
                let mut rest = frame.as_slice();
                assert_eq!(read(&mut rest, &mut payload).unwrap(), BINARY);
                assert_eq!((payload.len(), rest.len()), (length, 0));
            }
        }
    }

    /// The example of RFC 6455 §5.7.
    #[test]
    fn a_mask_is_taken_off() {
        let frame = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let mut payload = Vec::new();
        read(&mut frame.as_slice(), &mut payload).unwrap();
        assert_eq!(payload, b"Hello");
    }
}
