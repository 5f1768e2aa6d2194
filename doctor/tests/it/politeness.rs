//! Compares what fronts see of the doctor with what `docs/doctor.md` promises: its pace, its sockets and its name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fluxlit_doctor::CheckSelection;
use fluxlit_doctor::client::{Site, Tls};
use fluxlit_doctor::probe;

use crate::front::{Fault, MOUNT, Seen, Watch, serve_watched};
use crate::probe::{options, runtime};

/// Runs every check against a front, and returns what the front has seen, and since when.
fn probed(fault: Fault) -> (Instant, Vec<Seen>) {
    let watch: Arc<Watch> = Arc::default();
    let address = serve_watched(fault, Arc::clone(&watch));
    let site = Site::parse(&format!("http://{address}{MOUNT}/")).expect("a URL");
    let options = options(Tls::new(None).expect("certificates"));
    let begin = Instant::now();
    runtime()
        .block_on(probe::run(
            site,
            options,
            &CheckSelection::default(),
            |_| {},
        ))
        .expect("a site");
    let mut seen = std::mem::take(&mut *watch.seen.lock().expect("no panic"));
    seen.sort_by_key(|seen| seen.at);
    (begin, seen)
}

/// Checks what a front has seen. `names`: parts of the names of the doctor that this front may see.
fn check(fault: Fault, names: &[&str]) {
    let (begin, seen) = probed(fault);
    // A connection and a request on it are two steps, at least 50 ms apart. What a front sees is later, never earlier.
    for (number, seen) in (0..).zip(&seen) {
        let at = seen.at - begin;
        assert!(
            at >= INTERVAL * number,
            "{fault:?}: step {number} after {at:?}"
        );
    }
    for seen in &seen {
        let [others, websockets] = seen.open;
        assert_eq!(others, 0, "{fault:?}: two requests at a time");
        assert!(websockets <= 8, "{fault:?}: {websockets} WebSockets");
    }
    let is_request = |seen: &&Seen| seen.user_agents.is_some();
    let requests: Vec<&Seen> = seen.iter().filter(is_request).collect();
    assert!(requests.len() > 50, "{fault:?}: {}", requests.len());
    // Half of the documented time, because the front of a busy machine may see the first of them late.
    for some in requests.windows(21) {
        let took = some[20].at - some[0].at;
        assert!(took >= INTERVAL * 10, "{fault:?}: 21 requests in {took:?}");
    }
    for request in requests {
        let sent = request.user_agents.as_deref().unwrap_or_default();
        let is_known = |sent: &String| names.iter().any(|name| sent.contains(name));
        assert!(
            sent.len() == 1 && sent.iter().all(is_known),
            "{fault:?}: {sent:?}"
        );
    }
}

#[test]
fn the_doctor_is_as_polite_as_documented() {
    let words: Vec<&str> = include_str!("../../../docs/doctor.md")
        .split_whitespace()
        .collect();
    let documented = words.join(" ");
    for part in [
        "at most 20 requests a second, one at a time, with the User-Agent `fluxlit-doctor/VERSION`",
        "or with that of a browser",
    ] {
        assert!(documented.contains(part), "{part}");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| check(Fault::None, &[NAME]));
        // It tries whether a browser is refused as well.
        scope.spawn(|| check(Fault::LimitsRate, &[NAME, BROWSER]));
    });
}

const INTERVAL: Duration = Duration::from_millis(50);

const NAME: &str = concat!("fluxlit-doctor/", env!("CARGO_PKG_VERSION"));

const BROWSER: &str = "Mozilla/5.0";
