//! Says what takes the place of FluxLit's commands that this program does not have.

/// Returns the advice for a command of FluxLit; none for any other word.
pub(crate) fn advice(command: &str) -> Option<&'static str> {
    let (_, advice) = COMMANDS.iter().find(|(name, _)| *name == command)?;
    Some(advice)
}

/// The commands of FluxLit 0.13.2 that this program does not have.
const COMMANDS: [(&str, &str); 5] = [
    (
        "build",
        "`fluxlit build` writes a Dockerfile; start the app in it with `fluxlit-gateway run`",
    ),
    (
        "new",
        "`fluxlit new` creates an app; start it with `fluxlit-gateway dev`",
    ),
    (
        "pages",
        "`fluxlit pages` works on the pages of an app, whatever serves it",
    ),
    (
        "shutdown",
        "no PID file is written: stop the gateway by SIGTERM, with the process manager that started it",
    ),
    (
        "workbench",
        "use `fluxlit-gateway run --proxy-headers --forwarded-allow-ips` with the address of the proxy, and --root-path with \
         the path of the app",
    ),
];
