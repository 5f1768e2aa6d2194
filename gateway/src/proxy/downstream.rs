//! How does an answer get to the client, whichever version of HTTP it speaks?

use fluxlit_policy::{Edit, Header};

use crate::http::body::Sink;
use crate::http::framing::Length;
use crate::http::hop_by_hop;

/// The side of a client's connection or stream on which its answer is written.
pub(crate) trait Downstream: Sink {
    /// Begins the final answer.
    fn begin(&mut self, head: &AnswerHead<'_>);

    /// Takes back the answer that was begun, if nothing of it was written yet.
    fn take_back(&mut self) -> bool;

    /// Sends an informational answer, RFC 9110 §15.2, if this client can have one.
    async fn interim(&mut self, head: &AnswerHead<'_>) -> std::io::Result<()>;
}

/// The head of an answer on its way to the client.
pub(crate) struct AnswerHead<'a> {
    pub(crate) status: u16,
    /// The reason phrase; the version of HTTP may have none.
    pub(crate) reason: &'a [u8],
    pub(crate) fields: &'a [Header<'a>],
    /// What the policy changes.
    pub(crate) edits: &'a [Edit],
    pub(crate) length: Length,
    /// The length that is declared although there is no body: an answer to HEAD, or 304.
    pub(crate) declared: Option<&'a [u8]>,
    /// Whether the request's body has not ended yet, so that nobody knows where another request would begin.
    pub(crate) is_early: bool,
    /// The request's id; informational answers have none.
    pub(crate) request_id: Option<&'a str>,
}

impl AnswerHead<'_> {
    /// Gives each field line to `emit`, in order, but for those that frame the message; a request's id is ours.
    pub(crate) fn emit(&self, mut emit: impl FnMut(&[u8], &[u8])) {
        let nominated = hop_by_hop::nominated(self.fields);
        for (name, value) in self.fields {
            let is_dropped = hop_by_hop::is_hop_by_hop(name)
                || name.eq_ignore_ascii_case(REQUEST_ID)
                || nominated
                    .iter()
                    .any(|nominated| nominated.eq_ignore_ascii_case(name))
                || replaces(self.edits, name);
            if !is_dropped {
                emit(name, value);
            }
        }
        for edit in self.edits {
            if let Edit::Append(name, value) | Edit::Set(name, value) = edit {
                emit(name.as_bytes(), value);
            }
        }
        if let Some(id) = self.request_id {
            emit(REQUEST_ID, id.as_bytes());
        }
    }
}

/// Whether one of these edits takes the place of the lines that a field has.
pub(crate) fn replaces(edits: &[Edit], name: &[u8]) -> bool {
    edits.iter().any(|edit| match edit {
        Edit::Remove(other) | Edit::Set(other, _) => name.eq_ignore_ascii_case(other.as_bytes()),
        Edit::Append(..) | Edit::Host(_) | Edit::Target(_) => false,
    })
}

/// The field that carries a request's id.
pub(crate) const REQUEST_ID: &[u8] = b"x-request-id";
