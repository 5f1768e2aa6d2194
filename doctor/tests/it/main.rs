//! Tests of the doctor that need only Rust.

mod app;
mod coverage;
mod documentation;
mod fluxlit_rows;
mod front;
mod lint;
mod politeness;
mod probe;
mod report;
mod shipped;
