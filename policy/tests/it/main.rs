//! Runs the shared cases on the policy, and tests its properties.

#![expect(clippy::expect_used, reason = "helpers may fail the test")]

mod browser;
mod cases;
mod native;
mod properties;
mod unparsed;
