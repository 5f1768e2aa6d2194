//! Describes this build: version, commit, target and features.
//!
//! The build script `support/build_info.rs` determines the last three. There is no time and no name of a machine, so that
//! equal sources give equal programs.

/// The version of the package, such as `0.1.0`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, with `-dirty` if files differed from it; `unknown` if the build did not know it.
pub(crate) const COMMIT: &str = env!("FLUXLIT_BUILD_COMMIT");

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
