//! Prints what typical decisions cost: allocations and time, and how they depend on the number of apps and networks.
//!
//! `decisions NAME COUNT` decides COUNT times and prints nothing, for profilers that count instructions.

#![expect(
    clippy::expect_used,
    reason = "a measurement with fixed input, and not a part of the policy"
)]

#[path = "../tests/it/typical.rs"]
mod typical;

use std::hint::black_box;
use std::time::Instant;

use fluxlit_policy::{Action, Defaults, Edits, Policy, Request, Response};
use typical::{TYPICAL, Typical, with_mounts, with_networks};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(count)) = (arguments.next(), arguments.next()) {
        let typical = TYPICAL.iter().find(|typical| typical.name == name);
        let typical = typical.expect("the name of a typical exchange");
        let policy = typical.policy();
        let mut host = Host::new(&policy, typical);
        for _ in 0..count.parse().expect("a number") {
            host.decide();
        }
        return;
    }
    println!("{:<44}{:>12}{:>8}{:>8}", "", "allocations", "bytes", "ns");
    for typical in &TYPICAL {
        print(typical.name, &typical.policy(), typical);
    }
    let [browser, .., behind_proxy, _] = &TYPICAL;
    let policy = |settings: &str| {
        Policy::from_json(settings.as_bytes(), Defaults::FILTER).expect("valid settings")
    };
    for count in [1, 10, 100, 1000, 10_000] {
        print(
            &format!("{count} apps"),
            &policy(&with_mounts(count)),
            browser,
        );
    }
    // The policy accepts no more.
    for count in [1, 10, 100, 1024] {
        let policy = policy(&with_networks(count));
        print(&format!("{count} trusted networks"), &policy, behind_proxy);
    }
}

fn print(name: &str, policy: &Policy, typical: &Typical) {
    let mut host = Host::new(policy, typical);
    for _ in 0..ROUNDS {
        host.decide();
    }
    let counted = allocation_counter::measure(|| host.decide());
    let started = Instant::now();
    for _ in 0..ROUNDS {
        host.decide();
    }
    let nanoseconds = started.elapsed().as_nanos() / ROUNDS;
    println!(
        "{name:<44}{:>12}{:>8}{nanoseconds:>8}",
        counted.count_total, counted.bytes_total
    );
}

/// A host that keeps the memory of edits.
struct Host<'a> {
    policy: &'a Policy,
    request: Request<'a>,
    response: Response<'a>,
    request_edits: Edits,
    response_edits: Edits,
}

impl<'a> Host<'a> {
    fn new(policy: &'a Policy, typical: &Typical) -> Self {
        Self {
            policy,
            request: typical.request(),
            response: typical.response(),
            request_edits: Edits::default(),
            response_edits: Edits::default(),
        }
    }

    /// Decides about the request and its response.
    #[inline(never)]
    fn decide(&mut self) {
        let edits = std::mem::take(&mut self.request_edits);
        let decision = self.policy.request_with(black_box(&self.request), edits);
        let decision = black_box(decision);
        let edits = std::mem::take(&mut self.response_edits);
        let response = black_box(&self.response);
        let response = self
            .policy
            .response_with(&decision.exchange, response, edits);
        self.response_edits = black_box(response).edits;
        if let Action::Forward(forward) = decision.action {
            self.request_edits = forward.edits;
        }
    }
}

/// How often each decision is made before and while it is measured.
const ROUNDS: u128 = 10_000;
