//! Starts a Streamlit, and a gateway in front of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_envoy::{Gateway, MOUNT, Streamlit};

use crate::support::{named, parts};

/// The server that Streamlit is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// 1.67: Starlette on uvicorn.
    Starlette,
    /// 1.45: Tornado.
    Tornado,
}

/// The place where the app is published, and whether Streamlit knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// At the root.
    Root,
    /// Under a path that Streamlit knows.
    Full,
    /// Under a path that Streamlit does not know.
    Stripped,
}

/// A Streamlit, and a gateway in front of it.
pub(crate) struct Pair {
    pub(crate) shape: Shape,
    pub(crate) gateway: Gateway,
    pub(crate) streamlit: Streamlit,
    _folder: tempfile::TempDir,
}

/// One of the two servers to which a request is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) address: SocketAddr,
    /// The prefix of the app's paths.
    pub(crate) base: &'a str,
}

impl Pair {
    pub(crate) fn start(generation: Generation, shape: Shape) -> Self {
        Self::with_settings(generation, shape, &[])
    }

    pub(crate) fn with_settings(
        generation: Generation,
        shape: Shape,
        settings: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/app.py");
        let base = if shape == Shape::Full { MOUNT } else { "" };
        let streamlit = Streamlit::start(
            &generation.executable(),
            &app,
            base,
            // In MB. The default of 200 would make the test of the limit slow.
            &["--server.maxUploadSize", "1"],
            folder.path(),
        )
        .unwrap_or_else(|error| panic!("{error}"));
        let upstream = streamlit.url();
        let mut all = vec![
            ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
            ("FLUXLIT_ROOT_PATH", shape.mount()),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
        ];
        all.extend(settings);
        let gateway = Gateway::start(&parts().gateway, None, all, folder.path())
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(
            gateway.wait_until_ready(shape.mount(), Duration::from_secs(60)),
            "{}",
            gateway.service.log()
        );
        Self {
            shape,
            gateway,
            streamlit,
            _folder: folder,
        }
    }

    /// Returns Streamlit itself.
    pub(crate) fn direct(&self) -> Server<'_> {
        Server {
            address: self.streamlit.address,
            base: &self.streamlit.base,
        }
    }

    /// Returns the gateway.
    pub(crate) fn through(&self) -> Server<'_> {
        Server {
            address: self.gateway.address,
            base: self.shape.mount(),
        }
    }
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Root, Self::Full, Self::Stripped];

    pub(crate) fn mount(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Full | Self::Stripped => MOUNT,
        }
    }
}

impl Generation {
    fn executable(self) -> PathBuf {
        match self {
            Self::Starlette => parts().streamlit,
            Self::Tornado => named("FLUXLIT_TEST_STREAMLIT_OLDER"),
        }
    }

    /// Returns the value for this generation.
    pub(crate) fn of<T>(self, starlette: T, tornado: T) -> T {
        match self {
            Self::Starlette => starlette,
            Self::Tornado => tornado,
        }
    }
}

/// The public host name.
pub(crate) const HOST: &str = "app.example.test";
