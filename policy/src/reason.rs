//! Lists the reasons for which the policy replies to a request itself instead of forwarding it.

/// Declares [`Reason`] as a table, so that a reason cannot lack its status, its label or its text.
macro_rules! reasons {
    ($($(#[$attribute:meta])* $variant:ident: $status:literal, $label:tt, $text:literal;)+) => {
        /// Why the policy replies to a request itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Reason {
            $($(#[$attribute])* #[serde(rename = $label)] $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the label of this reason in logs and metrics.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// Returns a sentence for the body of the response. It reveals nothing that the client did not send.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Returns the status of the response, for HTTP/1.1 and later.
            pub(crate) fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)+
                }
            }
        }
    };
}

reasons! {
    /// The path is the mount without its trailing slash.
    BareMount: 308, "bare_mount", "The app is published at this path with a trailing slash.";
    /// The `Host` field or the target's authority is invalid, RFC 9112 §3.2.
    BadHost: 400, "bad_host", "The Host of this request is not a valid host name.";
    /// The path contains a backslash.
    Backslash: 400, "backslash", "The path contains a backslash.";
    /// The path contains an escaped control octet.
    ControlEscape: 400, "control_escape", "The path contains an escaped control character.";
    /// The path contains a `.` or `..` segment, escaped or not.
    DotSegment: 400, "dot_segment", "The path contains a dot segment.";
    /// The request target is neither a path nor an `http` URL.
    TargetForm: 400, "target_form", "The request target is not a path.";
    /// The path contains a `%` that is not followed by two hex digits.
    BrokenEscape: 400, "broken_escape", "The path contains a broken escape.";
    /// The request target contains a `#`.
    Fragment: 400, "fragment", "The request target contains a fragment.";
    /// The request target contains an octet that is not visible ASCII.
    BadOctet: 400, "octet", "The request target contains an octet that is not visible ASCII.";
    /// The effective host is not in `allowed_hosts`.
    HostNotAllowed: 421, "host_not_allowed", "This server does not serve this host.";
    /// The method is CONNECT.
    MethodNotAllowed: 405, "method_not_allowed", "CONNECT is not allowed here.";
    /// The path is outside every mount.
    OutsideMount: 404, "outside_mount", "No app is published at this path.";
    /// The request came over http, but only https is served.
    PlainHttp: 308, "plain_http", "This app is served over https.";
    /// The gRPC request came over http, but only https is served. gRPC clients read this status as `UNAVAILABLE`.
    PlainGrpc: 503, "plain_grpc", "This app is served over https.";
    /// The WebSocket handshake came over http, but only https is served.
    PlainWebSocket: 403, "plain_websocket", "This app is served over https.";
    /// The request target is longer than 8 KiB.
    TargetTooLong: 414, "target_too_long", "The request target is too long.";
}
