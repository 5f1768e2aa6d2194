//! Names the version and the commit that a filter or module is built from.

/// Version and commit, such as `0.1.0, commit 6b38fb7…`, as in `fluxlit-gateway --version`. The commit is `unknown` if the build
/// does not know it.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    ", commit ",
    env!("FLUXLIT_BUILD_COMMIT"),
);
