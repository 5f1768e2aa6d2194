//! Cuts messages into frames.
//!
//! A filter should not depend on the frames, but many do: the last frame of a body is empty in HTTP/1, a body may arrive
//! byte by byte, the end may arrive with the headers or after them. Therefore each case can be run under every schedule with
//! the same expectation. Frames and trailers that a case defines itself are kept.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;

use fluxlit_cases::{Case, Exchange, latin1};

use super::convert::borrow;
use crate::abi::HeaderMap;
use crate::envoy;
use crate::event::Event;

/// A way to cut messages into frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schedule {
    /// As Envoy delivers HTTP/1: the body in one frame, then an empty last frame; without a body the headers end the
    /// message.
    #[default]
    EmptyLast,
    /// The body in one frame that ends the message.
    OneFrame,
    /// Each byte in a frame, then an empty last frame.
    Bytes,
    /// The body in two halves, the second of which ends the message.
    Halves,
    /// Headers never end the message: an empty last frame does, even without a body.
    OpenHeaders,
    /// Trailers end the message.
    Trailers,
}

/// The body and end of a message in a case.
pub(super) struct Frames<'a> {
    pub(super) body: &'a str,
    /// The frames that the case defines; empty if it defines none.
    pub(super) frames: &'a [String],
    /// The frame size that the case defines.
    pub(super) size: Option<NonZeroUsize>,
    pub(super) trailers: &'a [(String, String)],
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

    /// Returns the name on the command line.
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

    /// Returns the schedule with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|schedule| schedule.name() == name)
    }

    /// Cuts a message with these headers into events.
    pub(super) fn cut(self, headers: HeaderMap, message: &Frames<'_>) -> VecDeque<Event> {
        let body = latin1::bytes(message.body);
        let mut frames: Vec<Vec<u8>> = match message.size {
            _ if !message.frames.is_empty() => {
                let frames = message.frames.iter();
                frames.map(|frame| latin1::bytes(frame)).collect()
            }
            Some(size) if !body.is_empty() => body
                .chunks(size.get())
                .map(<[u8]>::to_vec)
                .chain([Vec::new()])
                .collect(),
            _ => self.frames(&body),
        };
        let trailers = match self {
            Self::Trailers if message.trailers.is_empty() => {
                vec![(b"x-end".to_vec(), b"trailers".to_vec())]
            }
            _ => latin1::fields(message.trailers),
        };
        if !trailers.is_empty() && frames.last().is_some_and(Vec::is_empty) {
            frames.pop();
        }
        let ends_with_headers = frames.is_empty() && trailers.is_empty();
        let mut events = VecDeque::from([Event::Headers(headers, ends_with_headers)]);
        let count = frames.len();
        for (number, frame) in frames.into_iter().enumerate() {
            let is_last = number + 1 == count && trailers.is_empty();
            events.push_back(Event::Body(frame, is_last));
        }
        if !trailers.is_empty() {
            events.push_back(Event::Trailers(envoy::trailers(borrow(&trailers))));
        }
        events
    }

    /// Returns the case with explicit frames and trailers, which has the same events under the default schedule as `case` under
    /// this one.
    pub(crate) fn applied_to(self, case: &Case) -> Case {
        let mut groups = case.groups();
        let apply = |body: &mut String, frames: &mut Vec<String>, trailers: &mut Vec<_>| {
            if self == Self::Trailers && trailers.is_empty() {
                trailers.push(("x-end".to_owned(), "trailers".to_owned()));
            } else if frames.is_empty() {
                let cut = self.frames(&latin1::bytes(body));
                *frames = cut.iter().map(|frame| latin1::text(frame)).collect();
                body.clear();
            }
        };
        let apply_to = |exchange: &mut Exchange| {
            let Exchange {
                request, answer, ..
            } = exchange;
            if request.frame_size.is_none() {
                apply(
                    &mut request.body,
                    &mut request.frames,
                    &mut request.trailers,
                );
            }
            if answer.frame_size.is_none() {
                apply(&mut answer.body, &mut answer.frames, &mut answer.trailers);
            }
        };
        if self != Self::default() {
            for group in &mut groups {
                apply_to(group);
                group.alongside.iter_mut().for_each(apply_to);
            }
        }
        let mut case = case.clone();
        if !groups.is_empty() {
            case.set_groups(groups);
        }
        case
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

    /// Formats events: `H` for headers, a frame as its text, `T` for trailers, `.` after the one that ends the message.
    fn written(schedule: Schedule, body: &str, size: Option<NonZeroUsize>) -> String {
        let end = |is_end: &bool| if *is_end { "." } else { "" };
        let frames = Frames {
            body,
            frames: &[],
            size,
            trailers: &[],
        };
        let events = schedule.cut(HeaderMap::default(), &frames);
        let events: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Headers(_, is_end) => format!("H{}", end(is_end)),
                Event::Body(frame, is_end) => {
                    format!("{}{}", String::from_utf8_lossy(frame), end(is_end))
                }
                _ => "T.".to_owned(),
            })
            .collect();
        events.join("|")
    }

    #[test]
    fn schedules_cut_as_documented() {
        for (schedule, body, none) in [
            (Schedule::EmptyLast, "H|abc|.", "H."),
            (Schedule::OneFrame, "H|abc.", "H."),
            (Schedule::Bytes, "H|a|b|c|.", "H."),
            (Schedule::Halves, "H|a|bc.", "H."),
            (Schedule::OpenHeaders, "H|abc|.", "H|."),
            (Schedule::Trailers, "H|abc|T.", "H|T."),
        ] {
            assert_eq!(written(schedule, "abc", None), body, "{schedule}");
            assert_eq!(written(schedule, "", None), none, "{schedule}");
            assert_eq!(Schedule::named(schedule.name()), Some(schedule));
        }
    }

    #[test]
    fn frame_size_of_the_case_takes_precedence() {
        let two = NonZeroUsize::new(2);
        assert_eq!(written(Schedule::OneFrame, "abc", two), "H|ab|c|.");
        assert_eq!(written(Schedule::Trailers, "abc", two), "H|ab|c|T.");
        assert_eq!(written(Schedule::EmptyLast, "", two), "H.");
    }
}
