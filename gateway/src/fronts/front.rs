//! Names the programs that can be in front of the gateway.

/// A program that can be in front of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Apache httpd, 2.4.47 or later.
    Apache,
    /// Caddy 2.
    Caddy,
    /// Envoy with the filter.
    Envoy,
    /// Envoy Gateway with the filter.
    EnvoyGateway,
    /// HAProxy, 2.4 or later.
    Haproxy,
    /// An Istio ingress gateway with the filter.
    Istio,
    /// Kubernetes: the gateway as a Deployment, and an Ingress.
    Kubernetes,
    /// nginx, 1.18 or later.
    Nginx,
    /// Traefik 3.
    Traefik,
}

impl Front {
    /// Every front, by name.
    pub const ALL: [Self; 9] = [
        Self::Apache,
        Self::Caddy,
        Self::Envoy,
        Self::EnvoyGateway,
        Self::Haproxy,
        Self::Istio,
        Self::Kubernetes,
        Self::Nginx,
        Self::Traefik,
    ];

    /// Returns the name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apache => "apache",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::EnvoyGateway => "envoy-gateway",
            Self::Haproxy => "haproxy",
            Self::Istio => "istio",
            Self::Kubernetes => "kubernetes",
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
        }
    }
}
