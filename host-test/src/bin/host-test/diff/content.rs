//! What does a message carry behind its headers, and in which frames?

use std::num::NonZeroUsize;

use host_test::HeaderMap;
use host_test::case_file::{Answer, Request};

use super::wire::Field;

/// The body in frames, and the trailers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The body; the last frame ends the message unless trailers do.
    pub(super) frames: Vec<Vec<u8>>,
    /// Whether the case wrote the frames down, so that they must arrive as they are.
    pub(super) has_frames: bool,
    /// The trailers.
    pub(super) trailers: Vec<Field>,
}

impl Content {
    /// What a request carries.
    pub(super) fn of_request(request: &Request) -> Self {
        let frames = frames(&request.body, request.frame_size, &request.frames);
        Self::new(&request.body, &frames, &request.trailers)
    }

    /// What the upstream's answer carries.
    pub(super) fn of_answer(answer: &Answer) -> Self {
        let frames = frames(&answer.body, answer.frame_size, &answer.frames);
        Self::new(&answer.body, &frames, &answer.trailers)
    }

    /// The content of a message as case files have it: `body`, or `frames`.
    pub(super) fn new(body: &str, frames: &[String], trailers: &[(String, String)]) -> Self {
        let has_frames = !frames.is_empty();
        let frames = if has_frames {
            frames.iter().map(|frame| latin1(frame)).collect()
        } else if body.is_empty() {
            Vec::new()
        } else {
            vec![latin1(body)]
        };
        Self {
            frames,
            has_frames,
            trailers: fields(trailers),
        }
    }
}

/// The frames that a message has by its case: those written down, or pieces of the body, with an empty last one.
fn frames(body: &str, size: Option<NonZeroUsize>, frames: &[String]) -> Vec<String> {
    let Some(size) = size else {
        return frames.to_vec();
    };
    let characters: Vec<char> = body.chars().collect();
    let pieces = characters.chunks(size.get());
    pieces
        .map(|piece| piece.iter().collect())
        .chain([String::new()])
        .collect()
}

/// Field lines as bytes.
pub(super) fn fields(lines: &[(String, String)]) -> Vec<Field> {
    lines
        .iter()
        .map(|(name, value)| (latin1(name), latin1(value)))
        .collect()
}

/// The bytes of a text of a case file.
pub(super) fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

/// A header map for the HTTP/2 library.
///
/// # Errors
///
/// The name or value that no header can have.
pub(super) fn to_http(fields: &[Field]) -> anyhow::Result<http::HeaderMap> {
    let mut map = http::HeaderMap::new();
    for (name, value) in fields {
        map.append(
            http::HeaderName::from_bytes(name)?,
            http::HeaderValue::from_bytes(value)?,
        );
    }
    Ok(map)
}

/// Adds what the HTTP/2 library received to a map.
pub(super) fn add_http(map: &mut HeaderMap, headers: &http::HeaderMap) {
    for (name, value) in headers {
        map.add(name.as_str().as_bytes(), value.as_bytes());
    }
}
