//! Lists the examples of FluxLit, and the requests that are sent to each.

use std::fmt;

/// An example of FluxLit's source distribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// The folder that it is started in, below the sources.
    pub(crate) folder: &'static str,
    pub(crate) target: &'static str,
    /// The mount; empty if there is none.
    pub(crate) mount: &'static str,
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Requests of this example alone, below the mount.
    pub(crate) own: &'static [Request],
    pub(crate) pages: &'static [Page],
    /// A command that is run first, in the folder.
    pub(crate) prepare: &'static [&'static str],
    /// The environment variable that names a folder with further Python packages.
    pub(crate) packages: Option<&'static str>,
    /// Texts that FluxLit writes to its output, and that are looked for in the output of both.
    pub(crate) writes: &'static [&'static str],
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// The path, after the mount unless it is absolute, see [`Request::at`].
    pub(crate) path: &'static str,
    pub(crate) fields: &'static str,
    pub(crate) body: &'static str,
}

/// A request with the mount of its example.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    pub(crate) request: Request,
    pub(crate) target: String,
}

/// A page, and what it shows when its script has run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) shows: &'static [&'static str],
}

impl Example {
    /// Returns the example with this name.
    pub(crate) fn named(name: &str) -> &'static Self {
        let example = EXAMPLES.iter().find(|example| example.name == name);
        example.expect("the example")
    }

    /// Returns the requests that every example gets, and its own.
    pub(crate) fn requests(&self) -> Vec<Mounted> {
        let mounted = |request: &Request| Mounted {
            request: *request,
            target: match request.path.strip_prefix("root:") {
                Some(path) => path.to_owned(),
                None => format!("{}{}", self.mount, request.path),
            },
        };
        EVERYWHERE.iter().chain(self.own).map(mounted).collect()
    }
}

impl Mounted {
    pub(crate) fn name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, fields, .. } = self.request;
        write!(text, "{method} {}", self.target)?;
        if fields.contains("upgrade") {
            write!(text, " (WebSocket)")?;
        } else if !fields.is_empty() {
            write!(text, " with {}", fields.trim().replace("\r\n", ", "))?;
        }
        Ok(())
    }
}

const fn request(method: &'static str, path: &'static str) -> Request {
    Request {
        method,
        path,
        fields: "",
        body: "",
    }
}

const fn get(path: &'static str) -> Request {
    request("GET", path)
}

const fn json(method: &'static str, path: &'static str, body: &'static str) -> Request {
    Request {
        method,
        path,
        fields: "content-type: application/json\r\n",
        body,
    }
}

/// A WebSocket handshake. The host is filled in by the sender.
const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: streamlit\r\n";

const EVERYWHERE: &[Request] = &[
    get("/"),
    request("HEAD", "/"),
    request("POST", "/"),
    request("OPTIONS", "/"),
    get("/api"),
    get("/api/"),
    get("/api/nope"),
    get("/apix"),
    get("/api/healthz"),
    request("HEAD", "/api/healthz"),
    request("POST", "/api/healthz"),
    get("/api/readyz"),
    request("HEAD", "/api/readyz"),
    get("/api/docs"),
    get("/api/redoc"),
    get("/api/openapi.json"),
    get("/docs"),
    request("HEAD", "/docs"),
    get("/redoc"),
    get("/openapi.json"),
    get("/_stcore/health"),
    request("HEAD", "/_stcore/health"),
    get("/_stcore/health/"),
    get("/_stcore/host-config"),
    get("/favicon.png"),
    request("HEAD", "/favicon.png"),
    Request {
        method: "GET",
        path: "/favicon.png",
        fields: "range: bytes=0-9\r\n",
        body: "",
    },
    get("/manifest.json"),
    get("/media/nope.png"),
    get("/component/nope/index.html"),
    get("/some/page/"),
    get("/%2e%2e/etc/passwd"),
    get("/__fluxlit/debug"),
    get("/__fluxlit/metrics"),
    request("PUT", "/_stcore/upload_file/none/none"),
    Request {
        method: "GET",
        path: "/_stcore/stream",
        fields: HANDSHAKE,
        body: "",
    },
    Request {
        method: "GET",
        path: "/api/_stcore/stream",
        fields: HANDSHAKE,
        body: "",
    },
];

const SMOKE: &[Request] = &[
    get("/api/smoke"),
    request("HEAD", "/api/smoke"),
    request("POST", "/api/smoke"),
    request("OPTIONS", "/api/smoke"),
    get("/api/smoke/"),
    get("/api/smoke?a=b"),
    Request {
        method: "GET",
        path: "/api/request-id",
        fields: "x-request-id: of-the-client\r\n",
        body: "",
    },
];

const UNDER_MOUNT: &[Request] = &[
    get("/api/smoke"),
    get("/api/smoke/"),
    get("/api/smoke?a=b"),
    // The bare mount.
    get(""),
    // What a proxy sends that has removed the mount.
    get("root:/"),
    get("root:/api/smoke"),
    get("root:/docs"),
    get("root:/_stcore/health"),
    get("root:/apps/my-app-2/"),
];

const USERS: &[Request] = &[
    get("/api/health/db"),
    json(
        "POST",
        "/api/auth/register",
        r#"{"email": "ada@example.com", "full_name": "Ada", "password": "12345678"}"#,
    ),
    json(
        "POST",
        "/api/auth/register",
        r#"{"email": "ada@example.com", "full_name": "Ada", "password": "12345678"}"#,
    ),
    json("POST", "/api/auth/register", r#"{"email": "ada"}"#),
    json(
        "POST",
        "/api/auth/login",
        r#"{"email": "ada@example.com", "password": "wrong-one"}"#,
    ),
    get("/api/users/me"),
    Request {
        method: "GET",
        path: "/api/users/me",
        fields: "authorization: Bearer nonsense\r\n",
        body: "",
    },
];

const REFERENCE_AUTH: &[Request] = &[
    request("POST", "/api/dev/login"),
    get("/api/dev/login"),
    get("/api/me"),
    Request {
        method: "GET",
        path: "/api/me",
        fields: "authorization: Bearer nonsense\r\n",
        body: "",
    },
    // Signed with the secret in the example's source; expires in 2100.
    Request {
        method: "GET",
        path: "/api/me",
        fields: "authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJkZW1vLXVzZXIiLCJpc3MiOiJyZWZlcmVuY2UtYXV0aC\
                 IsImF1ZCI6InJlZmVyZW5jZS1hdWRpZW5jZSIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwLCJzY29wZSI6InJlYWQifQ.OJ4__dsEn\
                 XBc5RiNJ8KkbnmCWjXXlwwfe4BHOpW64Ws\r\n",
        body: "",
    },
];

/// The examples. The others of the source distribution have nothing to run: `path_prefixed_proxy`,
/// `oidc_bff_pluggable_store` and `docker/` are a README each, `kubernetes` consists of manifests. The tests of
/// `fullstack_demo` run without a server, and `scripts/run_smoke_app.sh` is a command line for `smoke_app`.
pub(crate) const EXAMPLES: &[Example] = &[
    Example {
        name: "smoke_app",
        folder: "examples/smoke_app",
        target: "app:app",
        mount: "",
        environment: &[],
        own: SMOKE,
        // The second text comes from the API.
        pages: &[Page {
            path: "/",
            shows: &["FluxLit Smoke", "fluxlit_smoke_ok", "marker"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "smoke_app under a mount",
        folder: "examples/smoke_app",
        target: "app:app",
        mount: "/apps/my-app",
        environment: &[("FLUXLIT_ROOT_PATH", "/apps/my-app")],
        own: UNDER_MOUNT,
        pages: &[Page {
            path: "/",
            shows: &["FluxLit Smoke", "marker"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "multipage_apptest",
        folder: "examples/multipage_apptest",
        target: "app:app",
        mount: "",
        environment: &[("FLUXLIT_API_MOUNT_PATH", "/api")],
        own: &[
            get("/admin"),
            get("/admin/"),
            get("/api/admin/users"),
            get("/admin/_stcore/health"),
        ],
        pages: &[Page {
            path: "/",
            shows: &["Home Page", "Use stable widget keys"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "fullstack_demo",
        folder: "examples/fullstack_demo",
        // Named by its fluxlit.toml.
        target: "",
        mount: "",
        environment: &[("PYTHONPATH", ".")],
        own: USERS,
        pages: &[Page {
            path: "/",
            shows: &["FluxLit demo", "Create account"],
        }],
        prepare: &["alembic", "upgrade", "head"],
        packages: None,
        writes: &[],
    },
    Example {
        name: "session_stores",
        folder: "",
        target: "examples.session_stores.app:app",
        mount: "",
        environment: &[("PYTHONPATH", ".")],
        own: &[],
        // FluxLit keeps an object in the session that its own example cannot store, so that the page shows this error.
        pages: &[Page {
            path: "/",
            shows: &["Object of type ApiClient is not JSON serializable"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "reference_auth",
        folder: "examples/reference_auth",
        target: "app:app",
        mount: "",
        environment: &[],
        own: REFERENCE_AUTH,
        pages: &[Page {
            path: "/",
            shows: &["Reference auth", "Sign in (dev)"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "otel_tracing",
        folder: "examples/otel_tracing",
        target: "app:app",
        mount: "",
        // So that spans are written at once.
        environment: &[("PYTHONUNBUFFERED", "1")],
        own: &[get("/api/hello")],
        pages: &[Page {
            path: "/",
            shows: &["FluxLit OpenTelemetry Demo", "hello from traced FluxLit"],
        }],
        prepare: &[],
        packages: Some("FLUXLIT_TEST_OPENTELEMETRY"),
        writes: &["fluxlit.gateway.request"],
    },
    Example {
        name: "roadmap_09",
        folder: "examples/roadmap_09",
        target: "app:app",
        mount: "",
        environment: &[],
        own: &[get("/api/ping"), get("/about"), get("/about/")],
        pages: &[Page {
            path: "/",
            // The order of the navigation makes the second page the first.
            shows: &["FluxLit 0.9 Example", "About"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
    Example {
        name: "docker_compose",
        folder: "examples/docker_compose",
        // Named by its fluxlit.toml, which also sets the address 0.0.0.0.
        target: "",
        mount: "",
        environment: &[("FLUXLIT_GATEWAY_HOST", "127.0.0.1")],
        own: &[get("/api/hello")],
        pages: &[Page {
            path: "/",
            shows: &["Docker Compose demo", "hello"],
        }],
        prepare: &[],
        packages: None,
        writes: &[],
    },
];
