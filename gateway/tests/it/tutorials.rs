//! Checks the settings files in the tutorials: the gateway accepts each of them as printed, without a warning.

use std::path::Path;
use std::process::Command;

#[test]
fn settings_files_of_the_tutorials_are_accepted_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorials");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the tutorials") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a page");
        for block in text.split("```toml\n").skip(1) {
            let settings = block.split("```").next().unwrap_or_default();
            let project = tempfile::tempdir().expect("a folder");
            std::fs::write(project.path().join("app.py"), "").expect("written");
            std::fs::write(project.path().join("fluxlit.toml"), settings).expect("written");
            let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
                .args(["config", "app.py", "--strict"])
                .env_clear()
                .current_dir(project.path())
                .output()
                .expect("it runs");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {errors}", path.display());
            files += 1;
        }
    }
    assert_eq!(files, 2);
}
