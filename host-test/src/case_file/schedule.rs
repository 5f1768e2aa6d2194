//! In which frames does a message arrive?
//!
//! A filter must not care, and many do: the last frame of a body is empty in HTTP/1, a body may come byte by byte, the
//! end may come with the headers or behind them. So each case can be run under every schedule, with the same
//! expectation. Frames that a case writes down itself, and trailers of its own, stay as they are.

use std::fmt;

/// A way to cut messages into frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schedule {
    /// As Envoy delivers HTTP/1: the body in one frame, then an empty last one; without a body the headers end the
    /// message.
    #[default]
    EmptyLast,
    /// The body in one frame that ends the message.
    OneFrame,
    /// Each byte in its frame, then an empty last one.
    Bytes,
    /// The body in two halves, the second of which ends the message.
    Halves,
    /// Headers never end the message: an empty last frame does, even without a body.
    OpenHeaders,
    /// Trailers end the message.
    Trailers,
}

/// Something of a message, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The headers, and whether they end the message.
    Headers(bool),
    /// A frame, and whether it ends the message.
    Frame(Vec<u8>, bool),
    /// The trailers.
    Trailers(Vec<(Vec<u8>, Vec<u8>)>),
}

impl Schedule {
    /// Every schedule.
    pub const ALL: [Self; 6] = [
        Self::EmptyLast,
        Self::OneFrame,
        Self::Bytes,
        Self::Halves,
        Self::OpenHeaders,
        Self::Trailers,
    ];

    /// The name that a command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyLast => "empty-last",
            Self::OneFrame => "one-frame",
            Self::Bytes => "bytes",
            Self::Halves => "halves",
            Self::OpenHeaders => "open-headers",
            Self::Trailers => "trailers",
        }
    }

    /// The schedule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|schedule| schedule.name() == name)
    }

    /// Cuts a message: `frames` if the case wrote them down, else `body`.
    pub(super) fn cut(
        self,
        body: &[u8],
        frames: &[Vec<u8>],
        trailers: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Vec<Part> {
        let mut frames = if frames.is_empty() {
            self.frames(body)
        } else {
            frames.to_vec()
        };
        let trailers = match self {
            Self::Trailers if trailers.is_empty() => {
                vec![(b"x-end".to_vec(), b"trailers".to_vec())]
            }
            _ => trailers,
        };
        if !trailers.is_empty() && frames.last().is_some_and(Vec::is_empty) {
            frames.pop();
        }
        let mut parts = vec![Part::Headers(frames.is_empty() && trailers.is_empty())];
        let count = frames.len();
        for (number, frame) in frames.into_iter().enumerate() {
            let is_last = number + 1 == count && trailers.is_empty();
            parts.push(Part::Frame(frame, is_last));
        }
        if !trailers.is_empty() {
            parts.push(Part::Trailers(trailers));
        }
        parts
    }

    fn frames(self, body: &[u8]) -> Vec<Vec<u8>> {
        if body.is_empty() {
            return match self {
                Self::OpenHeaders => vec![Vec::new()],
                _ => Vec::new(),
            };
        }
        match self {
            Self::EmptyLast | Self::OpenHeaders | Self::Trailers => {
                vec![body.to_vec(), Vec::new()]
            }
            Self::OneFrame => vec![body.to_vec()],
            Self::Bytes => body
                .iter()
                .map(|byte| vec![*byte])
                .chain([Vec::new()])
                .collect(),
            Self::Halves => {
                let (first, second) = body.split_at(body.len() / 2);
                let halves = [first, second];
                halves
                    .into_iter()
                    .filter(|half| !half.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect()
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `H` for headers, a frame as its text, `T` for trailers, `.` behind what ends the message.
    fn written(schedule: Schedule, body: &str) -> String {
        let end = |is_end: &bool| if *is_end { "." } else { "" };
        let parts = schedule.cut(body.as_bytes(), &[], Vec::new());
        let parts: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Headers(is_end) => format!("H{}", end(is_end)),
                Part::Frame(frame, is_end) => {
                    format!("{}{}", String::from_utf8_lossy(frame), end(is_end))
                }
                Part::Trailers(_) => "T.".to_owned(),
            })
            .collect();
        parts.join("|")
    }

    #[test]
    fn every_schedule_cuts_as_it_says() {
        for (schedule, body, none) in [
            (Schedule::EmptyLast, "H|abc|.", "H."),
            (Schedule::OneFrame, "H|abc.", "H."),
            (Schedule::Bytes, "H|a|b|c|.", "H."),
            (Schedule::Halves, "H|a|bc.", "H."),
            (Schedule::OpenHeaders, "H|abc|.", "H|."),
            (Schedule::Trailers, "H|abc|T.", "H|T."),
        ] {
            assert_eq!(written(schedule, "abc"), body, "{schedule}");
            assert_eq!(written(schedule, ""), none, "{schedule}");
            assert_eq!(Schedule::named(schedule.name()), Some(schedule));
        }
    }
}
