//! Describes this build: version, commit, target and features.
//!
//! The build script `support/build_info.rs` determines the last three. There is no time and no name of a machine, so that
//! equal sources give equal programs.

/// The text that follows the name of the program in the output of `--version`.
pub const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("FLUXLIT_BUILD_COMMIT"),
    "\ntarget: ",
    env!("FLUXLIT_BUILD_TARGET"),
    "\nfeatures: ",
    env!("FLUXLIT_BUILD_FEATURES"),
);
