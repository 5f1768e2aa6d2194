//! Checks the settings files in the tutorials, which the gateway accepts as printed, without a warning, and the commands that
//! start proxies, which are those in the heading of what the gateway prints.

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

#[test]
fn a_tutorial_starts_each_proxy_with_the_commands_of_the_printed_file() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorials/proxy-in-front.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let project = tempfile::tempdir().expect("a folder");
    std::fs::write(project.path().join("app.py"), "").expect("written");
    for (proxy, file, commands) in [
        ("nginx", "\"$PWD/nginx.conf\"", 2),
        ("caddy", "Caddyfile", 1),
        ("traefik", "traefik.yml", 1),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .args(["config", "app.py", "--for", proxy])
            .args(["--certificate", "cert.pem", "--key", "key.pem"])
            .env_clear()
            // With these ports, every user can start the proxy.
            .env("FLUXLIT_PUBLIC_BASE_URL", "https://portal.example.com:8443")
            .current_dir(project.path())
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = printed.lines().filter_map(|line| line.strip_prefix("#   "));
        let named = lines
            .filter(|line| line.starts_with(&format!("{proxy} ")) && !line.contains("validate"))
            .map(|line| line.split("  ").next().unwrap_or_default());
        let named: Vec<String> = named
            .map(|line| line.replace("FOLDER", "\"$PWD\"").replace("FILE", file))
            .collect();
        assert_eq!(named.len(), commands, "{printed}");
        for command in named {
            assert!(page.contains(&command), "`{command}` is not in the page");
        }
    }
}
