//! Compares the checks with their documentation.

use std::collections::BTreeSet;

use fluxlit_doctor::checks;

#[test]
fn every_check_has_a_section_and_every_section_a_check() {
    let text = include_str!("../../../docs/doctor.md");
    // As GitHub makes the anchor of a heading.
    let anchor = |heading: &str| {
        heading
            .to_lowercase()
            .replace(['`', '.'], "")
            .replace(' ', "-")
    };
    let sections: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(anchor)
        .collect();
    let documented: BTreeSet<String> = sections.iter().cloned().collect();
    assert_eq!(documented.len(), sections.len(), "a section is there twice");
    let wanted: BTreeSet<String> = checks()
        .filter_map(|check| {
            check
                .documentation()
                .split_once('#')
                .map(|(_, anchor)| anchor.to_owned())
        })
        .collect();
    assert_eq!(documented, wanted);
}

#[test]
fn ids_and_names_are_unique() {
    let ids: BTreeSet<&str> = checks().map(|check| check.id).collect();
    let names: BTreeSet<&str> = checks().map(|check| check.name).collect();
    assert_eq!(
        (ids.len(), names.len()),
        (checks().count(), checks().count())
    );
}

/// What the pages show as the output of the doctor begins with a status, the id and the name of a check.
#[test]
fn the_output_in_the_documentation_has_checks_that_exist() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut lines = 0;
    for folder in [docs.join("tutorials"), docs] {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a page");
            let is_output = |line: &&str| {
                let mut statuses = ["ok  ", "skip  ", "warn  ", "fail  "].iter();
                statuses.any(|status| line.starts_with(status))
            };
            for line in text.lines().filter(is_output) {
                let mut words = line.split_whitespace().skip(1);
                let (id, name) = (words.next(), words.next());
                assert!(
                    checks().any(|check| Some(check.id) == id && Some(check.name) == name),
                    "{}: {line}",
                    path.display()
                );
                lines += 1;
            }
        }
    }
    assert!(lines >= 30, "{lines}");
}
