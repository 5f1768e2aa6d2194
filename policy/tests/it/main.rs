//! Tests the policy with the cases that the filter and Envoy are tested with, and with properties.

#![expect(clippy::expect_used, reason = "helpers may fail the test")]

mod cases;
mod native;
mod properties;
mod unparsed;
