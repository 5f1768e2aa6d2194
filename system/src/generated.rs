//! Keeps a page of the documentation equal to what a test generates.

use std::path::Path;

/// Panics if `docs/<page>` differs from the text that is generated from `source`. With `FLUXLIT_WRITE` set, writes the page
/// instead.
#[track_caller]
pub fn check_page(page: &str, source: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    if std::env::var_os("FLUXLIT_WRITE").is_some() {
        std::fs::write(&path, text).expect("the page can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).expect("the page can be read");
    assert!(
        found == text,
        "docs/{page} differs from {source}: run this test with FLUXLIT_WRITE=1"
    );
}
