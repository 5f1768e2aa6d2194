//! Defines how a response is written to the client, for any HTTP version.

use fluxlit_policy::{Edit, Edits, Header};

use crate::http::body::Sink;
use crate::http::framing::Length;
use crate::http::hop_by_hop;
use crate::worker::date::DateClock;

/// The writing side of a client's connection or stream.
pub(crate) trait Downstream: Sink {
    /// Begins the final response. Nothing is written yet.
    fn begin(&mut self, head: &DownstreamHead<'_>);

    /// Discards the response that has begun. Returns false if some of it has been written already.
    fn take_back(&mut self) -> bool;

    /// Sends an informational response, RFC 9110 §15.2, if the client's version of HTTP has them.
    async fn send_informational(&mut self, head: &DownstreamHead<'_>) -> std::io::Result<()>;
}

/// The head of a response to the client.
pub(crate) struct DownstreamHead<'a> {
    pub(crate) status: u16,
    /// The reason phrase; HTTP/2 does not have one.
    pub(crate) reason: &'a [u8],
    pub(crate) fields: &'a [Header<'a>],
    /// The changes that the policy makes to the fields.
    pub(crate) edits: &'a Edits,
    pub(crate) length: Length,
    /// The declared length of a body that is not sent, in response to HEAD or with 304.
    pub(crate) declared: Option<&'a [u8]>,
    /// True if no other request is read from an HTTP/1 connection after this response.
    pub(crate) closes: bool,
    /// Tells the `Date` of a response without one; `None` for informational responses.
    pub(crate) date: Option<&'a DateClock>,
    /// `None` for informational responses.
    pub(crate) request_id: Option<&'a str>,
}

impl DownstreamHead<'_> {
    /// Passes each field line to `emit`, in order, without those that frame the message. `X-Request-ID` is always the
    /// gateway's, never the upstream's. A missing `Date` is added, RFC 9110 §6.6.1.
    pub(crate) fn emit(&self, mut emit: impl FnMut(&[u8], &[u8])) {
        let nominated = hop_by_hop::nominated(self.fields);
        let mut date = self.date;
        for (name, value) in self.fields {
            let is_dropped = hop_by_hop::is_hop_by_hop(name)
                || name.eq_ignore_ascii_case(REQUEST_ID)
                || nominated
                    .iter()
                    .any(|nominated| nominated.eq_ignore_ascii_case(name))
                || replaces(self.edits, name);
            if !is_dropped {
                if name.eq_ignore_ascii_case(DATE) {
                    date = None;
                }
                emit(name, value);
            }
        }
        for edit in self.edits.iter() {
            if let Edit::Append(name, value) | Edit::Set(name, value) = edit {
                emit(name.as_bytes(), value);
            }
        }
        if let Some(date) = date {
            emit(DATE, date.text().as_bytes());
        }
        if let Some(id) = self.request_id {
            emit(REQUEST_ID, id.as_bytes());
        }
    }
}

/// Returns true if one of the edits removes or replaces the lines of a field.
pub(super) fn replaces(edits: &Edits, name: &[u8]) -> bool {
    edits.iter().any(|edit| match edit {
        Edit::Remove(other) | Edit::Set(other, _) => name.eq_ignore_ascii_case(other.as_bytes()),
        Edit::Append(..) | Edit::Host(_) | Edit::Target(_) => false,
    })
}

const DATE: &[u8] = b"date";

/// The field that carries a request's id.
pub(super) const REQUEST_ID: &[u8] = b"x-request-id";

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of a response with these fields and edits. A date is `now`.
    fn lines(
        fields: &[Header<'_>],
        edits: &Edits,
        date: Option<&DateClock>,
        request_id: Option<&str>,
    ) -> Vec<String> {
        let head = DownstreamHead {
            status: 200,
            reason: b"OK",
            fields,
            edits,
            length: Length::Empty,
            declared: None,
            closes: false,
            date,
            request_id,
        };
        let mut lines = Vec::new();
        head.emit(|name, value| {
            let value = String::from_utf8_lossy(value);
            let is_now = httpdate::parse_http_date(&value).is_ok();
            let value = if is_now { "now" } else { &value };
            lines.push(format!("{}: {value}", String::from_utf8_lossy(name)));
        });
        lines
    }

    #[test]
    fn a_date_is_added_if_there_is_none() {
        let (clock, none) = (DateClock::default(), Edits::default());
        let now = Some(&clock);
        assert_eq!(lines(&[], &none, None, None), [""; 0]);
        assert_eq!(lines(&[], &none, now, None), ["date: now"]);
        assert_eq!(
            lines(&[(b"DATE", b"then")], &none, now, None),
            ["DATE: then"]
        );
        assert_eq!(
            lines(&[(b"data", b"x"), (b"x-date", b"y")], &none, now, None),
            ["data: x", "x-date: y", "date: now"]
        );
        let nominated: [Header<'_>; 2] = [(b"connection", b"date"), (b"date", b"then")];
        assert_eq!(lines(&nominated, &none, now, None), ["date: now"]);
        let removed = Edits::from_iter([Edit::Remove("date")]);
        assert_eq!(
            lines(&[(b"date", b"then")], &removed, now, None),
            ["date: now"]
        );
    }

    #[test]
    fn edits_are_applied_and_the_request_id_is_ours() {
        let fields: [Header<'_>; 7] = [
            (b"A", b"1"),
            (b"b", b"2"),
            (b"B", b"3"),
            (b"X-Request-Id", b"theirs"),
            (b"Connection", b"close, x-hop"),
            (b"X-Hop", b"4"),
            (b"content-length", b"5"),
        ];
        let edits = Edits::from_iter([
            Edit::Set("B", b"new"),
            Edit::Remove("a"),
            Edit::Append("c", b"6"),
        ]);
        let unchanged = lines(&fields, &Edits::default(), None, None);
        assert_eq!(unchanged, ["A: 1", "b: 2", "B: 3"]);
        assert_eq!(
            lines(&fields, &edits, None, Some("ours")),
            ["B: new", "c: 6", "x-request-id: ours"]
        );
    }
}
