//! Provides what the tests share: guests, case files and the program.

pub(crate) mod cases;
pub(crate) mod guest;
pub(crate) mod interpreter;
pub(crate) mod program;
mod shorthand;
