//! Finds out from the last lines of a child what to do about its end.

/// Returns what to do, if the lines or the exit code say what was wrong.
///
/// `executable`: what was started, for the commands in the advice.
pub(super) fn advice(lines: &[String], code: Option<i32>, executable: &str) -> Option<String> {
    lines
        .iter()
        .rev()
        .find_map(|line| of_line(line, executable))
        .or_else(|| match code? {
            127 => Some(format!(
                "`{executable}` cannot be started: correct FLUXLIT_PYTHON or FLUXLIT_STREAMLIT_COMMAND"
            )),
            0 => Some(format!(
                "`{executable}` does nothing, which happens if a file of the app has the name of a package: {ASK_THE_DOCTOR}"
            )),
            137 => Some(
                "SIGKILL is what the kernel sends when memory is short: look at the memory limit and at the kernel's log"
                    .to_owned(),
            ),
            _ => None,
        })
}

fn of_line(line: &str, executable: &str) -> Option<String> {
    let quoted = |after: &str, quote: char| {
        let (_, rest) = line.split_once(after)?;
        let (name, _) = rest.split_once(quote)?;
        Some(name.to_owned())
    };
    let shadowed = line
        .ends_with("is not a package")
        .then(|| quoted("; '", '\''))
        .flatten()
        .or_else(|| quoted("AttributeError: module '", '\''))
        .or_else(|| quoted("AttributeError: partially initialized module '", '\''));
    if let Some(module) = shadowed {
        return Some(format!(
            "if the app has a file or folder `{module}`, rename it, because it hides the package: {ASK_THE_DOCTOR}"
        ));
    }
    if let Some(module) = quoted("No module named '", '\'').or_else(|| {
        line.split_once("No module named ")
            .map(|(_, name)| name.trim().to_owned())
    }) {
        return Some(format!(
            "`{executable}` has no module `{module}`: install it there, set FLUXLIT_PYTHON to a Python that has it, or start \
             in the folder that contains it"
        ));
    }
    if let Some(module) = quoted("Could not import module \"", '"') {
        return Some(format!(
            "start in the folder that contains `{module}`, or name the file, such as ./{module}.py:app"
        ));
    }
    if let Some(attribute) = quoted("Attribute \"", '"') {
        return Some(format!(
            "the module has no `{attribute}`: name the variable that holds the application, such as app:app"
        ));
    }
    if line.contains("ImportError: cannot import name ") {
        return Some(format!(
            "correct the import, or rename the file of the app that has the name of the package: {ASK_THE_DOCTOR}"
        ));
    }
    if line.contains("ImportError")
        || line.contains("SyntaxError")
        || line.contains("IndentationError")
    {
        return Some(
            "the app cannot be imported: correct it at the place in the last lines".to_owned(),
        );
    }
    if line.to_ascii_lowercase().contains("address already in use")
        || line.contains("is not available")
    {
        return Some(
            "another process has taken its port: start again, which takes another one".to_owned(),
        );
    }
    if line.contains("No such option") || line.contains("no such option") {
        return Some(
            "an option is not known to this version: update Streamlit or uvicorn, or remove the option".to_owned(),
        );
    }
    None
}

/// Returns true if the lines of Python or uvicorn say that a module, or the application in it, cannot be imported.
///
/// An application that was imported and cannot start may lack something for a moment only, such as a database.
pub(super) fn is_about_an_import(lines: &[String]) -> bool {
    let errors = [
        "ImportError: ",
        "IndentationError: ",
        "ModuleNotFoundError: ",
        "SyntaxError: ",
    ];
    let has_started = lines
        .iter()
        .any(|line| line.contains("Application startup failed"));
    !has_started
        && lines.iter().any(|line| {
            line.contains("Error loading ASGI app.")
                || line.contains(": No module named ")
                || errors.iter().any(|error| line.starts_with(error))
        })
}

const ASK_THE_DOCTOR: &str = "see the check import_shadowing of `fluxlit-gateway doctor`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_python_uvicorn_and_streamlit_lead_to_advice() {
        let table = [
            (
                "ModuleNotFoundError: No module named 'sqlmodel'",
                "no module `sqlmodel`",
            ),
            (
                "ModuleNotFoundError: No module named 'fluxlit.runtime'; 'fluxlit' is not a package",
                "a file or folder `fluxlit`",
            ),
            (
                "AttributeError: module 'uvicorn' has no attribute '__version__'",
                "a file or folder `uvicorn`",
            ),
            (
                "ImportError: cannot import name 'APIRouter' from 'fastapi' (/app/fastapi.py)",
                "import_shadowing",
            ),
            (
                "/usr/bin/python3: No module named uvicorn",
                "no module `uvicorn`",
            ),
            (
                "ERROR:    Error loading ASGI app. Could not import module \"main\".",
                "./main.py:app",
            ),
            (
                "ERROR:    Error loading ASGI app. Attribute \"ap\" not found in module \"app\".",
                "no `ap`",
            ),
            ("SyntaxError: '(' was never closed", "cannot be imported"),
            (
                "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use",
                "taken its port",
            ),
            ("Port 8501 is not available", "taken its port"),
            (
                "Error: No such option: --server.nope",
                "not known to this version",
            ),
        ];
        for (line, expected) in table {
            let lines = ["Traceback".to_owned(), line.to_owned(), String::new()];
            let advice = advice(&lines, Some(1), "python3").expect(line);
            assert!(advice.contains(expected), "{line}: {advice}");
        }
    }

    #[test]
    fn an_import_that_fails_is_recognized() {
        for (line, expected) in [
            ("ModuleNotFoundError: No module named 'sqlmodel'", true),
            ("/usr/bin/python3: No module named uvicorn", true),
            (
                "ERROR:    Error loading ASGI app. Could not import module \"main\".",
                true,
            ),
            ("SyntaxError: '(' was never closed", true),
            (
                "ConnectionRefusedError: [Errno 111] Connection refused",
                false,
            ),
            ("ERROR:    Application startup failed. Exiting.", false),
        ] {
            let lines = ["Traceback".to_owned(), line.to_owned()];
            assert_eq!(is_about_an_import(&lines), expected, "{line}");
            let started = "ERROR:    Application startup failed. Exiting.".to_owned();
            let lines = [lines.as_slice(), &[started]].concat();
            assert!(!is_about_an_import(&lines), "{line}");
        }
    }

    #[test]
    fn the_exit_code_leads_to_advice_if_no_line_does() {
        let lines = ["all is well".to_owned()];
        assert_eq!(advice(&lines, Some(1), "python3"), None);
        assert_eq!(advice(&lines, None, "python3"), None);
        assert!(
            advice(&[], Some(0), "streamlit")
                .expect("advice")
                .contains("`streamlit` does nothing")
        );
        assert!(
            advice(&lines, Some(137), "python3")
                .expect("advice")
                .contains("memory")
        );
        assert!(
            advice(&lines, Some(127), "nope")
                .expect("advice")
                .contains("`nope`")
        );
    }
}
