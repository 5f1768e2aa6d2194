//! An upstream that remembers what it received, and answers what it is told.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use fluxlit_cases::{Answer, UpstreamRequest};

use super::client::{read_chunks, read_head};
use super::latin1;

/// A running upstream.
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The last one stays.
    answers: VecDeque<Answer>,
    received: Vec<UpstreamRequest>,
}

impl Upstream {
    /// Listens on a free port until the test ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// Answers this from now on, and forgets what was received.
    pub fn answer(&self, answer: &Answer) {
        self.answer_in_turn(std::slice::from_ref(answer));
    }

    /// Answers these, the last one again and again, and forgets what was received.
    pub fn answer_in_turn(&self, answers: &[Answer]) {
        let mut state = self.state.lock().expect("no panic in the upstream");
        state.answers = answers.iter().cloned().collect();
        state.received.clear();
    }

    /// What was received since the last `answer`, health checks of the gateway excepted.
    pub fn received(&self) -> Vec<UpstreamRequest> {
        self.state
            .lock()
            .expect("no panic in the upstream")
            .received
            .clone()
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let head = read_head(&mut reader);
        let Some(request_line) = head.first() else {
            return;
        };
        let mut words = request_line.split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let all: Vec<(String, String)> = head
            .iter()
            .skip(1)
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let find = |name: &str| {
            all.iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
        };
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if find("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            let (bytes, lines) = read_chunks(&mut reader);
            body = bytes;
            trailers = lines
                .iter()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
        } else if let Some(length) = find("content-length") {
            body = vec![0; length.parse().expect("a length")];
            std::io::Read::read_exact(&mut reader, &mut body).expect("a whole body");
        }
        if find("user-agent").is_some_and(|agent| agent == "fluxlit-gateway-probe") {
            let health =
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            if stream.write_all(health).is_err() {
                return;
            }
            continue;
        }
        let received = UpstreamRequest {
            method: method.to_owned(),
            target: target.to_owned(),
            host: find("host"),
            headers: all.into_iter().filter(|(name, _)| name != "host").collect(),
            body: super::text(&body),
            trailers,
        };
        let answer = {
            let mut state = state.lock().expect("no panic in the upstream");
            state.received.push(received);
            let next = match state.answers.len() {
                0 | 1 => state.answers.front().cloned(),
                _ => state.answers.pop_front(),
            };
            next.unwrap_or_default()
        };
        if stream.write_all(&to_bytes(&answer, method)).is_err() {
            return;
        }
    }
}

fn to_bytes(answer: &Answer, method: &str) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {} Status\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend(latin1(name));
        bytes.extend(b": ");
        bytes.extend(latin1(value));
        bytes.extend(b"\r\n");
    }
    if !matches!(answer.status, 204 | 304) {
        bytes.extend(format!("content-length: {}\r\n", answer.body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    if method != "HEAD" {
        bytes.extend(latin1(&answer.body));
    }
    bytes
}
