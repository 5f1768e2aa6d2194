//! Reads and writes WebSocket frames ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)).
//!
//! It supports only what an echo needs. Compression is never negotiated, and fragments are echoed one by one.
//!
//! Not `tungstenite`, because the load generator and the origin share one core, and must cost less than the proxies. As a
//! client, `tungstenite` masks each message with a random key, and gives no choice; the origin would unmask it again.
//! Here a frame is encoded once, masked with zeros, and sent many times, so 1 MiB costs only the copies of the kernel.

use std::io::{Error, ErrorKind, Read};

/// Reads a frame into `payload`, and returns its first byte (`FIN` and opcode).
pub(super) fn read(stream: &mut impl Read, payload: &mut Vec<u8>) -> std::io::Result<u8> {
    let [first, second] = read_array(stream)?;
    let length = match second & !MASKED {
        TWO_BYTES => u64::from(u16::from_be_bytes(read_array(stream)?)),
        EIGHT_BYTES => u64::from_be_bytes(read_array(stream)?),
        length => u64::from(length),
    };
    let mask: [u8; 4] = match second & MASKED {
        0 => [0; 4],
        _ => read_array(stream)?,
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_LENGTH)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a frame is too long"))?;
    payload.resize(length, 0);
    stream.read_exact(payload)?;
    // Our own frames are masked with zeros, so the load generator spends no time on masking.
    if mask != [0; 4] {
        for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
            *byte ^= mask;
        }
    }
    Ok(first)
}

/// Encodes a frame, masked if a client sends it.
pub(super) fn write(first: u8, payload: &[u8], is_client: bool, frame: &mut Vec<u8>) {
    let masked = if is_client { MASKED } else { 0 };
    frame.clear();
    frame.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < TWO_BYTES => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | TWO_BYTES);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(masked | EIGHT_BYTES);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if is_client {
        frame.extend([0; 4]);
    }
    frame.extend_from_slice(payload);
}

fn read_array<const N: usize>(stream: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// `FIN` with the opcode of a binary message.
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

const MASKED: u8 = 0x80;
/// Length codes that are followed by an extended length.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

const MAX_LENGTH: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_can_be_read() {
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

    /// The masked example of RFC 6455 §5.7.
    #[test]
    fn a_masked_frame_is_unmasked() {
        let frame = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let mut payload = Vec::new();
        read(&mut frame.as_slice(), &mut payload).unwrap();
        assert_eq!(payload, b"Hello");
    }
}
