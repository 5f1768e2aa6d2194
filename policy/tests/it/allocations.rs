//! Counts the allocations of typical decisions, which do not depend on the machine.

use std::hint::black_box;

use allocation_counter::measure;
use fluxlit_policy::{Action, Edits, Policy, Request, Response};

use crate::support::policy;
use crate::typical::{TYPICAL, with_mounts, with_networks};

/// Decides as a host does that keeps the memory of edits, and returns the allocations for a request and for its response.
fn count(policy: &Policy, request: &Request<'_>, response: &Response<'_>) -> (u64, u64) {
    let mut counts = (0, 0);
    let mut memory = (Edits::default(), Edits::default());
    // The first decision allocates memory for the edits.
    for _ in 0..2 {
        let mut decided = None;
        let edits = std::mem::take(&mut memory.0);
        let counted = measure(|| decided = Some(policy.request_with(black_box(request), edits)));
        counts.0 = counted.count_total;
        let decision = decided.expect("a decision");
        let mut decided = None;
        let edits = std::mem::take(&mut memory.1);
        let counted = measure(|| {
            decided = Some(policy.response_with(&decision.exchange, black_box(response), edits));
        });
        counts.1 = counted.count_total;
        memory.1 = decided.expect("a decision").edits;
        if let Action::Forward(forward) = decision.action {
            memory.0 = forward.edits;
        }
    }
    counts
}

#[test]
fn only_what_needs_text_of_its_own_allocates() {
    let found = TYPICAL.map(|typical| {
        let (request, response) = (typical.request(), typical.response());
        let (request, response) = count(&typical.policy(), &request, &response);
        (typical.name, request, response)
    });
    assert_eq!(
        found,
        [
            ("a browser, no cookie in the response", 0, 0),
            // The path of the cookie and the line with it, in a list of lines.
            ("a browser, a cookie in the response", 0, 3),
            ("a redirect of the app", 0, 5),
            ("a browser behind a trusted proxy", 0, 0),
            ("an app without a mount, IPv6", 0, 0),
        ]
    );
}

#[test]
fn allocations_do_not_grow_with_the_number_of_apps_or_networks() {
    let [browser, .., behind_proxy, _] = TYPICAL;
    for apps in [1, 10_000] {
        let policy = policy(&with_mounts(apps));
        let counts = count(&policy, &browser.request(), &browser.response());
        assert_eq!(counts, (0, 0), "{apps} apps");
    }
    for networks in [1, 1024] {
        let policy = policy(&with_networks(networks));
        let counts = count(&policy, &behind_proxy.request(), &behind_proxy.response());
        assert_eq!(counts, (0, 0), "{networks} networks");
    }
}
