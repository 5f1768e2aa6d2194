//! Passes the upstream's response on to the client.
//!
//! The response is unchanged except for the policy's edits and hop-by-hop fields. Informational responses are passed on
//! before it.

use std::time::{Duration, Instant as StdInstant};

use fluxlit_policy::{Policy, Response};
use tokio::time::Instant;

use crate::http::body::{Bounds, pump};
use crate::http::framing::{Framing, Length};
use crate::http::head::{ResponseHead, Version, all, only};
use crate::http::hop_by_hop;
use crate::http::reader::{Body, ReadError, Reader};
use crate::net::timer::Timer;
use crate::observe::{Ending, HttpVersion, Phase};
use crate::proxy::downstream::{Downstream, DownstreamHead};
use crate::proxy::failure::ResponseError;
use crate::proxy::forward::{Forwarder, Passed, Upload, UploadProgress};

/// The deadline of the response. It depends on how far the upload is.
struct Waiting {
    upload: Upload,
    deadline: Option<Instant>,
}

impl Waiting {
    fn is_over(&mut self, limit: Duration) -> bool {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert_with(|| now + limit);
        self.upload != Upload::Sending && now >= deadline
    }
}

impl Forwarder<'_> {
    /// Waits for the upstream's response and passes it on. `begun`: when the attempt has begun.
    pub(super) async fn pass_response(
        &self,
        reader: &mut Reader,
        down: &mut impl Downstream,
        timer: &mut Timer,
        upload: &UploadProgress,
        begun: StdInstant,
    ) -> Result<Passed, ResponseError> {
        let limits = &self.worker.settings.limits;
        let mut waiting = Waiting {
            upload: self.upload_state(&upload.state),
            deadline: Some(Instant::from_std(begun) + self.response_timeout()),
        };
        loop {
            let head = self.wait_for_head(reader, timer, upload, &mut waiting);
            let length = head.await?;
            let bytes = reader.bytes().get(..length).unwrap_or_default();
            let head = ResponseHead::read(bytes).map_err(|error| ResponseError::invalid(&error))?;
            if (100..200).contains(&head.status) && head.status != 101 {
                let informational = DownstreamHead {
                    status: head.status,
                    reason: head.reason,
                    fields: &head.fields,
                    edits: &Policy::informational_edits(),
                    length: Length::Empty,
                    declared: None,
                    closes: false,
                    date: None,
                    request_id: None,
                };
                let sent = down.send_informational(&informational);
                let sent = timer.within(limits.idle, sent).await;
                sent.map_err(|_| ResponseError::Client(Ending::ClientTimeout))?
                    .map_err(ResponseError::client)?;
                if head.status == 100 && upload.state.get() == Upload::AwaitsContinue {
                    upload.state.set(Upload::Sending);
                }
                reader.consume(length);
                // Informational responses that arrive without a pause never reach the timer.
                if waiting.is_over(self.response_timeout()) {
                    return Err(ResponseError::Timeout);
                }
                continue;
            }
            let framing = Framing::of(&head.fields);
            let body = framing
                .response_length(head.version, head.status, self.info.is_head)
                .map_err(|error| ResponseError::invalid(&error))?;
            let switches = head.status == 101;
            if switches {
                self.check_switch(&head, &framing)?;
            } else if self.forward.accept.is_some()
                && self.info.version == HttpVersion::Http2
                && (200..300).contains(&head.status)
            {
                // It would open the WebSocket, RFC 8441 §5, and a page would be read as frames.
                return Err(ResponseError::NotSwitched(head.status));
            }
            let response = Response {
                status: head.status,
                headers: &head.fields,
            };
            if self.forward.is_asset && self.worker.settings.policy.replaces_asset(&response) {
                return Err(ResponseError::PageForAsset);
            }
            let persists = framing.persists(head.version) && body != Length::UntilEnd && !switches;
            let is_early = upload.state.get() != Upload::Complete;
            self.begin_response(&head, body, is_early, down);
            reader.consume(length);
            if switches {
                down.flush().await.map_err(ResponseError::client)?;
                return Ok(Passed::Tunnel);
            }
            let mut body = Body::new(reader, body, limits.head_bytes);
            let bounds = Bounds {
                idle: self.worker.settings.read_timeout,
                max: 0,
                passed: &self.progress.sent,
            };
            let moved = pump(&mut body, down, timer, bounds, hop_by_hop::trailers);
            moved
                .await
                .map_err(|error| ResponseError::of_body(&error))?;
            return Ok(Passed::Complete { persists });
        }
    }

    /// Returns the time that the upstream has to respond, or to request the body with 100 (Continue).
    fn response_timeout(&self) -> Duration {
        let settings = &self.worker.settings;
        match &self.forward.accept {
            Some(_) => settings.handshake_timeout,
            None => settings.read_timeout,
        }
    }

    /// Waits for a head and returns its length. The time limit applies when no upload is in progress, and informational
    /// responses do not extend it.
    async fn wait_for_head(
        &self,
        reader: &mut Reader,
        timer: &mut Timer,
        upload: &UploadProgress,
        waiting: &mut Waiting,
    ) -> Result<usize, ResponseError> {
        let limit = self.response_timeout();
        loop {
            let before = self.upload_state(&upload.state);
            if waiting.upload != before {
                // The end of an upload may be noticed only now, after the previous deadline has passed.
                let ended = upload.ended.get();
                *waiting = Waiting {
                    upload: before,
                    deadline: ended.map(|ended| Instant::from_std(ended) + limit),
                };
            }
            let head = timer.until(limit, &mut waiting.deadline, reader.head(usize::MAX));
            match head.await {
                Ok(Ok(0)) => return Err(ResponseError::Closed),
                Ok(Ok(length)) => return Ok(length),
                Ok(Err(ReadError::Io(_) | ReadError::Ended)) if reader.bytes().is_empty() => {
                    return Err(ResponseError::Closed);
                }
                Ok(Err(error)) => return Err(ResponseError::invalid(&error)),
                Err(_)
                    if before != Upload::Sending && before == self.upload_state(&upload.state) =>
                {
                    return Err(ResponseError::Timeout);
                }
                Err(_) => waiting.deadline = None,
            }
        }
    }

    /// Accepts a 101 only if it proves that the upstream understood this handshake.
    fn check_switch(
        &self,
        head: &ResponseHead<'_>,
        framing: &Framing,
    ) -> Result<(), ResponseError> {
        let proof = only(&head.fields, b"sec-websocket-accept");
        let expected = self.forward.accept.as_deref().map(str::as_bytes);
        if head.version == Version::Http11
            && framing.is_websocket()
            && expected.is_some()
            && proof == expected
        {
            Ok(())
        } else {
            Err(ResponseError::Invalid(
                "it switched protocols without accepting the WebSocket handshake".to_owned(),
            ))
        }
    }

    fn begin_response(
        &self,
        head: &ResponseHead<'_>,
        length: Length,
        is_early: bool,
        down: &mut impl Downstream,
    ) {
        let response = Response {
            status: head.status,
            headers: &head.fields,
        };
        let decision = self
            .worker
            .settings
            .policy
            .response(self.exchange, &response);
        if decision.host_cookie_kept {
            self.worker.shared.warnings.host_cookie_kept();
        }
        let declares = length == Length::Empty && !matches!(head.status, 100..=199 | 204);
        let declared = declares
            .then(|| all(&head.fields, b"content-length").next())
            .flatten();
        self.progress.status.set(head.status);
        self.progress.phase.set(Phase::Body);
        if self.worker.observer.logs_requests() {
            self.progress.responded.set(Some(StdInstant::now()));
        }
        down.begin(&DownstreamHead {
            status: head.status,
            reason: head.reason,
            fields: &head.fields,
            edits: &decision.edits,
            length,
            declared,
            // Without the rest of the request's body, the start of another request is unknown.
            closes: is_early,
            date: (head.status >= 200).then_some(&self.worker.date),
            request_id: Some(&self.info.request_id),
        });
    }
}
