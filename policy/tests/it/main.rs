//! Runs the shared cases on the policy, and tests its properties.

#![expect(clippy::expect_used, reason = "helpers may fail the test")]

mod allocations;
mod browser;
mod cases;
mod client_certificate;
mod documentation;
mod native;
mod nominated;
mod probe;
mod properties;
mod record;
mod reentry;
mod response;
mod settings;
mod support;
mod typical;
mod unparsed;
