//! Runs every case on the policy.

use std::path::Path;

use fluxlit_cases::CaseFile;

use crate::native;

/// Runs every case that does not name `policy` as an exception.
#[test]
fn every_case_passes_in_the_policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let mut failures = Vec::new();
    let mut count = 0;
    for (path, file) in CaseFile::load_folder(&folder).unwrap() {
        assert!(!file.about.is_empty(), "{} has no `about`", path.display());
        let cases = file.into_cases();
        for case in cases.iter().filter(|case| case.runs_in("policy")) {
            count += 1;
            assert!(!case.why.is_empty(), "{} has no `why`", case.name);
            assert!(case.is_plain(), "{} is not for every host", case.name);
            let mismatches = native::run(case).mismatches(case);
            if !mismatches.is_empty() {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let mismatches = mismatches.join("\n    ");
                failures.push(format!(
                    "{file}: {}: {}\n    {mismatches}",
                    case.name, case.why
                ));
            }
        }
    }
    assert!(count > 0, "no cases in {}", folder.display());
    assert!(
        failures.is_empty(),
        "{} of {count} cases fail\n{}",
        failures.len(),
        failures.join("\n")
    );
}
