//! Runs the images of `deploy/images` with podman as their documentation advises, and fetches the image of the filter from a
//! registry as Istio and Envoy Gateway do.

#[path = "images/filter.rs"]
mod filter;

use std::io::{BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use fluxlit_support::client::{connect, get};
use fluxlit_support::container::{Container, output};
use fluxlit_support::http1;
use fluxlit_support::port::{free_port, local};
use fluxlit_system::visitor::{Connection, Visitor};
use fluxlit_system::{app, named};

/// The image of the gateway has one file: nothing to update, and no shell for an intruder.
#[test]
fn the_image_of_the_gateway_has_one_file() {
    let image = gateway_image();
    let mounted = podman(&["image", "mount", &image]);
    let mut names: Vec<String> = std::fs::read_dir(mounted.trim())
        .expect("the root of the image")
        .map(|entry| {
            entry
                .expect("a name")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    podman(&["image", "unmount", &image]);
    assert_eq!(names, ["fluxlit-gateway"]);
}

/// What engines and Kubernetes read from the images.
#[test]
fn both_images_are_set_up_for_an_engine() {
    for image in [gateway_image(), app_image()] {
        let inspected = podman(&["image", "inspect", &image]);
        let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
        let found = [
            "/0/Config/User",
            "/0/Config/StopSignal",
            // CMD-SHELL would need a shell.
            "/0/Healthcheck/Test/0",
        ]
        .map(|pointer| inspected.pointer(pointer).and_then(|value| value.as_str()));
        assert_eq!(
            found,
            [Some("65532:65532"), Some("SIGTERM"), Some("CMD")],
            "{inspected}"
        );
    }
}

/// A release has the image as a layout that no engine has built.
#[test]
fn the_image_of_a_release_is_the_one_that_the_containerfile_describes() {
    let layout = named("FLUXLIT_TEST_GATEWAY_LAYOUT");
    let id = podman(&["pull", "--quiet", &format!("oci:{}:test", layout.display())]);
    let config = |image: &str| {
        let inspected = podman(&["image", "inspect", image]);
        let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
        let mut config = inspected[0]["Config"].clone();
        let fields = config.as_object_mut().expect("an object");
        // Only images of docker's format have a health check, and labels are annotations of a layout.
        fields.retain(|name, _| name != "Healthcheck" && name != "Labels");
        if let Some(variables) = fields["Env"].as_array_mut() {
            variables.sort_by_key(ToString::to_string);
        }
        (
            config,
            inspected[0]["Architecture"].clone(),
            inspected[0]["Os"].clone(),
        )
    };
    assert_eq!(config(id.trim()), config(&gateway_image()));
    let printed = podman(&["run", "--rm", "--network", "none", id.trim(), "--version"]);
    assert!(printed.contains(env!("CARGO_PKG_VERSION")), "{printed}");
    podman(&["image", "rm", id.trim()]);
}

#[test]
fn the_gateway_serves_a_running_app_without_any_privilege() {
    let app = app::start();
    let (container, listen) = gateway(app);
    let ready = || get(listen, "/api/readyz", None).is_ok_and(|response| response.status == 200);
    container.wait_until("ready", ready);
    assert!(container.is_healthy(), "{}", container.log());
    is_confined(&container);
    serves(listen, "/received", "GET /received");
}

#[test]
fn the_health_check_fails_while_the_app_is_missing() {
    let nobody = local(free_port().expect("a port"));
    let (container, listen) = gateway(nobody);
    container.wait_until("alive", || {
        get(listen, "/api/healthz", None).is_ok_and(|response| response.status == 200)
    });
    assert!(!container.is_healthy(), "{}", container.log());
}

/// SIGTERM: the request in progress is completed, the WebSocket is closed with 1012, the exit code is 0.
#[test]
fn the_gateway_drains_on_sigterm() {
    let (container, listen) = gateway(app::start());
    container.wait_until("ready", || {
        get(listen, "/api/readyz", None).is_ok_and(|response| response.status == 200)
    });
    drains(&container, listen, "/upload", "10");
}

/// The example app needs one writable folder, and nothing else.
#[test]
fn the_app_runs_on_a_read_only_root_and_drains() {
    let port = free_port().expect("a port");
    let options = [
        "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=256m".to_owned(),
        "--env=FLUXLIT_GATEWAY_HOST=127.0.0.1".to_owned(),
        format!("--env=FLUXLIT_GATEWAY_PORT={port}"),
        "--env=FLUXLIT_GRACE_PERIOD_S=120".to_owned(),
    ];
    let container = Container::start(&app_image(), &options, &[]);
    let listen = local(port);
    container.wait_until("ready", || {
        get(listen, "/api/readyz", None).is_ok_and(|response| response.status == 200)
    });
    assert!(container.is_healthy(), "{}", container.log());
    is_confined(&container);
    serves(listen, "/", "<title>Streamlit</title>");
    serves(listen, "/api/smoke", "fluxlit_smoke_ok");
    serves(listen, "/api/docs", "swagger");
    drains(&container, listen, "/api/upload", "\"size\":10");
}

/// Starts the image of the gateway in front of an app.
fn gateway(app: SocketAddr) -> (Container, SocketAddr) {
    let port = free_port().expect("a port");
    let options = [
        "--env=FLUXLIT_GATEWAY_HOST=127.0.0.1".to_owned(),
        format!("--env=FLUXLIT_GATEWAY_PORT={port}"),
        format!("--env=FLUXLIT_STREAMLIT_UPSTREAM=http://{app}"),
        "--env=FLUXLIT_GRACE_PERIOD_S=120".to_owned(),
    ];
    (
        Container::start(&gateway_image(), &options, &[]),
        local(port),
    )
}

/// Checks in the kernel what the options have asked for.
fn is_confined(container: &Container) {
    container.check_confinement();
    let limits = container.inspect("{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}");
    assert_eq!(limits, "1073741824 128");
}

fn serves(listen: SocketAddr, path: &str, wanted: &str) {
    let response = get(listen, path, None).expect("a response");
    let text = response.text();
    assert!(
        response.status == 200 && text.contains(wanted),
        "{path}: {response:?}"
    );
}

/// Sends SIGTERM while a request and a WebSocket are in progress. `upload` takes a body of ten bytes.
fn drains(container: &Container, listen: SocketAddr, upload: &str, wanted: &str) {
    let visitor = Visitor {
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        front: listen,
        host: listen.to_string(),
        trusted: None,
        cookie: None,
    };
    let origin = format!("http://{listen}");
    let (response, mut socket) = visitor
        .socket("/_stcore/stream", &origin)
        .expect("a response");
    assert_eq!(response.status, 101, "{response:?}");

    let mut request = connect(listen).expect("a connection");
    let head = format!(
        "POST {upload} HTTP/1.1\r\nHost: {listen}\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    );
    request.write_all(head.as_bytes()).expect("sent");
    let mut reader = BufReader::new(request.try_clone().expect("a socket"));
    // The app asks for the body, so the request is in progress.
    let interim = http1::read_head_blocking(&mut reader).expect("a response");
    assert_eq!(interim.expect("a response").word(1), "100");
    request.write_all(b"01234").expect("sent");

    container.terminate();
    assert_eq!(close_code(&mut *socket), 1012);
    request.write_all(b"56789").expect("sent");
    let response = http1::read_response_blocking(&mut reader, "POST").expect("a response");
    let response = response.expect("a response");
    assert!(
        response.status == 200 && response.text().contains(wanted),
        "{response:?}"
    );
    drop(socket);
    assert_eq!(container.exit_code(), "0", "{}", container.log());
}

/// Reads frames until the one that closes the WebSocket, RFC 6455 §5.5.1, and returns its code.
fn close_code(socket: &mut dyn Connection) -> u16 {
    loop {
        let mut start = [0; 2];
        socket.read_exact(&mut start).expect("a frame");
        let length = match start[1] {
            126 => {
                let mut length = [0; 2];
                socket.read_exact(&mut length).expect("a length");
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).expect("a payload");
        if let ([0x88, _], [high, low, ..]) = (start, &payload[..]) {
            return u16::from_be_bytes([*high, *low]);
        }
    }
}

fn podman(arguments: &[&str]) -> String {
    let output = output(Command::new("podman").args(arguments));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn gateway_image() -> String {
    named("FLUXLIT_TEST_GATEWAY_IMAGE").display().to_string()
}

fn app_image() -> String {
    named("FLUXLIT_TEST_APP_IMAGE").display().to_string()
}
