//! The policy, judged by the cases that the filter and Envoy are judged by as well.

#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

mod cases;
mod native;
mod properties;
