//! Draws inputs from a seeded sequence.
//!
//! An input is a case of the file with some of its parts replaced, without its expectations. All that the case defines stays
//! part of it: services, plugin, shared data, queues and further exchanges.

use fluxlit_cases::{
    Answer, CallAnswer, CallFailure, Case, CaseFile, Config, ConnectionEvent, Exchange, Finally,
    InjectedFault, LogExpectation, Property, Request, TypedValue, UpstreamExpectation,
};

use crate::case_file::Schedule;

/// A seeded sequence (SplitMix64, Steele et al. 2014).
pub(super) struct Random(pub(super) u64);

/// What inputs are made of.
pub(super) struct Material<'a> {
    pub(super) file: &'a CaseFile,
    /// The cases to start from.
    pub(super) seeds: Vec<Case>,
    /// The names of fields.
    pub(super) names: Vec<String>,
    /// True to vary the configurations.
    pub(super) varies_config: bool,
    /// The faults to inject; empty for none.
    pub(super) faults: Vec<InjectedFault>,
}

/// Returns a case without what it expects of the filter.
pub(super) fn without_expectations(case: &Case) -> Case {
    let mut groups = case.groups();
    for group in &mut groups {
        clear(group);
    }
    let mut cleared = case.clone();
    cleared.set_groups(groups);
    for connection in &mut cleared.connections {
        (connection.upstream, connection.downstream) = (None, None);
        connection.logs = Vec::<LogExpectation>::new();
        connection.fails = None;
        (connection.paused, connection.reset) = (false, false);
    }
    cleared.finally = Finally {
        after_ms: case.finally.after_ms,
        ..Finally::default()
    };
    cleared.golden = None;
    cleared.except.clear();
    cleared.source = None;
    cleared
}

fn clear(exchange: &mut Exchange) {
    let Exchange {
        after_ms,
        worker,
        enqueue,
        request,
        alongside,
        answer,
        ..
    } = std::mem::take(exchange);
    *exchange = Exchange {
        after_ms,
        worker,
        enqueue,
        request,
        alongside,
        upstream: Some(UpstreamExpectation::default()),
        answer,
        ..Exchange::default()
    };
    for other in &mut exchange.alongside {
        clear(other);
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let index = self.below(list.len());
        list.get(index)
    }

    /// Draws an input.
    pub(super) fn case(&mut self, material: &Material<'_>) -> Case {
        let mut case = self.pick(&material.seeds).cloned().unwrap_or_default();
        self.vary_exchanges(&mut case, &material.names);
        for connection in &mut case.connections {
            for event in &mut connection.events {
                match event {
                    ConnectionEvent::Downstream(text)
                    | ConnectionEvent::DownstreamEnd(text)
                    | ConnectionEvent::Upstream(text)
                    | ConnectionEvent::UpstreamEnd(text)
                        if self.one_in(2) =>
                    {
                        *text = self.text();
                    }
                    _ => {}
                }
            }
        }
        self.vary_services(&mut case, material);
        for value in case.shared_data.values_mut() {
            if self.one_in(3) {
                *value = self.text();
            }
        }
        if self.one_in(16) {
            case.shared_data.clear();
        }
        if self.one_in(4) {
            case.finally.after_ms = self.time();
        }
        if material.varies_config && self.one_in(2) {
            self.vary_config(&mut case, material.file);
        }
        if !material.faults.is_empty()
            && self.one_in(2)
            && let Some(fault) = self.pick(&material.faults)
        {
            let fault = InjectedFault {
                occurrence: u32::try_from(self.below(13)).unwrap_or_default(),
                ..fault.clone()
            };
            plugin(&mut case, material.file).faults.push(fault);
        }
        case
    }

    pub(super) fn schedule(&mut self) -> Schedule {
        self.pick(&Schedule::ALL).copied().unwrap_or_default()
    }

    fn vary_exchanges(&mut self, case: &mut Case, names: &[String]) {
        let mut groups = case.groups();
        if self.one_in(4)
            && let Some(group) = self.pick(&groups).cloned()
        {
            // State that one stream leaves in the VM meets another one.
            groups.push(group);
        }
        for group in &mut groups {
            if self.one_in(8) {
                group.after_ms = self.time();
            }
            for queue in &mut group.enqueue {
                for message in &mut queue.messages {
                    if self.one_in(2) {
                        *message = self.text();
                    }
                }
            }
            self.vary(&mut group.request, &mut group.answer, names);
            for other in &mut group.alongside {
                self.vary(&mut other.request, &mut other.answer, names);
            }
            if self.one_in(8) {
                let mut other = Exchange {
                    alongside: Vec::new(),
                    after_ms: 0,
                    ..group.clone()
                };
                self.vary(&mut other.request, &mut other.answer, names);
                group.alongside.push(other);
            }
        }
        if !groups.is_empty() {
            case.set_groups(groups);
        }
    }

    fn vary(&mut self, request: &mut Request, answer: &mut Answer, names: &[String]) {
        if !self.one_in(3) {
            request.target = format!("/{}", self.text());
        }
        if self.one_in(4) {
            request.method = self.pick(&METHODS).copied().unwrap_or("GET").to_owned();
        }
        if self.one_in(4) {
            request.host = (!self.one_in(4)).then(|| self.text());
        }
        request.tls = self.one_in(2);
        request.headers.extend(self.lines(names));
        if self.one_in(8) {
            request.headers.clear();
        }
        if self.one_in(2) {
            (request.frames, request.frame_size) = (Vec::new(), None);
            request.body = self.text();
        }
        if self.one_in(4) {
            request.trailers = self.lines(names);
        }
        for property in &mut request.properties {
            if self.one_in(4) {
                property.value = self.value();
            }
        }
        if self.one_in(4)
            && let Some(path) = self.pick(&PROPERTIES)
        {
            request.properties.push(Property {
                path: path.split('.').map(str::to_owned).collect(),
                value: self.value(),
            });
        }
        // The response that the seed defines stays in one of four inputs.
        if !self.one_in(4) {
            *answer = Answer {
                status: self.status(),
                headers: self.lines(names),
                body: if self.one_in(2) {
                    self.text()
                } else {
                    String::new()
                },
                trailers: if self.one_in(8) {
                    self.lines(names)
                } else {
                    Vec::new()
                },
                ..Answer::default()
            };
        }
    }

    /// Replaces responses of the services that the case or its file defines.
    fn vary_services(&mut self, case: &mut Case, material: &Material<'_>) {
        for (name, answers) in &material.file.upstreams {
            let own = case.upstreams.entry(name.clone());
            own.or_insert_with(|| answers.clone());
        }
        for answers in case.upstreams.values_mut() {
            if answers.is_empty() {
                answers.push(CallAnswer::default());
            }
            for answer in answers {
                if self.one_in(2) {
                    self.vary_service(answer, &material.names);
                }
            }
        }
    }

    fn vary_service(&mut self, answer: &mut CallAnswer, names: &[String]) {
        let failures = [
            CallFailure::NoHeaders,
            CallFailure::Refused,
            CallFailure::Reset,
            CallFailure::TimeOut,
        ];
        answer.fails = if self.one_in(8) {
            self.pick(&failures).copied()
        } else {
            None
        };
        if self.one_in(4) {
            answer.delay_ms = self.time();
        }
        match &mut answer.grpc {
            Some(messages) => {
                *messages = (0..self.below(3)).map(|_| self.text()).collect();
                answer.grpc_status = Some(u32::try_from(self.below(18)).unwrap_or_default());
                answer.grpc_message = self.text();
            }
            None => answer.status = Some(self.status()),
        }
        if self.one_in(2) {
            answer.headers = self.lines(names);
        }
        if self.one_in(2) && answer.grpc.is_none() {
            answer.body = self.text();
        }
        if self.one_in(8) {
            answer.trailers = self.lines(names);
        }
    }

    fn status(&mut self) -> u16 {
        if self.one_in(2) {
            return self.pick(&STATUSES).copied().unwrap_or(200);
        }
        u16::try_from(200 + self.below(400)).unwrap_or(200)
    }

    fn time(&mut self) -> u64 {
        self.pick(&TIMES).copied().unwrap_or_default()
    }

    fn value(&mut self) -> TypedValue {
        match self.below(6) {
            0 => TypedValue::Bool(self.one_in(2)),
            1 => TypedValue::Int(self.next().cast_signed()),
            2 => TypedValue::Uint(self.next()),
            3 => TypedValue::Map(vec![(self.text(), self.text())]),
            _ => TypedValue::Text(self.text()),
        }
    }

    /// Replaces the configuration, or that of the VM.
    fn vary_config(&mut self, case: &mut Case, file: &CaseFile) {
        if self.one_in(8) {
            plugin(case, file).vm_config = self.text();
            return;
        }
        // The keys of the case are added to those of the file, so the case must have all that may be replaced.
        let whole = match (&file.config, &case.config) {
            (Some(Config::Object(shared)), Some(Config::Object(own))) => {
                let mut map = shared.clone();
                map.extend(own.clone());
                Some(Config::Object(map))
            }
            (shared, own) => own.clone().or_else(|| shared.clone()),
        };
        case.config = Some(match whole {
            Some(Config::Object(mut map)) if !self.one_in(4) => {
                let keys: Vec<String> = map.keys().cloned().collect();
                if let Some(key) = self.pick(&keys) {
                    let value = match self.below(5) {
                        0 => serde_json::Value::Null,
                        1 => self.next().into(),
                        2 => self.text().into(),
                        3 => serde_json::json!([self.text()]),
                        _ => serde_json::json!({self.text(): self.text()}),
                    };
                    map.insert(key.clone(), value);
                }
                Config::Object(map)
            }
            Some(Config::Text(mut text)) if !self.one_in(4) => {
                let place = self.below(text.chars().count() + 1);
                let place = text
                    .char_indices()
                    .nth(place)
                    .map_or(text.len(), |(at, _)| at);
                text.insert_str(place, &self.text());
                Config::Text(text)
            }
            _ => Config::Text(self.text()),
        });
    }

    fn lines(&mut self, names: &[String]) -> Vec<(String, String)> {
        (0..self.below(5))
            .map(|_| {
                let name = if self.one_in(8) {
                    format!("x-{}", self.below(100))
                } else {
                    self.pick(names).cloned().unwrap_or_default()
                };
                (name, self.text())
            })
            .collect()
    }

    /// Returns a text of significant fragments and random bytes, without line ends, which a header cannot contain.
    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(6) {
            if self.one_in(3) {
                let byte = u8::try_from(self.below(256)).unwrap_or_default();
                if !matches!(byte, b'\n' | b'\r' | 0) {
                    text.push(char::from(byte));
                }
            } else if let Some(fragment) = self.pick(&FRAGMENTS) {
                text.push_str(fragment);
            }
        }
        if self.one_in(64) {
            text = text.repeat(1000);
        }
        text
    }
}

/// Returns the plugin of a case, to change it.
fn plugin<'a>(case: &'a mut Case, file: &CaseFile) -> &'a mut fluxlit_cases::PluginSetup {
    let shared = || file.plugin.clone().unwrap_or_default();
    case.plugin.get_or_insert_with(shared)
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "brew"];

/// Statuses that filters distinguish. Any other from 100 to 599 is drawn as well.
const STATUSES: [u16; 14] = [
    200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 429, 500, 502, 503,
];

/// Times in milliseconds, around common tick periods and timeouts.
const TIMES: [u64; 7] = [0, 1, 10, 100, 1000, 5000, 10_000];

/// Fields that many filters read.
pub(super) const NAMES: [&str; 24] = [
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "if-none-match",
    "location",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

const FRAGMENTS: [&str; 32] = [
    "a",
    "B",
    "0",
    "-1",
    "65536",
    "99999999999999999999",
    ",",
    ", ",
    ";",
    "=",
    "\"",
    "'",
    " ",
    "\t",
    "/",
    "//",
    "/../",
    "%2e%2e",
    "%00",
    "%zz",
    "?",
    "#",
    "&",
    ":",
    "://",
    "[::1]",
    "10.0.0.1",
    "http",
    "application/grpc",
    "{}",
    "Bearer ",
    "\u{e9}",
];

/// Properties that many filters read.
const PROPERTIES: [&str; 9] = [
    "connection.mtls",
    "connection.requested_server_name",
    "connection.uri_san_peer_certificate",
    "metadata.filter_metadata",
    "request.id",
    "source.address",
    "source.port",
    "xds.cluster_name",
    "xds.route_name",
];
