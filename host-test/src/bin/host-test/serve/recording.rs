//! How do live requests become cases?
//!
//! What came in is kept: the request, the upstream's answer, the answers to call-outs. When serving ends, each is played
//! to a fresh filter under a clock that stands still, and what comes of that is the expectation. So the recording holds
//! from the first replay on, whatever live requests before one have left in the filter.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_test::case_file::{Answer, CallAnswer, Case, CaseFile, Peer, Request, Runner, Schedule};
use host_test::envoy::RequestHead;
use host_test::{Filter, HeaderMap, Side};

use super::calls::{latin1, lines};

/// What has come in so far.
pub(super) struct Recorder {
    path: PathBuf,
    cases: RefCell<Vec<Case>>,
    dropped: Cell<usize>,
}

/// What came in with one request.
#[derive(Default)]
pub(super) struct Seen {
    request: Request,
    answer: Option<Answer>,
    size: usize,
}

impl Recorder {
    /// Records into the file at `path`, which is written at the end.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            cases: RefCell::default(),
            dropped: Cell::default(),
        }
    }

    /// Keeps what came in with a request that is over, with the answers to the call-outs that it led to.
    pub(super) fn keep(&self, seen: Seen, calls: Vec<(String, CallAnswer)>) {
        if seen.size > MAX_SIZE {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let mut cases = self.cases.borrow_mut();
        let number = cases.len() + 1;
        let mut case = Case {
            name: format!("{number}: {} {}", seen.request.method, seen.request.target),
            request: Some(seen.request),
            answer: seen.answer,
            ..Case::default()
        };
        for (cluster, answer) in calls {
            case.upstreams.entry(cluster).or_default().push(answer);
        }
        cases.push(case);
    }

    /// Writes the file: each case with what comes of it.
    pub(super) fn write(
        &self,
        filter: Filter,
        profile: host_test::Profile,
        config: &[u8],
    ) -> anyhow::Result<()> {
        let mut file = CaseFile {
            about: "Recorded from live requests.".to_owned(),
            ..CaseFile::default()
        };
        file.config_by_default(config);
        let mut runner = Runner::new(filter);
        runner.options.profile = profile;
        for case in self.cases.borrow().iter() {
            let ran = runner.run(&self.path, &file, case, Schedule::default())?;
            file.cases.push(ran.recorded(case));
        }
        std::fs::write(&self.path, file.to_text())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        let path = self.path.display();
        eprintln!("{} requests recorded in {path}", file.cases.len());
        if self.dropped.get() > 0 {
            let dropped = self.dropped.get();
            eprintln!("{dropped} with more than {MAX_SIZE} bytes of bodies were left out");
        }
        Ok(())
    }
}

impl Seen {
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
        self.request.method = latin1(head.method);
        self.request.target = latin1(head.target);
        self.request.host = head.host.map(latin1);
        self.request.headers = fields
            .map(|(name, value)| (latin1(name), latin1(value)))
            .collect();
    }

    pub(super) fn response(&mut self, status: u16, headers: &HeaderMap) {
        self.answer = Some(Answer {
            status,
            headers: lines(headers),
            ..Answer::default()
        });
    }

    /// Past the limit nothing is kept any more.
    pub(super) fn body(&mut self, side: Side, data: &[u8]) {
        self.size = self.size.saturating_add(data.len());
        if self.size <= MAX_SIZE {
            match side {
                Side::Request => self.request.body.push_str(&latin1(data)),
                Side::Response => {
                    let answer = self.answer.get_or_insert_default();
                    answer.body.push_str(&latin1(data));
                }
            }
        }
    }

    pub(super) fn trailers(&mut self, side: Side, trailers: &HeaderMap) {
        let lines = lines(trailers);
        match side {
            Side::Request => self.request.trailers = lines,
            Side::Response => self.answer.get_or_insert_default().trailers = lines,
        }
    }
}

/// How many bytes of bodies a recorded request may have, both ways together.
const MAX_SIZE: usize = 1024 * 1024;
