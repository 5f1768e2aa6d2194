//! Records live requests as a case file that expects what happened.
//!
//! All requests that one VM has served are the exchanges of one case, in the order in which they began, so that a replay has the
//! same state at each of them: a filter that counts requests counts the same ones. A filter that is reloaded begins a new case.
//! Times between requests, and those that services took, are part of the case. Requests that overlapped follow each other in
//! the case, and time-dependent results, such as those of ticks, may differ in a replay.
//!
//! The file is written before anything is compared: what was recorded does not depend on a module that has changed since.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use fluxlit_cases::latin1;
use host_test::case_file::{
    Answer, Case, CaseFile, Exchange, Peer, PluginSetup, Request, Runner, Schedule, Version,
    recorded_end, recorded_live,
};
use host_test::envoy::{Profile, RequestHead};
use host_test::event::{Message, Side};
use host_test::{HeaderMap, Outcome};

use super::call_outs::RunningFilter;
use super::headers::case_fields;

/// The requests recorded so far.
pub(super) struct Recorder {
    path: PathBuf,
    profile: Profile,
    vms: RefCell<Vec<RecordedVm>>,
}

/// The requests that one VM has served.
struct RecordedVm {
    filter: Rc<RunningFilter>,
    config: Vec<u8>,
    setup: PluginSetup,
    /// The time of the first request.
    first: Option<SystemTime>,
    /// The number of requests that have begun.
    begun: usize,
    /// The finished requests, by the order in which they began.
    finished: BTreeMap<usize, RecordedExchange>,
}

struct RecordedExchange {
    exchange: Exchange,
    began: Instant,
    /// The time of the upstream's response, or else of the end.
    ended: Instant,
}

/// The data received for one request.
#[derive(Clone)]
pub(super) struct Observed {
    /// The places of the VM and of the request in it.
    number: Option<(usize, usize)>,
    began: Instant,
    sent: Option<Instant>,
    request: Request,
    answer: Option<Answer>,
    request_frames: Vec<Vec<u8>>,
    answer_frames: Vec<Vec<u8>>,
    answered: Option<Instant>,
    /// The parts of the bodies that the filter forwarded.
    to_upstream: Vec<u8>,
    to_client: Vec<u8>,
    /// Bytes of all bodies.
    size: usize,
}

impl Recorder {
    /// Returns a recorder that writes the file at `path`, and creates that file, so that an unusable path is noticed now.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn new(path: &Path, profile: Profile) -> anyhow::Result<Self> {
        let recorder = Self {
            path: path.to_owned(),
            profile,
            vms: RefCell::default(),
        };
        recorder.save(&CaseFile::default())?;
        Ok(recorder)
    }

    /// Begins to record a filter that has just started with this configuration.
    pub(super) fn start(&self, filter: &Rc<RunningFilter>, config: &[u8], setup: PluginSetup) {
        self.vms.borrow_mut().push(RecordedVm {
            filter: Rc::clone(filter),
            config: config.to_vec(),
            setup,
            first: None,
            begun: 0,
            finished: BTreeMap::new(),
        });
    }

    /// Counts a request that a filter receives.
    pub(super) fn begin(&self, filter: &Rc<RunningFilter>, observed: &mut Observed) {
        let mut vms = self.vms.borrow_mut();
        let mut vms = vms.iter_mut().enumerate();
        if let Some((number, vm)) = vms.find(|(_, vm)| Rc::ptr_eq(&vm.filter, filter)) {
            vm.first.get_or_insert_with(SystemTime::now);
            observed.number = Some((number, vm.begun));
            vm.begun += 1;
        }
    }

    /// Records a finished request.
    pub(super) fn keep(&self, observed: Observed, mut outcome: Outcome) {
        let Some((vm, number)) = observed.number else {
            return;
        };
        let is_whole = observed.size <= MAX_SIZE;
        let restore = |message: &mut Option<Message>, body: &[u8]| {
            if let Some(message) = message {
                // The live body was taken while it was streamed.
                message.body.splice(0..0, body.iter().copied());
            }
        };
        restore(&mut outcome.upstream, &observed.to_upstream);
        restore(&mut outcome.downstream, &observed.to_client);
        let (began, ended) = (
            observed.began,
            observed.answered.unwrap_or_else(Instant::now),
        );
        let mut exchange = recorded_live(self.profile, observed.into_exchange(), outcome);
        if !is_whole {
            if let Some(upstream) = &mut exchange.upstream {
                upstream.body = None;
            }
            exchange.downstream.body = None;
        }
        if let Some(vm) = self.vms.borrow_mut().get_mut(vm) {
            let recorded = RecordedExchange {
                exchange,
                began,
                ended,
            };
            vm.finished.insert(number, recorded);
        }
    }

    /// Writes the file. Then replays it with the module and reports whether that gives the same.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn write(&self, runner: anyhow::Result<Runner>) -> anyhow::Result<()> {
        let vms = self.vms.borrow();
        let cases = vms.iter().enumerate();
        let file = CaseFile {
            about: "Recorded from live requests.".to_owned(),
            cases: cases
                .filter_map(|(number, vm)| vm.case(number + 1))
                .collect(),
            ..CaseFile::default()
        };
        let count: usize = vms.iter().map(|vm| vm.finished.len()).sum();
        self.save(&file)?;
        eprintln!("recorded {count} requests in {}", self.path.display());
        match runner {
            Ok(runner) => self.compare(&runner, &file),
            Err(error) => eprintln!("the recording was not replayed: {error:#}"),
        }
        Ok(())
    }

    fn compare(&self, runner: &Runner, file: &CaseFile) {
        for case in &file.cases {
            let found = runner.mismatches(&self.path, file, case, Schedule::default());
            for mismatch in found.unwrap_or_else(|error| vec![error.to_string()]) {
                eprintln!("a replay differs: {}: {mismatch}", case.name);
            }
        }
    }

    fn save(&self, file: &CaseFile) -> anyhow::Result<()> {
        let path = self.path.display();
        std::fs::write(&self.path, file.to_text())
            .with_context(|| format!("--record: cannot write {path}"))
    }
}

impl RecordedVm {
    /// Returns the case; `None` if no request has finished.
    fn case(&self, number: usize) -> Option<Case> {
        let mut last: Option<Instant> = None;
        let exchanges = self.finished.values().map(|recorded| {
            let RecordedExchange {
                exchange,
                began,
                ended,
            } = recorded;
            let passed = last.map_or(Duration::ZERO, |last| began.saturating_duration_since(last));
            last = last.max(Some(*ended));
            Exchange {
                after_ms: milliseconds(passed),
                ..exchange.clone()
            }
        });
        let exchanges: Vec<Exchange> = exchanges.collect();
        if exchanges.is_empty() {
            return None;
        }
        let mut file = CaseFile::default();
        file.config_by_default(&self.config);
        let first = self
            .first
            .and_then(|first| first.duration_since(SystemTime::UNIX_EPOCH).ok());
        let mut case = Case {
            name: format!("{number}: {} requests", exchanges.len()),
            config: file.config,
            plugin: Some(PluginSetup {
                start_s: first.map(|first| first.as_secs()),
                ..self.setup.clone()
            }),
            ..Case::default()
        };
        for (cluster, answer) in self.filter.answers() {
            case.upstreams.entry(cluster).or_default().push(answer);
        }
        case.set_groups(exchanges);
        case.finally = recorded_end(self.filter.plugin.process(), &self.filter.logs());
        Some(case)
    }
}

impl Observed {
    pub(super) fn from(peer: SocketAddr, is_http10: bool) -> Self {
        Self {
            number: None,
            began: Instant::now(),
            sent: None,
            request: Request {
                peer: Peer::Ip(peer.ip()),
                http: if is_http10 {
                    Version::Http10
                } else {
                    Version::Http11
                },
                ..Request::default()
            },
            answer: None,
            request_frames: Vec::new(),
            answer_frames: Vec::new(),
            answered: None,
            to_upstream: Vec::new(),
            to_client: Vec::new(),
            size: 0,
        }
    }

    pub(super) fn request<'a>(
        &mut self,
        head: &RequestHead<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        end_of_stream: bool,
    ) {
        self.request.method = latin1::text(head.method);
        self.request.target = latin1::text(head.target);
        self.request.host = head.host.map(latin1::text);
        self.request.headers = fields
            .map(|(name, value)| (latin1::text(name), latin1::text(value)))
            .collect();
        if !end_of_stream {
            // Until a frame arrives: the headers did not end the message.
            self.request_frames.push(Vec::new());
        }
    }

    /// Notes that the request is sent to the upstream now.
    pub(super) fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    pub(super) fn response(&mut self, status: u16, headers: &HeaderMap, end_of_stream: bool) {
        let now = Instant::now();
        let sent = self.sent.unwrap_or(self.began);
        self.answered = Some(now);
        self.answer = Some(Answer {
            status,
            headers: case_fields(headers),
            delay_ms: milliseconds(now.saturating_duration_since(sent)),
            ..Answer::default()
        });
        if !end_of_stream {
            self.answer_frames.push(Vec::new());
        }
    }

    /// Adds a frame, unless all bodies together exceed the limit.
    pub(super) fn body(&mut self, side: Side, data: &[u8]) {
        self.size = self.size.saturating_add(data.len());
        let is_kept = self.size <= MAX_SIZE;
        let frames = match side {
            Side::Request => &mut self.request_frames,
            Side::Response => &mut self.answer_frames,
        };
        // The last frame is always the empty one that ends the message.
        if is_kept && !data.is_empty() {
            let end = frames.len().saturating_sub(1);
            frames.insert(end, data.to_vec());
        }
    }

    /// Adds a part of a body that the filter forwarded.
    pub(super) fn forwarded(&mut self, side: Side, data: &[u8]) {
        self.size = self.size.saturating_add(data.len());
        if self.size <= MAX_SIZE {
            match side {
                Side::Request => self.to_upstream.extend(data),
                Side::Response => self.to_client.extend(data),
            }
        }
    }

    pub(super) fn trailers(&mut self, side: Side, trailers: &HeaderMap) {
        let trailers = case_fields(trailers);
        match side {
            Side::Request => self.request.trailers = trailers,
            Side::Response => self.answer.get_or_insert_default().trailers = trailers,
        }
    }

    fn into_exchange(self) -> Exchange {
        let Self {
            mut request,
            answer,
            request_frames,
            answer_frames,
            ..
        } = self;
        let mut answer = answer.unwrap_or_default();
        set_frames(&request_frames, &mut request.body, &mut request.frames);
        set_frames(&answer_frames, &mut answer.body, &mut answer.frames);
        Exchange {
            request,
            answer,
            ..Exchange::default()
        }
    }
}

/// Stores a body that arrived in these frames: as text, if a replay cuts that into the same frames.
fn set_frames(arrived: &[Vec<u8>], body: &mut String, frames: &mut Vec<String>) {
    let mut texts = arrived.iter().map(|frame| latin1::text(frame));
    match arrived {
        [whole, end] if !whole.is_empty() && end.is_empty() => {
            *body = texts.next().unwrap_or_default();
        }
        _ => *frames = texts.collect(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum size of the recorded bodies of a request and its response, as they arrive and as they are forwarded, in bytes. Of
/// longer ones the beginning is recorded, and no body is expected.
const MAX_SIZE: usize = 4 * 1024 * 1024;
