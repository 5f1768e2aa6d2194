//! Tests the rules of RFC 9113, each with the frames of a client and what the server answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::Wake;

use super::*;
use crate::http::http2_frame::{HAS_PRIORITY, PADDED};

const MAX_BLOCK: usize = 2000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    [&head.bytes()[..], payload].concat()
}

/// A request without content, for `/`.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

/// The head of a request whose content follows.
fn post(stream: u32, fields: &[u8]) -> Vec<u8> {
    let block = [&[0x83, 0x86, 0x84], fields].concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// GET, http, and `/` from the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84];

/// `content-length: 5`, RFC 7541 §6.2.2.
const FIVE: &[u8] = &[0x0f, 13, 1, b'5'];

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn setting(setting: u16, value: u32) -> Vec<u8> {
    let payload = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A connection after its preface, whose settings were written.
fn connection() -> Connection {
    let mut connection = Connection::new(MAX_BLOCK);
    let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    assert_eq!(connection.receive(&start), start.len());
    let frames = written(&mut connection);
    let kinds: Vec<u8> = frames.iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE, SETTINGS]);
    connection
}

/// Receives frames in pieces of `size` bytes. All must be processed, unless the connection ends.
fn receive(connection: &mut Connection, frames: &[Vec<u8>], size: usize) {
    let mut unread = Vec::new();
    for piece in frames.concat().chunks(size) {
        unread.extend_from_slice(piece);
        let count = connection.receive(&unread);
        unread.drain(..count);
    }
    assert!(connection.error().is_some() || unread.is_empty());
}

/// Writes all, and returns the frames.
fn written(connection: &mut Connection) -> Vec<(FrameHead, Vec<u8>)> {
    let output = connection.output().to_vec();
    connection.written(output.len());
    let (mut rest, mut frames) = (output.as_slice(), Vec::new());
    while let Some(head) = FrameHead::read(rest) {
        let (frame, others) = rest.split_at(FRAME_HEAD + head.length);
        frames.push((head, frame[FRAME_HEAD..].to_vec()));
        rest = others;
    }
    assert!(rest.is_empty());
    frames
}

/// What ends first: the connection or a stream, with this error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Connection(ErrorCode),
    Stream(ErrorCode),
    Nothing,
}

fn ends(connection: &mut Connection) -> Ends {
    let code = |payload: &[u8]| u32::from_be_bytes(*payload.last_chunk().expect("a code"));
    let error = connection.error();
    let frames = written(connection);
    if let Some(error) = error {
        let (head, payload) = frames.last().expect("a frame");
        assert_eq!((head.kind, code(payload)), (GOAWAY, error as u32));
        return Ends::Connection(error);
    }
    let codes = [
        ErrorCode::Protocol,
        ErrorCode::FlowControl,
        ErrorCode::StreamClosed,
        ErrorCode::RefusedStream,
        ErrorCode::Cancel,
        ErrorCode::None,
    ];
    let mut resets = frames.iter().filter(|(head, _)| head.kind == RST_STREAM);
    match resets.next() {
        None => Ends::Nothing,
        Some((_, payload)) => {
            let known = codes
                .into_iter()
                .find(|known| *known as u32 == code(payload));
            Ends::Stream(known.expect("a known code"))
        }
    }
}

/// What a client may not do, by section of RFC 9113, and what it may.
#[test]
fn every_rule_has_its_error() {
    use Ends::{Connection as Whole, Nothing, Stream as Only};
    use ErrorCode::{
        Compression, EnhanceYourCalm, FlowControl, FrameSize, Protocol, RefusedStream, StreamClosed,
    };
    let data = |stream, flags, payload: &[u8]| frame(DATA, flags, stream, payload);
    let trailers = |stream, flags| frame(HEADERS, END_HEADERS | flags, stream, b"\0\x01a\x01b");
    let most = |kind: u8| frame(kind, 0, 1, &[0; MAX_FRAME + 1]);
    let table: Vec<(&str, Vec<Vec<u8>>, Ends)> = vec![
        (
            "4.2 the largest frame",
            vec![post(1, &[]), data(1, 0, &[0; MAX_FRAME])],
            Nothing,
        ),
        ("4.2 DATA", vec![post(1, &[]), most(DATA)], Whole(FrameSize)),
        ("4.2 HEADERS", vec![most(HEADERS)], Whole(FrameSize)),
        ("4.2 unknown", vec![most(77)], Whole(FrameSize)),
        (
            "4.3 bad index",
            vec![frame(HEADERS, END_HEADERS, 1, &[0x80])],
            Whole(Compression),
        ),
        (
            "4.3 other stream",
            vec![
                frame(HEADERS, 0, 1, GET),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ],
            Whole(Protocol),
        ),
        (
            "4.3 other frame",
            vec![frame(HEADERS, 0, 1, GET), frame(PING, 0, 0, &[0; 8])],
            Whole(Protocol),
        ),
        (
            "4.3 no HEADERS",
            vec![frame(CONTINUATION, END_HEADERS, 1, GET)],
            Whole(Protocol),
        ),
        (
            "4.3 continued",
            vec![
                frame(HEADERS, END_STREAM, 1, &GET[..1]),
                frame(CONTINUATION, END_HEADERS, 1, &GET[1..]),
            ],
            Nothing,
        ),
        ("5.1 idle DATA", vec![data(1, 0, b"a")], Whole(Protocol)),
        (
            "5.1 idle RST_STREAM",
            vec![frame(RST_STREAM, 0, 1, &[0; 4])],
            Whole(Protocol),
        ),
        (
            "5.1 idle WINDOW_UPDATE",
            vec![window(1, 1)],
            Whole(Protocol),
        ),
        (
            "5.1 idle PRIORITY",
            vec![frame(PRIORITY, 0, 1, &[0; 5])],
            Nothing,
        ),
        (
            "5.1 half-closed DATA",
            vec![get(1), data(1, 0, b"a")],
            Only(StreamClosed),
        ),
        (
            "5.1 half-closed HEADERS",
            vec![get(1), trailers(1, END_STREAM)],
            Only(StreamClosed),
        ),
        (
            "5.1 half-closed WINDOW_UPDATE",
            vec![get(1), window(1, 1)],
            Nothing,
        ),
        (
            "5.1 reset DATA",
            vec![
                post(1, &[]),
                frame(RST_STREAM, 0, 1, &[0; 4]),
                data(1, 0, b"a"),
            ],
            Nothing,
        ),
        ("5.1.1 even", vec![get(2)], Whole(Protocol)),
        (
            "5.1.1 even DATA",
            vec![get(1), data(2, 0, b"a")],
            Whole(Protocol),
        ),
        ("5.1.1 lower", vec![get(5), get(3)], Whole(StreamClosed)),
        ("5.1.1 skipped", vec![get(5), get(9)], Nothing),
        (
            "5.1.2 too many",
            (0..129).map(|number| get(2 * number + 1)).collect(),
            Only(RefusedStream),
        ),
        (
            "5.5 unknown frame",
            vec![frame(77, 0xff, 5, b"abc")],
            Nothing,
        ),
        ("6.1 stream 0", vec![data(0, 0, b"a")], Whole(Protocol)),
        (
            "6.1 padding",
            vec![post(1, &[]), data(1, PADDED, b"\x02abc")],
            Nothing,
        ),
        (
            "6.1 too much padding",
            vec![post(1, &[]), data(1, PADDED, b"\x04abc")],
            Whole(Protocol),
        ),
        ("6.2 stream 0", vec![get(0)], Whole(Protocol)),
        (
            "6.2 priority",
            vec![frame(
                HEADERS,
                END_HEADERS | END_STREAM | HAS_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 9], GET].concat(),
            )],
            Nothing,
        ),
        (
            "6.2 short priority",
            vec![frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, &[0; 4])],
            Whole(Protocol),
        ),
        (
            "6.3 stream 0",
            vec![frame(PRIORITY, 0, 0, &[0; 5])],
            Whole(Protocol),
        ),
        (
            "6.3 length",
            vec![frame(PRIORITY, 0, 1, &[0; 4])],
            Whole(FrameSize),
        ),
        (
            "6.4 stream 0",
            vec![frame(RST_STREAM, 0, 0, &[0; 4])],
            Whole(Protocol),
        ),
        (
            "6.4 length",
            vec![get(1), frame(RST_STREAM, 0, 1, &[0; 5])],
            Whole(FrameSize),
        ),
        (
            "6.4 twice",
            vec![
                get(1),
                frame(RST_STREAM, 0, 1, &[0; 4]),
                frame(RST_STREAM, 0, 1, &[0; 4]),
            ],
            Nothing,
        ),
        (
            "6.5 stream 1",
            vec![frame(SETTINGS, 0, 1, &[])],
            Whole(Protocol),
        ),
        (
            "6.5 length",
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            Whole(FrameSize),
        ),
        (
            "6.5 acknowledgment",
            vec![frame(SETTINGS, ACK, 0, &[])],
            Nothing,
        ),
        (
            "6.5 acknowledgment with settings",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            Whole(FrameSize),
        ),
        (
            "6.5 many",
            vec![frame(SETTINGS, 0, 0, &[0; 6 * 33])],
            Whole(EnhanceYourCalm),
        ),
        ("6.5.2 push", vec![setting(ENABLE_PUSH, 2)], Whole(Protocol)),
        (
            "6.5.2 window",
            vec![setting(INITIAL_WINDOW_SIZE, 1 << 31)],
            Whole(FlowControl),
        ),
        (
            "6.5.2 small frames",
            vec![setting(MAX_FRAME_SIZE, 16_383)],
            Whole(Protocol),
        ),
        (
            "6.5.2 large frames",
            vec![setting(MAX_FRAME_SIZE, 1 << 24)],
            Whole(Protocol),
        ),
        (
            "6.5.2 largest frames",
            vec![setting(MAX_FRAME_SIZE, (1 << 24) - 1)],
            Nothing,
        ),
        ("6.5.2 unknown", vec![setting(99, 99)], Nothing),
        (
            "6.6 push",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])],
            Whole(Protocol),
        ),
        (
            "6.7 stream 1",
            vec![frame(PING, 0, 1, &[0; 8])],
            Whole(Protocol),
        ),
        (
            "6.7 length",
            vec![frame(PING, 0, 0, &[0; 7])],
            Whole(FrameSize),
        ),
        (
            "6.7 acknowledgment",
            vec![frame(PING, ACK, 0, &[0; 8])],
            Nothing,
        ),
        (
            "6.8 stream 1",
            vec![frame(GOAWAY, 0, 1, &[0; 8])],
            Whole(Protocol),
        ),
        (
            "6.8 length",
            vec![frame(GOAWAY, 0, 0, &[0; 7])],
            Whole(FrameSize),
        ),
        (
            "6.8 a request after it",
            vec![frame(GOAWAY, 0, 0, &[0; 20]), get(1)],
            Nothing,
        ),
        (
            "6.9 length",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Whole(FrameSize),
        ),
        ("6.9 zero", vec![window(0, 0)], Whole(Protocol)),
        (
            "6.9 zero on a stream",
            vec![get(1), window(1, 0)],
            Only(Protocol),
        ),
        (
            "6.9.1 largest",
            vec![
                window(0, 0x7fff_ffff - 65_535),
                get(1),
                window(1, 0x7fff_ffff - 65_535),
            ],
            Nothing,
        ),
        (
            "6.9.1 too large",
            vec![window(0, 0x7fff_ffff - 65_534)],
            Whole(FlowControl),
        ),
        (
            "6.9.1 too large on a stream",
            vec![get(1), window(1, 0x7fff_ffff - 65_534)],
            Only(FlowControl),
        ),
        (
            "6.9.1 closed stream",
            vec![get(1), frame(RST_STREAM, 0, 1, &[0; 4]), window(1, 1)],
            Nothing,
        ),
        (
            "6.9.2 too large",
            vec![
                get(1),
                window(1, 0x7fff_0000),
                setting(INITIAL_WINDOW_SIZE, 0x7fff_ffff),
            ],
            Whole(FlowControl),
        ),
        (
            "6.9.1 more than the window",
            [vec![post(1, &[])], vec![data(1, 0, &[0; MAX_FRAME]); 17]].concat(),
            Only(FlowControl),
        ),
        (
            "6.9.1 more than the connection's",
            [
                (0..5)
                    .map(|number| post(2 * number + 1, &[]))
                    .collect::<Vec<_>>(),
                (0..65)
                    .map(|number| data(2 * (number % 5) + 1, 0, &[0; MAX_FRAME]))
                    .collect(),
            ]
            .concat(),
            Whole(FlowControl),
        ),
        (
            "6.9.1 padding counts",
            [
                vec![post(1, &[])],
                vec![data(1, PADDED, &[&[255][..], &[0; MAX_FRAME - 1]].concat()); 16],
            ]
            .concat(),
            Nothing,
        ),
        (
            "8.1 trailers",
            vec![post(1, &[]), trailers(1, END_STREAM)],
            Nothing,
        ),
        (
            "8.1 trailers without the end",
            vec![post(1, &[]), trailers(1, 0)],
            Only(Protocol),
        ),
        (
            "8.1.1 the declared length",
            vec![
                post(1, FIVE),
                data(1, 0, b"abc"),
                data(1, END_STREAM, b"de"),
            ],
            Nothing,
        ),
        (
            "8.1.1 less",
            vec![post(1, FIVE), data(1, END_STREAM, b"abcd")],
            Only(Protocol),
        ),
        (
            "8.1.1 less, with trailers",
            vec![post(1, FIVE), data(1, 0, b"abcd"), trailers(1, END_STREAM)],
            Only(Protocol),
        ),
        (
            "8.1.1 more",
            vec![post(1, FIVE), data(1, 0, b"abcdef")],
            Only(Protocol),
        ),
        (
            "8.1.1 nothing",
            vec![frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[GET, FIVE].concat(),
            )],
            Only(Protocol),
        ),
        (
            "10.5 empty frames",
            [vec![post(1, &[])], vec![data(1, 0, b""); 1001]].concat(),
            Whole(EnhanceYourCalm),
        ),
        (
            "10.5 some empty frames",
            [vec![post(1, &[])], vec![data(1, 0, b""); 1000]].concat(),
            Nothing,
        ),
        (
            "10.5.1 large block",
            vec![frame(
                HEADERS,
                END_HEADERS,
                1,
                &[&[0, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat(),
            )],
            Nothing,
        ),
        (
            "10.5.1 far too large",
            vec![frame(HEADERS, END_HEADERS, 1, &[0x82; 9000])],
            Whole(EnhanceYourCalm),
        ),
    ];
    for (rule, frames, want) in table {
        for size in [1, 8, 10, 1000, 100_000] {
            let mut connection = connection();
            let mut first = Nothing;
            // Requests are taken as they arrive, and their streams stay open.
            for frame in &frames {
                receive(&mut connection, std::slice::from_ref(frame), size);
                while connection.next_request().is_some() {}
                let now = ends(&mut connection);
                if first == Nothing {
                    first = now;
                }
                if connection.error().is_some() {
                    break;
                }
            }
            assert_eq!(first, want, "{rule}, in pieces of {size}");
        }
    }
}

/// Streams that are reset at once cost the upstream a connection each, CVE-2023-44487.
#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    let reset = |id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
    let no_window = |id| window(id, 0);
    let large_window = |id| window(id, 0x7fff_ffff);
    let late_data = |id| frame(DATA, 0, id, b"x");
    let late_trailers = |id| frame(HEADERS, END_HEADERS | END_STREAM, id, b"\0\x01a\x01b");
    // The others make the server reset the stream, CVE-2025-8671.
    let ways: [&dyn Fn(u32) -> Vec<u8>; 5] = [
        &reset,
        &no_window,
        &large_window,
        &late_data,
        &late_trailers,
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut connection = connection();
        let mut requests = 0;
        for id in (1..4000).step_by(2) {
            receive(&mut connection, &[get(id), way(id)], 1000);
            while let Some(request) = connection.next_request() {
                requests += 1;
                let reset = connection.poll_reset(request.stream, &context());
                assert!(reset.is_ready());
                connection.close(request.stream);
            }
            // Written, or nothing more would be read.
            let is_ended = connection.error().is_some();
            written(&mut connection);
            if is_ended {
                break;
            }
        }
        assert_eq!(connection.error(), Some(ErrorCode::EnhanceYourCalm));
        assert!(
            (1000..1100).contains(&requests),
            "{number}: {requests} requests"
        );
    }
}

/// So do requests that are refused, and those that are malformed before they are a request.
#[test]
fn refused_requests_count_as_reset() {
    let declared = |id| {
        let block = [GET, FIVE].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
    };
    for (request, accepted) in [
        (&get as &dyn Fn(u32) -> Vec<u8>, MAX_STREAMS),
        (&declared, 0),
    ] {
        let mut connection = connection();
        let mut sent = 0;
        while connection.error().is_none() && sent < 4000 {
            receive(&mut connection, &[request(2 * sent + 1)], 1000);
            while connection.next_request().is_some() {}
            written(&mut connection);
            sent += 1;
        }
        assert_eq!(connection.error(), Some(ErrorCode::EnhanceYourCalm));
        assert!(sent > accepted + BUDGET, "{sent} requests");
    }
}

#[test]
fn a_stream_counts_until_its_task_has_ended() {
    let mut connection = connection();
    for number in 0..MAX_STREAMS {
        let id = 2 * number + 1;
        receive(
            &mut connection,
            &[get(id), frame(RST_STREAM, 0, id, &[0; 4])],
            1000,
        );
        assert!(connection.next_request().is_some());
    }
    receive(&mut connection, &[get(1001)], 1000);
    assert_eq!(
        ends(&mut connection),
        Ends::Stream(ErrorCode::RefusedStream)
    );
    assert_eq!(connection.next_request(), None);
    connection.close(3);
    receive(&mut connection, &[get(1003)], 1000);
    assert_eq!(connection.next_request().expect("a request").stream, 1003);
}

#[test]
fn the_preface_and_settings_come_first() {
    let settings = frame(SETTINGS, 0, 0, &[]);
    for (start, want) in [
        ([PREFACE, &settings].concat(), None),
        ([PREFACE, &settings, &get(1)].concat(), None),
        ([PREFACE, &get(1)].concat(), Some(ErrorCode::Protocol)),
        (
            [PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat(),
            Some(ErrorCode::Protocol),
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nsm\r\n\r\n".to_vec(),
            Some(ErrorCode::Protocol),
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Some(ErrorCode::Protocol),
        ),
    ] {
        for size in [1, 7, 100] {
            let mut connection = Connection::new(MAX_BLOCK);
            assert_eq!(
                connection.awaited_block(),
                Some(0),
                "what is first has a limit"
            );
            receive(&mut connection, std::slice::from_ref(&start), size);
            assert_eq!(connection.error(), want, "{start:?}");
            assert_eq!(connection.awaited_block().is_none(), want.is_none());
        }
    }
}

#[test]
fn a_block_is_awaited_until_it_ends() {
    let mut connection = connection();
    let block = [
        frame(HEADERS, END_STREAM, 1, &GET[..1]),
        frame(CONTINUATION, END_HEADERS, 1, &GET[1..]),
    ];
    let bytes = block.concat();
    let mut unread = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        unread.push(*byte);
        let count = connection.receive(&unread);
        unread.drain(..count);
        // The head of a frame says that it is a part of a block.
        let want = ((FRAME_HEAD - 1)..bytes.len() - 1).contains(&at);
        assert_eq!(connection.awaited_block(), want.then_some(0), "{at}");
    }
    receive(&mut connection, &[frame(HEADERS, END_STREAM, 3, GET)], 100);
    assert_eq!(connection.awaited_block(), Some(1), "another one");
    // The content of a request may take its time.
    let mut connection = super::tests::connection();
    receive(&mut connection, &[post(1, &[])], 100);
    assert_eq!(connection.receive(&frame(DATA, 0, 1, b"abc")[..11]), 0);
    assert_eq!(connection.awaited_block(), None);
}

#[test]
fn content_is_received_and_the_client_may_send_more() {
    let mut connection = connection();
    receive(&mut connection, &[post(1, &[])], 100);
    assert!(
        connection
            .next_request()
            .is_some_and(|request| !request.has_ended)
    );
    assert!(connection.poll_received(1, &context()).is_pending());
    assert!(!connection.has_received(1));
    let piece = vec![b'x'; MAX_FRAME];
    let (mut sent, mut granted) = (0, STREAM_WINDOW as usize);
    let (mut on_all, mut passed) = (CONNECTION_WINDOW as usize, 0);
    while sent < 4 * CONNECTION_WINDOW as usize {
        assert!(
            sent + piece.len() <= granted.min(on_all),
            "the client never waits"
        );
        receive(&mut connection, &[frame(DATA, 0, 1, &piece)], 100_000);
        sent += piece.len();
        let received = connection.poll_received(1, &context());
        assert_eq!(received, Poll::Ready(Ok(Received::Data(piece.clone()))));
        // Only what was taken before counts as passed on.
        for (head, payload) in written(&mut connection) {
            assert_eq!(head.kind, WINDOW_UPDATE);
            let more = u32::from_be_bytes(payload.try_into().unwrap()) as usize;
            *(if head.stream == 0 {
                &mut on_all
            } else {
                &mut granted
            }) += more;
        }
        assert!(granted <= STREAM_WINDOW as usize + passed);
        passed = sent;
    }
    let last = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x02b ");
    receive(&mut connection, &[frame(DATA, 0, 1, b"end"), last], 100);
    let received = connection.poll_received(1, &context());
    assert_eq!(received, Poll::Ready(Ok(Received::Data(b"end".to_vec()))));
    let end = Received::End(Err(TrailersError::Malformed));
    assert_eq!(
        connection.poll_received(1, &context()),
        Poll::Ready(Ok(end))
    );
}

#[test]
fn content_that_nobody_reads_does_not_use_up_the_connection() {
    let mut connection = connection();
    let mut on_all = i64::from(CONNECTION_WINDOW);
    for number in 0..100 {
        let id = 2 * number + 1;
        receive(&mut connection, &[post(id, &[])], 100);
        assert!(connection.next_request().is_some());
        let data = frame(DATA, PADDED, id, &[&[9][..], &[0; 9000]].concat());
        receive(&mut connection, std::slice::from_ref(&data), 10_000);
        if number % 2 == 0 {
            assert!(connection.poll_received(id, &context()).is_ready());
        }
        if number % 3 == 0 {
            receive(&mut connection, &[frame(RST_STREAM, 0, id, &[0; 4])], 100);
            on_all -= 9001;
            receive(&mut connection, std::slice::from_ref(&data), 10_000);
        }
        connection.close(id);
        on_all -= 9001;
        for (head, payload) in written(&mut connection) {
            if head.kind == WINDOW_UPDATE && head.stream == 0 {
                on_all += i64::from(u32::from_be_bytes(payload.try_into().unwrap()));
            }
        }
        assert_eq!(connection.receive_window, on_all);
    }
    assert_eq!(connection.error(), None);
    assert!(on_all >= i64::from(CONNECTION_WINDOW / 2));
}

/// Sends a response with this content. Returns how many bytes of it were sent.
fn respond(connection: &mut Connection, id: u32, content: &[u8]) -> usize {
    let mut fields = FieldLines::default();
    fields.push(b"X", b"y");
    let mut sent = 0;
    connection
        .send_head(id, 200, &fields, false)
        .expect("an open stream");
    while let Some(rest) = content.get(sent..).filter(|rest| !rest.is_empty())
        && let Poll::Ready(count) = connection.poll_send(id, rest, &context())
    {
        sent += count.expect("an open stream");
    }
    sent
}

#[test]
fn a_response_is_sent() {
    let mut connection = connection();
    receive(&mut connection, &[get(1)], 100);
    assert!(
        connection
            .next_request()
            .is_some_and(|request| request.has_ended)
    );
    assert_eq!(respond(&mut connection, 1, b"abc"), 3);
    connection.send_end(1, None).expect("an open stream");
    connection.close(1);
    let head = frame(HEADERS, END_HEADERS, 1, b"\x88\x40\x01x\x01y");
    let data = frame(DATA, END_STREAM, 1, b"abc");
    assert_eq!(connection.output(), [head, data].concat());
    assert!(!connection.has_streams());

    receive(&mut connection, &[post(3, &[])], 100);
    assert!(connection.next_request().is_some());
    written(&mut connection);
    respond(&mut connection, 3, b"");
    let mut trailers = FieldLines::default();
    trailers.push(b"x", b"y");
    connection
        .send_end(3, Some(&trailers))
        .expect("an open stream");
    connection.close(3);
    let head = frame(HEADERS, END_HEADERS, 3, &[0x88, 0xbe]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0xbe]);
    let enough = frame(RST_STREAM, 0, 3, &[0; 4]);
    assert_eq!(connection.output(), [head, trailers, enough].concat());
    written(&mut connection);
    // What the client has sent meanwhile is discarded.
    receive(&mut connection, &[frame(DATA, END_STREAM, 3, b"late")], 100);
    assert_eq!(ends(&mut connection), Ends::Nothing);

    receive(&mut connection, &[get(5)], 100);
    assert!(connection.next_request().is_some());
    respond(&mut connection, 5, b"incomplete");
    connection.close(5);
    assert_eq!(ends(&mut connection), Ends::Stream(ErrorCode::Cancel));
    let wrong = frame(DATA, 0, 1, b"after the end of a stream");
    receive(&mut connection, &[wrong], 100);
    assert_eq!(
        ends(&mut connection),
        Ends::Connection(ErrorCode::StreamClosed)
    );
}

/// Some clients end a stream with a frame of its own, and fail if the stream was reset before.
#[test]
fn a_stream_whose_content_is_complete_is_not_reset() {
    for (content, want) in [
        (&b"abcde"[..], Ends::Nothing),
        (b"abcd", Ends::Stream(ErrorCode::None)),
    ] {
        let mut connection = connection();
        receive(
            &mut connection,
            &[post(1, FIVE), frame(DATA, 0, 1, content)],
            100,
        );
        assert!(connection.next_request().is_some());
        respond(&mut connection, 1, b"abc");
        connection.send_end(1, None).expect("an open stream");
        connection.close(1);
        assert_eq!(ends(&mut connection), want);
        assert!(!connection.has_streams());
        receive(&mut connection, &[frame(DATA, END_STREAM, 1, b"")], 100);
        assert_eq!(ends(&mut connection), Ends::Nothing);
    }
}

#[test]
fn a_client_that_grants_little_gets_little() {
    let content = vec![b'x'; 300_000];
    for (frames, want) in [
        (vec![], 65_535),
        (vec![window(0, 1000)], 65_535),
        (vec![window(1, 1000)], 65_535),
        (vec![window(0, 1000), window(1, 1000)], 66_535),
        (vec![setting(INITIAL_WINDOW_SIZE, 10)], 10),
        (vec![setting(INITIAL_WINDOW_SIZE, 0)], 0),
        (vec![window(0, 1 << 20), window(1, 1 << 20)], content.len()),
    ] {
        let mut connection = connection();
        receive(&mut connection, &[vec![get(1)], frames].concat(), 100);
        assert!(connection.next_request().is_some());
        connection
            .send_head(1, 200, &FieldLines::default(), false)
            .unwrap();
        let mut sent = 0;
        // The output is written, so only the windows limit it.
        while let Some(rest) = content.get(sent..).filter(|rest| !rest.is_empty())
            && let Poll::Ready(count) = connection.poll_send(1, rest, &context())
        {
            sent += count.expect("an open stream");
            let frames = written(&mut connection);
            assert!(frames.iter().all(|(head, _)| head.length <= MAX_FRAME));
        }
        assert_eq!(sent, want);
        // A window may become negative, RFC 9113 §6.9.2.
        receive(
            &mut connection,
            &[setting(INITIAL_WINDOW_SIZE, 0), window(1, 1), window(0, 1)],
            100,
        );
        assert_eq!(connection.error(), None);
    }
}

/// Adds its stream to a queue when it is woken.
struct Turn {
    stream: u32,
    turns: Arc<Mutex<VecDeque<u32>>>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.turns.lock().expect("a lock").push_back(self.stream);
    }
}

#[test]
fn nothing_is_sent_beyond_the_room_and_all_streams_get_their_turn() {
    const STREAMS: usize = 10;
    const SIZE: usize = 100_000;
    let mut connection = connection();
    let windows = [setting(INITIAL_WINDOW_SIZE, 1 << 30), window(0, 1 << 30)];
    receive(&mut connection, &windows, 100);
    written(&mut connection);
    let content = vec![b'x'; SIZE];
    let turns = Arc::new(Mutex::new(VecDeque::new()));
    let mut left = [SIZE; STREAMS];
    for number in 0..STREAMS {
        let id = u32::try_from(2 * number + 1).expect("a number");
        receive(&mut connection, &[get(id)], 100);
        assert!(connection.next_request().is_some());
        connection
            .send_head(id, 200, &FieldLines::default(), false)
            .expect("an open stream");
        turns.lock().expect("a lock").push_back(id);
    }
    let mut order = Vec::new();
    while left.iter().any(|left| *left > 0) {
        let next = turns.lock().expect("a lock").pop_front();
        let Some(id) = next else {
            let count = connection.output().len().min(20_000);
            assert!(count > 0, "all wait: {left:?} are left");
            connection.written(count);
            continue;
        };
        let waker = Waker::from(Arc::new(Turn {
            stream: id,
            turns: Arc::clone(&turns),
        }));
        let left = &mut left[(id as usize - 1) / 2];
        let before = *left;
        while *left > 0
            && let Poll::Ready(sent) =
                connection.poll_send(id, &content[..*left], &Context::from_waker(&waker))
        {
            *left -= sent.expect("an open stream");
        }
        if *left < before {
            order.push(id);
        }
        assert!(connection.output().len() <= 70_000);
    }
    // The first one takes the room, and is the first to wait for more.
    let order = &order[1..=2 * STREAMS];
    let rounds: Vec<BTreeSet<u32>> = order
        .chunks(STREAMS)
        .map(|round| round.iter().copied().collect())
        .collect();
    assert!(
        rounds.iter().all(|round| round.len() == STREAMS),
        "{order:?}"
    );
}

/// Sends data on a stream until it has to wait, and returns how many bytes were sent.
fn fill(connection: &mut Connection, id: u32, turns: &Arc<Mutex<VecDeque<u32>>>) -> usize {
    let waker = Waker::from(Arc::new(Turn {
        stream: id,
        turns: Arc::clone(turns),
    }));
    let context = Context::from_waker(&waker);
    let mut sent = 0;
    while let Poll::Ready(count) = connection.poll_send(id, &[0; 2 * MAX_FRAME], &context) {
        sent += count.expect("an open stream");
    }
    sent
}

/// Whatever makes it possible to send wakes the stream that waits: the window, and each way in which another one leaves room.
#[test]
fn a_stream_that_waits_is_woken() {
    let mut connection = connection();
    let streams = [1, 3, 5];
    receive(&mut connection, &streams.map(get), 100);
    for id in streams {
        assert!(connection.next_request().is_some());
        let sent = connection.send_head(id, 200, &FieldLines::default(), false);
        sent.expect("an open stream");
    }
    let turns = Arc::new(Mutex::new(VecDeque::new()));
    let next = || turns.lock().expect("a lock").pop_front();
    receive(
        &mut connection,
        &[window(1, 1 << 20), window(3, 1 << 20)],
        100,
    );
    written(&mut connection);

    // The window of the connection is smaller than that of the stream.
    let mut sent = 0;
    while let more @ 1.. = fill(&mut connection, 1, &turns) {
        sent += more;
        written(&mut connection);
    }
    assert_eq!(sent, DEFAULT_WINDOW as usize);
    turns.lock().expect("a lock").clear();
    receive(&mut connection, &[window(0, 1 << 20)], 100);
    assert_eq!(next(), Some(1), "the window of the connection grows");

    // 5 takes the room, until its own window is nearly used up; then 1 and 3 wait.
    fill(&mut connection, 5, &turns);
    fill(&mut connection, 1, &turns);
    fill(&mut connection, 3, &turns);
    written(&mut connection);
    assert_eq!((next(), next()), (Some(5), None));
    assert!(fill(&mut connection, 5, &turns) > 0);
    assert_eq!(next(), Some(1), "the window of the other one is used up");
    let all = connection.poll_send(1, b"all", &context());
    assert_eq!(all, Poll::Ready(Ok(3)));
    assert_eq!(next(), Some(3), "the other one has sent all that it has");

    for id in [1, 3] {
        fill(&mut connection, id, &turns);
    }
    written(&mut connection);
    assert_eq!((next(), next()), (Some(1), None));
    connection.close(1);
    assert_eq!(next(), Some(3), "the other one is closed");
}

/// A task may send before its turn, because something else has woken it. Its turn must not be lost on it later.
#[test]
fn a_turn_is_not_lost_on_a_stream_that_does_not_wait() {
    let mut connection = connection();
    let windows = [setting(INITIAL_WINDOW_SIZE, 1 << 30), window(0, 1 << 30)];
    receive(&mut connection, &windows, 100);
    let streams = [1, 3, 5, 7, 9];
    for id in streams {
        receive(&mut connection, &[get(id)], 100);
        assert!(connection.next_request().is_some());
        connection
            .send_head(id, 200, &FieldLines::default(), false)
            .expect("an open stream");
    }
    written(&mut connection);
    let turns = Arc::new(Mutex::new(VecDeque::new()));
    let fill = |connection: &mut Connection, id| {
        let waker = Waker::from(Arc::new(Turn {
            stream: id,
            turns: Arc::clone(&turns),
        }));
        let context = Context::from_waker(&waker);
        while connection
            .poll_send(id, &[0; MAX_FRAME], &context)
            .is_ready()
        {}
    };
    let next = || turns.lock().expect("a lock").pop_front();
    for id in streams {
        fill(&mut connection, id);
    }
    written(&mut connection);
    assert_eq!(next(), Some(1));
    // 5 is woken by something else, takes the whole room, and has nothing more to send.
    while connection.output.room() >= MAX_FRAME {
        let sent = connection.poll_send(5, &[0; MAX_FRAME], &context());
        assert_eq!(sent, Poll::Ready(Ok(MAX_FRAME)));
    }
    let mut served = BTreeSet::new();
    for _ in 0..3 {
        while let Some(id) = next() {
            fill(&mut connection, id);
            served.insert(id);
        }
        written(&mut connection);
        let is_any_woken = !turns.lock().expect("a lock").is_empty();
        assert!(is_any_woken, "all was written, and all wait");
    }
    assert!(!served.contains(&5), "{served:?}");
    for id in streams {
        connection.close(id);
    }
    assert!(connection.waiting.is_empty() && connection.waiting_for_room.is_empty());
}

/// The streams that a client makes the server reset count as those that it resets itself, CVE-2025-8671.
#[test]
fn a_client_cannot_cause_resets_without_end() {
    type Attack<'a> = (&'a str, &'a dyn Fn(u32) -> [Vec<u8>; 2]);

    let data = |stream, flags, payload: &[u8]| frame(DATA, flags, stream, payload);
    let trailers = |stream, flags| frame(HEADERS, END_HEADERS | flags, stream, b"\0\x01a\x01b");
    let five = |stream| post(stream, FIVE);
    let kinds: [Attack<'_>; 9] = [
        ("a reset", &|id| {
            [get(id), frame(RST_STREAM, 0, id, &[0; 4])]
        }),
        ("no increment", &|id| [get(id), window(id, 0)]),
        ("a large window", &|id| [get(id), window(id, 0x7fff_ffff)]),
        ("DATA after the end", &|id| [get(id), data(id, 0, b"a")]),
        ("HEADERS after the end", &|id| {
            [get(id), trailers(id, END_STREAM)]
        }),
        ("trailers without the end", &|id| {
            [post(id, &[]), trailers(id, 0)]
        }),
        ("less content", &|id| [five(id), data(id, END_STREAM, b"a")]),
        ("less content, with trailers", &|id| {
            [five(id), trailers(id, END_STREAM)]
        }),
        ("more content", &|id| [five(id), data(id, 0, b"abcdef")]),
    ];
    for (kind, frames) in kinds {
        let mut connection = connection();
        let mut count = 0;
        while connection.error().is_none() && count < 2000 {
            let id = 2 * count + 1;
            receive(&mut connection, &frames(id), 100);
            while connection.next_request().is_some() {}
            connection.close(id);
            count += 1;
            if connection.error().is_none() {
                written(&mut connection);
            }
        }
        let want = Ends::Connection(ErrorCode::EnhanceYourCalm);
        assert_eq!(ends(&mut connection), want, "{kind}");
        assert!(count > BUDGET, "{kind}");
    }
}

/// A client that sends pings and never reads would fill the memory, CVE-2019-9512.
#[test]
fn nothing_more_is_read_while_many_acknowledgments_wait() {
    let mut connection = connection();
    let pings = frame(PING, 0, 0, b"12345678").repeat(10_000);
    let count = connection.receive(&pings);
    assert!(count < pings.len() && connection.must_pause());
    assert!(connection.output().len() < 20_000);
    written(&mut connection);
    assert!(!connection.must_pause());
    assert!(connection.receive(&pings[count..]) > 0);
}

/// Each head takes 2 kB, and a few octets refer to it.
#[test]
fn reading_pauses_until_the_requests_are_taken() {
    for (block, count) in [
        (GET.to_vec(), MAX_REQUESTS),
        ([GET, &[0xbe; 15]].concat(), 32),
    ] {
        let mut connection = Connection::new(1 << 20);
        let long = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
        let start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        connection.receive(&start);
        let first = [GET, &long].concat();
        receive(
            &mut connection,
            &[frame(HEADERS, END_HEADERS, 1, &first)],
            10_000,
        );
        assert!(connection.next_request().is_some());
        let all: Vec<u8> = (1..=60)
            .flat_map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &block))
            .collect();
        let processed = connection.receive(&all);
        assert!(processed < all.len() && connection.must_pause());
        assert!(connection.requests.len() <= count);
        assert!(connection.waiting_memory() < MAX_WAITING_HEADS + 70_000);
        while connection.next_request().is_some() {}
        assert!(!connection.must_pause());
        assert!(connection.receive(&all[processed..]) > 0);
    }
}

#[test]
fn a_connection_is_drained_in_two_steps() {
    let mut connection = connection();
    receive(&mut connection, &[get(1)], 100);
    assert!(connection.next_request().is_some());
    connection.drain();
    connection.drain();
    let frames = written(&mut connection);
    let kinds: Vec<u8> = frames.iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [GOAWAY, PING]);
    assert_eq!(frames[0].1, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    // Sent before the client knew.
    receive(
        &mut connection,
        &[get(3), frame(PING, ACK, 0, b"12345678")],
        100,
    );
    assert!(connection.next_request().is_some());
    receive(&mut connection, &[frame(PING, ACK, 0, DRAIN_PING)], 100);
    let frames = written(&mut connection);
    assert_eq!(
        (frames[0].0.kind, &frames[0].1[..]),
        (GOAWAY, &[0, 0, 0, 3, 0, 0, 0, 0][..])
    );
    // Ignored from now on, with their content.
    receive(
        &mut connection,
        &[post(5, &[]), frame(DATA, 0, 5, b"abc")],
        100,
    );
    assert_eq!(connection.next_request(), None);
    assert_eq!(connection.error(), None);
    assert!(!connection.is_done());
    for id in [1, 3] {
        respond(&mut connection, id, b"abc");
        connection.send_end(id, None).expect("an open stream");
        connection.close(id);
    }
    assert!(!connection.is_done(), "not all was written");
    written(&mut connection);
    assert!(connection.is_done());
}

#[test]
fn the_end_of_a_connection_ends_its_streams() {
    for fails in [true, false] {
        let mut connection = connection();
        receive(&mut connection, &[post(1, &[])], 100);
        assert!(connection.next_request().is_some());
        assert!(connection.poll_reset(1, &context()).is_pending());
        if fails {
            connection.fail(ErrorCode::None);
        } else {
            connection.end();
        }
        assert!(connection.poll_reset(1, &context()).is_ready());
        assert_eq!(
            connection.poll_received(1, &context()),
            Poll::Ready(Err(Reset))
        );
        assert_eq!(connection.poll_room(1, &context()), Poll::Ready(Err(Reset)));
        assert_eq!(
            connection.poll_send(1, b"x", &context()),
            Poll::Ready(Err(Reset))
        );
        assert_eq!(connection.send_end(1, None), Err(Reset));
        connection.close(1);
        let frames = written(&mut connection);
        assert!(frames.iter().all(|(head, _)| head.kind != RST_STREAM));
    }
}

/// A client sends requests again that the last GOAWAY does not cover.
#[test]
fn the_last_stream_does_not_rise() {
    let mut connection = connection();
    receive(&mut connection, &[get(1)], 100);
    connection.drain();
    receive(
        &mut connection,
        &[frame(PING, ACK, 0, DRAIN_PING), get(3)],
        100,
    );
    connection.fail(ErrorCode::None);
    let frames = written(&mut connection);
    let last: Vec<&[u8]> = frames
        .iter()
        .filter(|(head, _)| head.kind == GOAWAY)
        .map(|(_, payload)| &payload[..4])
        .collect();
    assert_eq!(last, [[0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 1], [0, 0, 0, 1]]);
}
