//! How does the upstream's answer get to the client?
//!
//! As it came, but for what the policy changes and what belongs to one hop. Informational answers are passed on before it.

use std::cell::Cell;
use std::time::Duration;

use fluxlit_policy::Policy;
use tokio::time::Instant;

use crate::http::body::{Bounds, pump};
use crate::http::framing::{Length, Transport};
use crate::http::head::{ResponseHead, Version, all, only};
use crate::http::hop_by_hop;
use crate::http::reader::{Body, ReadError, Reader};
use crate::net::timer::Timer;
use crate::observe::Ending;
use crate::observe::HttpVersion;
use crate::proxy::downstream::{AnswerHead, Downstream};
use crate::proxy::failure::NoAnswer;
use crate::proxy::forward::{Passed, Upload, Way};

/// How long the upstream's answer is waited for already.
struct Waiting {
    /// How far the request was by then.
    uploaded: Upload,
    deadline: Option<Instant>,
}

impl Waiting {
    fn is_over(&mut self, limit: Duration) -> bool {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert_with(|| now + limit);
        self.uploaded != Upload::UnderWay && now >= deadline
    }
}

impl Way<'_> {
    /// Waits for the upstream's answer and passes it on.
    pub(super) async fn pass_answer(
        &self,
        reader: &mut Reader,
        down: &mut impl Downstream,
        timer: &mut Timer,
        uploaded: &Cell<Upload>,
    ) -> Result<Passed, NoAnswer> {
        let limits = &self.worker.settings.limits;
        let mut waiting = Waiting {
            uploaded: self.progress_of(uploaded),
            deadline: None,
        };
        loop {
            let head = self.wait_for_head(reader, timer, uploaded, &mut waiting);
            let length = head.await?;
            let bytes = reader.bytes().get(..length).unwrap_or_default();
            let head = ResponseHead::read(bytes).map_err(|error| NoAnswer::bad(&error))?;
            if (100..200).contains(&head.status) && head.status != 101 {
                let interim = AnswerHead {
                    status: head.status,
                    reason: head.reason,
                    fields: &head.fields,
                    edits: Policy::informational_edits(),
                    length: Length::Empty,
                    declared: None,
                    is_early: false,
                    request_id: None,
                };
                let written = timer.within(limits.idle, down.interim(&interim)).await;
                written
                    .map_err(|_| NoAnswer::Client(Ending::ClientTimeout))?
                    .map_err(NoAnswer::client)?;
                if head.status == 100 && uploaded.get() == Upload::Held {
                    uploaded.set(Upload::UnderWay);
                }
                reader.consume(length);
                // Those that come without a pause are never waited for.
                if waiting.is_over(self.answer_limit()) {
                    return Err(NoAnswer::Timeout);
                }
                continue;
            }
            let transport = Transport::of(&head.fields);
            let body = transport
                .response_length(head.version, head.status, self.facts.to_head)
                .map_err(|error| NoAnswer::bad(&error))?;
            let switches = head.status == 101;
            if switches {
                self.check_switch(&head, &transport)?;
            } else if self.forward.accept.is_some()
                && self.facts.version == HttpVersion::Http2
                && (200..300).contains(&head.status)
            {
                // There it would say that the WebSocket is open, RFC 8441 §5, and a page would be read as frames.
                return Err(NoAnswer::NotSwitched(head.status));
            }
            let persists =
                transport.persists(head.version) && body != Length::UntilEnd && !switches;
            let is_early = uploaded.get() != Upload::Whole;
            self.begin_answer(&head, body, is_early, down);
            reader.consume(length);
            if switches {
                down.flush().await.map_err(NoAnswer::client)?;
                return Ok(Passed::Tunnel);
            }
            let mut body = Body::new(reader, body, limits.head_bytes);
            let bounds = Bounds {
                idle: self.worker.settings.read_timeout,
                most: 0,
                passed: &self.progress.sent,
            };
            let moved = pump(&mut body, down, timer, bounds, |section| {
                hop_by_hop::trailers(section, |_| false)
            });
            moved.await.map_err(|error| NoAnswer::of_body(&error))?;
            return Ok(Passed::Whole { persists });
        }
    }

    /// How long the upstream may take for its answer, or to ask for the body.
    fn answer_limit(&self) -> Duration {
        let settings = &self.worker.settings;
        match &self.forward.accept {
            Some(_) => settings.handshake_timeout,
            None => settings.read_timeout,
        }
    }

    /// Waits for a head; the time runs from when it is the upstream's turn, whatever informational answers come meanwhile.
    async fn wait_for_head(
        &self,
        reader: &mut Reader,
        timer: &mut Timer,
        uploaded: &Cell<Upload>,
        waiting: &mut Waiting,
    ) -> Result<usize, NoAnswer> {
        let limit = self.answer_limit();
        loop {
            let before = self.progress_of(uploaded);
            if waiting.uploaded != before {
                *waiting = Waiting {
                    uploaded: before,
                    deadline: None,
                };
            }
            let head = timer.until(limit, &mut waiting.deadline, reader.head(usize::MAX));
            match head.await {
                Ok(Ok(0)) => return Err(NoAnswer::Ended),
                Ok(Ok(length)) => return Ok(length),
                Ok(Err(ReadError::Io(_) | ReadError::Ended)) if reader.bytes().is_empty() => {
                    return Err(NoAnswer::Ended);
                }
                Ok(Err(error)) => return Err(NoAnswer::bad(&error)),
                Err(_) if before != Upload::UnderWay && before == self.progress_of(uploaded) => {
                    return Err(NoAnswer::Timeout);
                }
                Err(_) => waiting.deadline = None,
            }
        }
    }

    /// Only a 101 that proves the upstream has understood this very handshake opens a tunnel.
    fn check_switch(&self, head: &ResponseHead<'_>, transport: &Transport) -> Result<(), NoAnswer> {
        let proof = only(&head.fields, b"sec-websocket-accept");
        let expected = self.forward.accept.as_deref().map(str::as_bytes);
        if head.version == Version::Http11
            && transport.is_websocket()
            && expected.is_some()
            && proof == expected
        {
            Ok(())
        } else {
            Err(NoAnswer::Bad(
                "it switched protocols without accepting the WebSocket handshake".to_owned(),
            ))
        }
    }

    fn begin_answer(
        &self,
        head: &ResponseHead<'_>,
        length: Length,
        is_early: bool,
        down: &mut impl Downstream,
    ) {
        let policy = &self.worker.settings.policy;
        let decision = policy.response(
            self.exchange,
            &fluxlit_policy::Response {
                status: head.status,
                headers: &head.fields,
            },
        );
        if decision.host_cookie_kept {
            self.worker.shared.warnings.host_cookie_kept();
        }
        let declares = length == Length::Empty && !matches!(head.status, 100..=199 | 204);
        let declared = declares
            .then(|| all(&head.fields, b"content-length").next())
            .flatten();
        self.progress.status.set(head.status);
        self.progress.answered.set(Some(std::time::Instant::now()));
        down.begin(&AnswerHead {
            status: head.status,
            reason: head.reason,
            fields: &head.fields,
            edits: &decision.edits,
            length,
            declared,
            is_early,
            request_id: Some(&self.facts.request_id),
        });
    }
}
