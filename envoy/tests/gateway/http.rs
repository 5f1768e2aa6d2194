//! Tests HTTP: files, ranges, compression, uploads, and the many paths to which Streamlit responds with its page.

use std::io::{BufReader, Write};

use fluxlit_support::http1::{Response, read_response_blocking};

use crate::compare::differences;
use crate::pair::{Generation, HOST, Pair, Server, Shape};
use crate::session::{NEW, Session};
use crate::support::connect;

/// A request, and the status of each generation of Streamlit. `{…}` is filled in when it is sent.
struct Row {
    what: &'static str,
    /// Method and path below the app's own.
    request: &'static str,
    lines: &'static str,
    body: Body,
    /// The status of Starlette and of Tornado, which shows that the request has the intended effect.
    status: (u16, u16),
}

enum Body {
    None,
    /// A multipart form with a file of this size, with a length.
    File(usize),
    /// A multipart form with a file of this size, chunked.
    Chunked(usize),
}

const fn row(
    what: &'static str,
    request: &'static str,
    lines: &'static str,
    status: (u16, u16),
) -> Row {
    Row {
        what,
        request,
        lines,
        body: Body::None,
        status,
    }
}

const fn upload(what: &'static str, lines: &'static str, body: Body, status: (u16, u16)) -> Row {
    Row {
        what,
        request: "PUT /_stcore/upload_file/{session}/00000000-0000-4000-8000-000000000000",
        lines,
        body,
        status,
    }
}

const TOKEN: &str = "cookie: _streamlit_xsrf={token}\r\nx-xsrftoken: {token}\r\n";
const FOREIGN: &str =
    "cookie: _streamlit_xsrf={token}\r\nx-xsrftoken: {token}\r\norigin: https://evil.example\r\n";
const OTHER_TOKEN: &str = "cookie: _streamlit_xsrf={token}\r\nx-xsrftoken: 2|11111111|22222222222222222222222222222222|1\r\n";
const GZIP: &str = "accept-encoding: gzip\r\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    //   what                                request                              header lines                    1.67  1.45
    row("health: `ok`, and a token",         "GET /_stcore/health",               "",                             (200, 200)),
    row("health, with a token already",      "GET /_stcore/health",               TOKEN,                          (200, 200)),
    row("health, by HEAD",                   "HEAD /_stcore/health",              "",                             (200, 200)),
    row("health, by OPTIONS",                "OPTIONS /_stcore/health",           "",                             (204, 204)),
    row("health, by POST",                   "POST /_stcore/health",              "",                             (405, 403)),
    row("health with a slash",               "GET /_stcore/health/",              "",                             (301, 200)),
    row("nested health: deep links need it", "GET /second/_stcore/health",        "",                             (404, 404)),
    row("nested host-config, likewise",      "GET /second/_stcore/host-config",   "",                             (404, 404)),
    row("host-config",                       "GET /_stcore/host-config",          "",                             (200, 200)),
    row("host-config, by HEAD",              "HEAD /_stcore/host-config",         "",                             (200, 405)),
    row("the socket's path without one",     "GET /_stcore/stream",               "",                             (200, 400)),
    row("an unknown component",              "GET /component/none/x.js",          "",                             (404, 404)),
    row("the page",                          "GET /",                             "",                             (200, 200)),
    row("the page, by HEAD",                 "HEAD /",                            "",                             (200, 200)),
    row("the page, gzip accepted",           "GET /",                             GZIP,                           (200, 200)),
    row("the page, unchanged",               "GET /",                             "if-none-match: {etag of /}\r\n", (304, 304)),
    row("any path is the page",              "GET /no/such/page?a=b%2Fc",         "",                             (200, 200)),
    row("escapes stay as they are",          "GET /a%2Fb%3Fc%23d",                "",                             (200, 200)),
    row("any path with a slash",             "GET /second/?a=b",                  "",                             (301, 301)),
    row("any path, by POST",                 "POST /",                            "",                             (405, 403)),
    row("any path, by DELETE",               "DELETE /x",                         "",                             (405, 403)),
    row("the manifest or the page",          "GET /manifest.json",                GZIP,                           (200, 200)),
    row("Tornado's own health",              "GET /healthz",                      "",                             (200, 200)),
    row("login that is not set up",          "GET /auth/login",                   "",                             (302, 200)),
    row("a static file: cached forever",     "GET {static}",                      "",                             (200, 200)),
    row("a static file, by HEAD",            "HEAD {static}",                     "",                             (200, 200)),
    row("a static file, gzip accepted",      "GET {static}",                      GZIP,                           (200, 200)),
    row("a static file, unchanged",          "GET {static}",                      "if-none-match: {etag}\r\n",    (304, 304)),
    row("a static file, changed",            "GET {static}",                      "if-none-match: \"x\"\r\n",     (200, 200)),
    row("a part of a static file",           "GET {static}",                      "range: bytes=0-9\r\n",         (206, 206)),
    row("an unknown static file",            "GET /static/none.woff2",            "",                             (200, 200)),
    row("a download",                        "GET {media}",                       "",                             (200, 200)),
    row("a download, by HEAD",               "HEAD {media}",                      "",                             (200, 200)),
    row("a download, as gzip",               "GET {media}",                       GZIP,                           (200, 200)),
    row("a download, of any state",          "GET {media}",                       "if-none-match: *\r\n",         (200, 304)),
    row("a download's first bytes",          "GET {media}",                       "range: bytes=0-9\r\n",         (206, 206)),
    row("a download's last bytes",           "GET {media}",                       "range: bytes=-10\r\n",         (206, 206)),
    row("a part is never gzip",              "GET {media}",                       "range: bytes=0-1999\r\naccept-encoding: gzip\r\n", (206, 206)),
    row("beyond a download's end",           "GET {media}",                       "range: bytes=9000-\r\n",       (416, 416)),
    row("two parts of a download",           "GET {media}",                       "range: bytes=0-1,4-5\r\n",     (416, 200)),
    row("an unknown download",               "GET /media/none.txt",               "",                             (404, 404)),
    upload("an upload",                      TOKEN,                               Body::File(100_000),            (204, 204)),
    upload("an upload, chunked",             TOKEN,                               Body::Chunked(100_000),         (204, 204)),
    upload("an upload without a token",      "",                                  Body::File(1000),               (403, 403)),
    upload("an upload with another token",   OTHER_TOKEN,                         Body::File(1000),               (403, 403)),
    upload("an upload from another Origin",  FOREIGN,                             Body::File(1000),               (204, 204)),
    upload("an upload over the limit",       TOKEN,                               Body::File(3_000_000),          (413, 400)),
    upload("an upload over it, chunked",     TOKEN,                               Body::Chunked(3_000_000),       (413, 400)),
    upload("an upload without a file",       TOKEN,                               Body::None,                     (400, 500)),
    row("an upload into no session",         "PUT /_stcore/upload_file/none/x",   TOKEN,                          (400, 500)),
    row("an upload deleted",                 "DELETE /_stcore/upload_file/{session}/00000000-0000-4000-8000-000000000000", TOKEN, (204, 204)),
    row("an upload's preflight",             "OPTIONS /_stcore/upload_file/x/y",  "",                             (204, 204)),
];

impl Row {
    /// Returns true if Streamlit resets the connection after its response, so that the end of the response may be lost.
    fn is_cut_off(&self) -> bool {
        matches!(self.body, Body::File(size) | Body::Chunked(size) if size > LIMIT)
    }
}

#[test]
fn responses_are_those_of_streamlit_1_67() {
    compare(Generation::Starlette);
}

#[test]
fn responses_are_those_of_streamlit_1_45() {
    compare(Generation::Tornado);
}

fn compare(generation: Generation) {
    let mut failures = Vec::new();
    for shape in Shape::ALL {
        let pair = Pair::start(generation, shape);
        let context = Context::of(pair.direct());
        for row in ROWS {
            let direct = send(pair.direct(), row, &context);
            let through = send(pair.through(), row, &context);
            let status = generation.of(row.status.0, row.status.1);
            let mut found = Vec::new();
            for (way, answer) in [("directly", &direct), ("through the gateway", &through)] {
                match answer {
                    Some(answer) if answer.status == status => {}
                    Some(answer) => found.push(format!("{way} {}, not {status}", answer.status)),
                    None => found.push(format!("{way} no response")),
                }
            }
            if let (Some(direct), Some(through), false) = (&direct, &through, row.is_cut_off()) {
                found.extend(differences(shape, direct, through));
            }
            failures.extend(
                found
                    .iter()
                    .map(|fault| format!("{shape:?}, {} ({}): {fault}", row.what, row.request)),
            );
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Values of a running Streamlit that requests need.
struct Context {
    session: Session,
    token: String,
    static_file: String,
    etag: String,
    etag_of_page: String,
    media: String,
}

impl Context {
    fn of(server: Server<'_>) -> Self {
        let session = Session::open(server, NEW, "");
        let health = get(server, "/_stcore/health");
        let token = health.values("set-cookie")[0]
            .strip_prefix("_streamlit_xsrf=")
            .and_then(|rest| rest.split([';', ',']).next())
            .expect("a token")
            .trim_matches('"')
            .to_owned();
        let page = get(server, "/");
        let static_file = page
            .text()
            .split("\"./static/media/")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .map(|name| format!("/static/media/{name}"))
            .expect("the page loads a font by a relative URL");
        let etag = |response: &Response| response.values("etag").join("");
        Self {
            token,
            etag: etag(&get(server, &static_file)),
            etag_of_page: etag(&page),
            static_file,
            media: session.find("/media/").expect("the app offers a download"),
            session,
        }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{session}", &self.session.id)
            .replace("{token}", &self.token)
            .replace("{static}", &self.static_file)
            .replace("{etag}", &self.etag)
            .replace("{etag of /}", &self.etag_of_page)
            .replace("{media}", &self.media)
    }
}

fn get(server: Server<'_>, path: &str) -> Response {
    let request = format!(
        "GET {}{path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n",
        server.base
    );
    exchange(server, request.as_bytes(), "GET").expect("a response")
}

fn send(server: Server<'_>, row: &Row, context: &Context) -> Option<Response> {
    let request = context.fill(row.request);
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let mut bytes = format!(
        "{method} {}{path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{}",
        server.base,
        context.fill(row.lines)
    )
    .into_bytes();
    let form = |size| {
        let file = vec![b'x'; size];
        [
            b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n"
                .as_slice(),
            &file,
            b"\r\n--b--\r\n",
        ]
        .concat()
    };
    match row.body {
        Body::None if matches!(method, "GET" | "HEAD" | "OPTIONS") => bytes.extend(b"\r\n"),
        Body::None => bytes.extend(b"content-length: 0\r\n\r\n"),
        Body::File(size) => {
            let form = form(size);
            bytes.extend(FORM.as_bytes());
            bytes.extend(format!("content-length: {}\r\n\r\n", form.len()).as_bytes());
            bytes.extend(form);
        }
        Body::Chunked(size) => {
            bytes.extend(FORM.as_bytes());
            bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in form(size).chunks(60_000) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        }
    }
    // If the end of the body may be lost, the body is not read.
    exchange(
        server,
        &bytes,
        if row.is_cut_off() { "HEAD" } else { method },
    )
}

/// Sends a request whose response may begin before all of it is sent.
fn exchange(server: Server<'_>, request: &[u8], method: &str) -> Option<Response> {
    let mut stream = connect(server.address);
    // A server that rejects an upload need not read it to its end.
    let _ = stream.write_all(request);
    // A connection that breaks before the head is complete counts as closed.
    let response = read_response_blocking(&mut BufReader::new(stream), method).ok()??;
    assert!(response.is_complete, "cut off: {response:?}");
    Some(response)
}

/// More than the limit with which Streamlit is started.
const LIMIT: usize = 2_000_000;

const FORM: &str = "content-type: multipart/form-data; boundary=b\r\n";
