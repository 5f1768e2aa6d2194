//! Names the servers to which the gateway forwards requests, with their labels in metrics and logs.

/// A server to which the gateway forwards requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    Streamlit,
    Api,
}

impl Upstream {
    pub(super) const ALL: [Self; 2] = [Self::Streamlit, Self::Api];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Streamlit => "streamlit",
            Self::Api => "api",
        }
    }
}
