//! Tests sessions: their client, how they are resumed, and how they end.

use std::time::Duration;

use fluxlit_support::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::pair::{Generation, HOST, Pair, Shape};
use crate::session::{NEW, Session};
use crate::support::{connect, exchange};

const GENERATIONS: [Generation; 2] = [Generation::Starlette, Generation::Tornado];

/// The front end's third value is the session to resume; FluxLit dropped it.
#[test]
fn a_session_is_resumed_by_the_third_value_alone() {
    for generation in GENERATIONS {
        let pair = Pair::start(generation, Shape::Full);
        let first = Session::open(pair.through(), NEW, "");
        assert!(first.shows("runs=1."), "{generation:?}: the first run");
        let id = first.id.clone();
        drop(first);

        // Streamlit resumes a session only after it has noticed that its last connection is closed.
        let mut second = None;
        let is_resumed = wait_until(Duration::from_secs(60), || {
            let session = Session::open(pair.through(), &format!("{NEW}, {id}"), "");
            let is_resumed = session.id == id;
            second = Some(session);
            is_resumed
        });
        assert!(is_resumed, "{generation:?}: the third value resumes");
        let second = second.expect("a session");
        assert!(second.shows("runs=2."), "{generation:?}: its state is kept");
        drop(second);

        let third = Session::open(pair.through(), &format!("streamlit, {id}"), "");
        assert_ne!(third.id, id, "{generation:?}: the second value resumes");
        assert!(third.shows("runs=1."), "{generation:?}: the state is new");
    }
}

/// FluxLit shared one cookie jar among all clients.
#[test]
fn cookies_of_two_clients_stay_apart() {
    for generation in GENERATIONS {
        let pair = Pair::start(generation, Shape::Full);
        let ann = Session::open(pair.through(), NEW, "cookie: person=ann\r\n");
        let ben = Session::open(pair.through(), NEW, "cookie: person=ben\r\n");
        let stranger = Session::open(pair.through(), NEW, "");
        assert!(ann.shows("person=ann."), "{generation:?}");
        assert!(ben.shows("person=ben."), "{generation:?}");
        assert!(stranger.shows("person=None."), "{generation:?}");

        // Streamlit sends a token only to a client without one, so it would send none if the gateway had added a token of
        // another client.
        let token = || {
            let request = format!(
                "GET {}/_stcore/health HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n",
                pair.through().base
            );
            let answer = exchange(
                &mut connect(pair.gateway.address),
                request.as_bytes(),
                "GET",
            );
            answer.values("set-cookie").join("")
        };
        let tokens = [token(), token()];
        assert!(
            tokens
                .iter()
                .all(|token| token.starts_with("_streamlit_xsrf=")),
            "{generation:?}: {tokens:?}"
        );
        assert_ne!(tokens[0], tokens[1], "{generation:?}");
    }
}

/// Tornado sends the token with the 101. FluxLit dropped the header lines of that response.
#[test]
fn the_token_of_the_handshake_arrives() {
    let pair = Pair::start(Generation::Tornado, Shape::Stripped);
    let session = Session::open(pair.through(), NEW, "");
    let cookies = session.opened.values("set-cookie");
    let [cookie] = cookies[..] else {
        panic!("want one cookie, got {cookies:?}");
    };
    assert!(
        cookie.starts_with("_streamlit_xsrf=") && cookie.contains("Path=/apps/my-app"),
        "{cookie}"
    );
}

/// A peer, and the client address that the app gets: forged fields of an untrusted peer have no effect.
const CLIENTS: [(&str, &str); 2] = [("127.0.0.1", "203.0.113.7"), ("127.0.0.9", "127.0.0.9")];

#[test]
fn the_app_gets_the_client_address() {
    let trust = [
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    let pair = Pair::with_settings(Generation::Starlette, Shape::Root, &trust);
    let forged = "x-forwarded-for: 203.0.113.7\r\nx-remote-user: root\r\n";
    for (peer, client) in CLIENTS {
        let own = peer.parse().expect("an address");
        let session = Session::open_from(own, pair.through(), NEW, forged);
        for text in [
            format!("ip={client}."),
            format!("for=['{client}']."),
            format!("host={HOST}."),
            "user=None.".to_owned(),
        ] {
            assert!(session.shows(&text), "from {peer}: {text}");
        }
    }
}

/// A browser reconnects after 1012. It also reconnects after a broken connection, but later and without a reason.
#[test]
fn the_gateway_closes_sessions_with_1012_when_it_stops() {
    for generation in GENERATIONS {
        let mut pair = Pair::start(generation, Shape::Root);
        let session = Session::open(pair.through(), NEW, "");
        terminate(pair.gateway.service.id());
        let close = session.closed();
        assert_eq!(
            close.map(|frame| u16::from(frame.code)),
            Some(1012),
            "{generation:?}"
        );
        assert!(
            wait_until(Duration::from_secs(60), || {
                !matches!(pair.gateway.service.ended(), Ok(None))
            }),
            "{generation:?}: the gateway does not end"
        );
        let status = pair.gateway.service.ended().expect("a status");
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "{generation:?}"
        );
    }
}

#[test]
fn the_close_frame_of_a_stopping_streamlit_arrives() {
    for generation in GENERATIONS {
        let pair = Pair::start(generation, Shape::Root);
        let direct = Session::open(pair.direct(), NEW, "");
        let through = Session::open(pair.through(), NEW, "");
        terminate(pair.streamlit.service.id());
        let direct = direct.closed();
        if generation == Generation::Starlette {
            assert_eq!(
                direct.as_ref().map(|frame| u16::from(frame.code)),
                Some(1012)
            );
        }
        assert_eq!(through.closed(), direct, "{generation:?}");
    }
}

fn terminate(id: u32) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(id.expect("an id"), Signal::TERM).expect("the process runs");
}
