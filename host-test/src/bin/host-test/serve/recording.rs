//! Turns live requests into cases.
//!
//! A recorder keeps the request, the upstream's response, and the responses to call-outs. When serving ends, it runs each
//! recorded request on a new filter with a virtual clock, and writes the result as the expectation. So the first replay
//! already gives the same result, regardless of the state that earlier live requests have left in the filter.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fluxlit_cases::latin1;
use host_test::HeaderMap;
use host_test::case_file::{Answer, CallAnswer, Case, CaseFile, Peer, Request, Runner, Schedule};
use host_test::envoy::RequestHead;
use host_test::event::Side;

/// The cases recorded so far.
pub(super) struct Recorder {
    path: PathBuf,
    cases: RefCell<Vec<Case>>,
    /// The number of requests with bodies larger than [`MAX_SIZE`].
    dropped: Cell<usize>,
}

/// The data received for one request.
#[derive(Default)]
pub(super) struct Observed {
    request: Request,
    answer: Option<Answer>,
    /// Bytes of both bodies.
    size: usize,
}

impl Recorder {
    /// Returns a recorder without cases; [`Self::write`] writes the file at `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            cases: RefCell::default(),
            dropped: Cell::default(),
        }
    }

    /// Records a finished request, with the clusters that the filter called for it and their responses.
    pub(super) fn keep(&self, observed: Observed, calls: Vec<(String, CallAnswer)>) {
        if observed.size > MAX_SIZE {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let mut cases = self.cases.borrow_mut();
        let number = cases.len() + 1;
        let mut case = Case {
            name: format!(
                "{number}: {} {}",
                observed.request.method, observed.request.target
            ),
            request: Some(observed.request),
            answer: observed.answer,
            ..Case::default()
        };
        for (cluster, answer) in calls {
            case.upstreams.entry(cluster).or_default().push(answer);
        }
        cases.push(case);
    }

    /// Writes the file: each case with the result that the runner's filter gives.
    pub(super) fn write(&self, runner: &Runner, config: &[u8]) -> anyhow::Result<()> {
        let mut file = CaseFile {
            about: "Recorded from live requests.".to_owned(),
            ..CaseFile::default()
        };
        file.config_by_default(config);
        for case in self.cases.borrow().iter() {
            let ran = runner.run(&self.path, &file, case, Schedule::default())?;
            file.cases.push(ran.recorded(case));
        }
        let path = self.path.display();
        std::fs::write(&self.path, file.to_text())
            .with_context(|| format!("cannot write {path}"))?;
        eprintln!("recorded {} requests in {path}", file.cases.len());
        let dropped = self.dropped.get();
        if dropped > 0 {
            eprintln!("left out {dropped} requests with more than {MAX_SIZE} bytes of bodies");
        }
        Ok(())
    }
}

impl Observed {
    pub(super) fn from(peer: SocketAddr) -> Self {
        Self {
            request: Request {
                peer: Peer::Ip(peer.ip()),
                ..Request::default()
            },
            ..Self::default()
        }
    }

    pub(super) fn request<'a>(
        &mut self,
        head: &RequestHead<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        self.request.method = latin1::text(head.method);
        self.request.target = latin1::text(head.target);
        self.request.host = head.host.map(latin1::text);
        self.request.headers = fields
            .map(|(name, value)| (latin1::text(name), latin1::text(value)))
            .collect();
    }

    pub(super) fn response(&mut self, status: u16, headers: &HeaderMap) {
        self.answer = Some(Answer {
            status,
            headers: fields(headers),
            ..Answer::default()
        });
    }

    /// Appends to a body, unless both bodies together exceed the limit.
    pub(super) fn body(&mut self, side: Side, data: &[u8]) {
        self.size = self.size.saturating_add(data.len());
        if self.size <= MAX_SIZE {
            match side {
                Side::Request => self.request.body.push_str(&latin1::text(data)),
                Side::Response => {
                    let answer = self.answer.get_or_insert_default();
                    answer.body.push_str(&latin1::text(data));
                }
            }
        }
    }

    pub(super) fn trailers(&mut self, side: Side, trailers: &HeaderMap) {
        let trailers = fields(trailers);
        match side {
            Side::Request => self.request.trailers = trailers,
            Side::Response => self.answer.get_or_insert_default().trailers = trailers,
        }
    }
}

/// Returns the fields in the form of a case file, without pseudo-headers.
pub(super) fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (latin1::text(name), latin1::text(value)))
        .collect()
}

/// Maximum size of the bodies of a recorded request and its response together, in bytes.
const MAX_SIZE: usize = 1024 * 1024;
