//! Tests that FluxLit still builds the URLs that `gateway/tests/public_urls.json` says.

use std::path::Path;
use std::process::Command;

use fluxlit_system::named;
use serde_json::Value;

#[test]
fn the_recorded_urls_are_those_of_fluxlit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = folder.join("../gateway/tests/public_urls.json");
    let output = Command::new(named("FLUXLIT_TEST_FLUXLIT_BIN").join("python"))
        // A test client that FluxLit imports warns about its own future.
        .args(["-W", "ignore"])
        .arg(folder.join("tests/public_urls.py"))
        .arg(&recorded)
        .output()
        .expect("Python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let built: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let recorded = std::fs::read(recorded).expect("a file");
    let recorded: Value = serde_json::from_slice(&recorded).expect("JSON");
    let rows = |value: &Value| value.as_array().expect("rows").clone();
    assert_eq!(rows(&built).len(), rows(&recorded).len());
    for (built, recorded) in rows(&built).iter().zip(&rows(&recorded)) {
        assert_eq!(
            built["fluxlit"], recorded["fluxlit"],
            "{}",
            recorded["name"]
        );
    }
}
