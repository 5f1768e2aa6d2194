//! Tests of the doctor that need only Rust.

mod documentation;
mod fluxlit_rows;
mod lint;
mod probe;
mod report;
