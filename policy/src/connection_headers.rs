//! Lists the headers by which known proxies, clouds and servers tell an app the client's address, the scheme, the host or
//! the path.
//!
//! Whoever may write such a header chooses what the app believes, and the policy has its own headers for these facts, so
//! all others are removed. Products and frameworks document or read these names, in addition to `X-Forwarded-*`:
//!
//! | product | headers |
//! | --- | --- |
//! | [Akamai and Cloudflare][cf] | `True-Client-IP`, `CF-Connecting-IP`, `CF-Connecting-IPv6`, `CF-Pseudo-IPv4`, `CF-Visitor` |
//! | [Fastly][fastly] | `Fastly-Client-IP`, `Fastly-SSL` |
//! | [Amazon CloudFront][cloudfront] | `CloudFront-Viewer-Address`, `CloudFront-Forwarded-Proto` |
//! | [Azure Front Door][afd], [App Service][arr], [Static Web Apps][swa], AD FS | `X-Azure-ClientIP`, `X-Azure-SocketIP`, `X-ARR-SSL`, `Disguised-Host`, `X-MS-Original-URL`, `X-MS-Forwarded-Client-IP` |
//! | [App Engine][gae] and [its Go SDK][gaego] | `X-AppEngine-User-IP`, `X-AppEngine-Remote-Addr`, `X-AppEngine-HTTPS` |
//! | [Vercel][vercel], [Netlify][netlify], [Fly][fly], [DigitalOcean][do], Railway | `X-Vercel-Forwarded-For`, `X-Vercel-Proxied-For`, `X-NF-Client-Connection-IP`, `Fly-Client-IP`, `Fly-Forwarded-Proto`, `-Port`, `-SSL`, `DO-Connecting-IP`, `X-Envoy-External-Address` |
//! | [Imperva][imperva], [Sucuri][sucuri], StackPath, [Shopify Oxygen][oxygen] | `Incap-Client-IP`, `X-Sucuri-ClientIP`, `X-SP-Forwarded-IP`, `Oxygen-Buyer-IP` |
//! | [EdgeOne][edgeone], [Alibaba CDN][ali], CDNetworks, ArvanCloud | `EO-Client-IP`, `EO-Connecting-IP`, `Ali-CDN-Real-IP`, `Cdn-Src-IP`, `Cdn-Real-IP`, `AR-Real-IP` |
//! | [WebLogic and its plug-ins][wls], Oracle Access Manager | `Proxy-Client-IP`, `WL-Proxy-Client-IP`, `WL-Proxy-SSL`, `Is-SSL` |
//! | [SAP Web Dispatcher][sap] | `ClientProtocol` |
//! | [Jetty][jetty], [Undertow][undertow] | `X-Proxied-Https`, `Proxy-SSL-ID`, `Proxy-Auth-Cert`; `SSL-Cipher`, `SSL-Session-ID` |
//! | ISA Server and Exchange, [A10][pma], F5, Barracuda, Rackspace | `Front-End-Https`, `Https-From-LB`, `RLNClientIPAddr`, `Cuda-CLIIP`, `Cluster-Https`, `X-Cluster-Client-IP` |
//! | [ASP.NET Core][aspnet], IIS | `X-Original-For`, `-Proto`, `-Host`, `-Prefix`, `X-Original-URL`, `X-Rewrite-URL` |
//! | [ingress-nginx][ingress], nginx examples | `X-Real-IP`, `X-Original-Forwarded-For`, `X-Original-URI`, `-Method`, `-Scheme`, `X-Scheme`, `X-Script-Name` |
//! | [request-ip][requestip], [django-ipware][ipware] | `X-Client-IP`, `X-Forwarded`, `Forwarded-For` and names of CDNs |
//! | [phpMyAdmin][pma], [WordPress plug-ins][rsssl], Magento | `Scheme`, `Https`, `X-Proto`, `SSL-Offloaded`, `Coming-From`, `X-Coming-From` |
//! | Java applications that read the names of CGI variables | `HTTP_X_FORWARDED_FOR`, `HTTP_CLIENT_IP` and others |
//!
//! A list of names is never complete, so every name that ends like one of the common ones ([`ENDINGS`]) is in it too.
//!
//! [cf]: https://developers.cloudflare.com/fundamentals/reference/http-headers/
//! [fastly]: https://www.fastly.com/documentation/reference/http/http-headers/
//! [cloudfront]: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/adding-cloudfront-headers.html
//! [afd]: https://learn.microsoft.com/azure/frontdoor/front-door-http-headers-protocol
//! [arr]: https://learn.microsoft.com/azure/app-service/configure-language-nodejs
//! [swa]: https://learn.microsoft.com/azure/static-web-apps/
//! [gae]: https://cloud.google.com/appengine/docs/standard/reference/request-headers
//! [gaego]: https://github.com/golang/appengine
//! [vercel]: https://vercel.com/docs/headers/request-headers
//! [netlify]: https://docs.netlify.com/
//! [fly]: https://fly.io/docs/networking/request-headers/
//! [do]: https://docs.digitalocean.com/products/app-platform/
//! [imperva]: https://docs.imperva.com/
//! [sucuri]: https://docs.sucuri.net/
//! [oxygen]: https://shopify.dev/docs/storefronts/headless/hydrogen
//! [edgeone]: https://edgeone.ai/document/
//! [ali]: https://www.alibabacloud.com/help/en/cdn/
//! [wls]: https://docs.oracle.com/en-us/iaas/Content/Balance/Tasks/managingrulesets_topic-Creating_Rule_Sets.htm
//! [sap]: https://help.sap.com/doc/621bb4e3951b4a8ca633ca7ed1c0aba2/7.31.31/en-US/4868cfc977ef4e71e10000000a421937.html
//! [jetty]: https://github.com/jetty/jetty.project
//! [undertow]: https://github.com/undertow-io/undertow/blob/master/core/src/main/java/io/undertow/server/handlers/SSLHeaderHandler.java
//! [aspnet]: https://learn.microsoft.com/aspnet/core/host-and-deploy/proxy-load-balancer
//! [ingress]: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/
//! [requestip]: https://github.com/pbojinov/request-ip
//! [ipware]: https://github.com/un33k/django-ipware
//! [pma]: https://github.com/phpmyadmin/phpmyadmin
//! [rsssl]: https://wordpress.org/plugins/really-simple-ssl/

use crate::header::is_same_name;
use crate::header_group::HeaderGroup;
use crate::name_list::{NameList, Pairs};

/// Returns the group of a header that tells an app about the connection, and of every header that begins with
/// `X-Forwarded-`; `None` for any other header.
pub(crate) fn connection_group(name: &[u8]) -> Option<HeaderGroup> {
    let [.., last_but_one, last] = name else {
        return None;
    };
    let may_end = ENDS.contains(*last_but_one, *last);
    if !may_end && !NAMES.may_contain(name) {
        return None;
    }
    if let Some((start, rest)) = name.split_at_checked(FORWARDED.len())
        && is_same_name(FORWARDED, start)
    {
        return Some(forwarded_group(rest));
    }
    if let Some(place) = NAMES.find(name) {
        let (listed, group) = LISTED.get(place)?;
        let is_framing = FRAMING.contains(listed) && !name.contains(&b'_');
        return (!is_framing).then_some(*group);
    }
    if !may_end {
        return None;
    }
    let ending = ENDINGS.iter().find(|(ending, _)| {
        let start = name.len().checked_sub(ending.len());
        let end = start.and_then(|start| name.get(start..));
        end.is_some_and(|end| is_same_name(ending.as_bytes(), end))
    });
    ending.map(|(_, group)| *group)
}

/// Returns the names of the list. Each ending is represented by one name, and so are the names that begin with
/// `X-Forwarded-`, besides those that are in common use. The framing fields are left out: other servers could take one with
/// an underscore for the framing of the message.
pub(crate) fn connection_headers() -> impl Iterator<Item = String> {
    let listed = LISTED.iter().map(|(name, _)| *name);
    let listed = listed.filter(|name| !FRAMING.contains(name));
    let endings = ENDINGS.iter().map(|(ending, _)| format!("probe-{ending}"));
    let common = [
        "for",
        "host",
        "port",
        "prefix",
        "proto",
        "client-cert",
        "probe",
    ];
    let forwarded = common.into_iter().chain(FORWARDED_IDENTITY);
    let forwarded = forwarded.map(|rest| format!("x-forwarded-{rest}"));
    let known = [
        "true-client-ip",
        "cf-connecting-ip",
        "client-ip",
        "x-client-ip",
    ];
    let listed = listed.chain(known).map(str::to_owned);
    listed.chain(endings).chain(forwarded)
}

/// Returns the group of a header that begins with `X-Forwarded-`.
fn forwarded_group(rest: &[u8]) -> HeaderGroup {
    let is = |name: &&str| is_same_name(name.as_bytes(), rest);
    if is(&"client-cert") {
        HeaderGroup::ClientCertificate
    } else if FORWARDED_IDENTITY.iter().any(is) {
        HeaderGroup::Identity
    } else {
        HeaderGroup::Forwarding
    }
}

const FORWARDED: &[u8] = b"x-forwarded-";

/// The names after [`FORWARDED`] that identify the user.
const FORWARDED_IDENTITY: [&str; 7] = [
    "access-token",
    "email",
    "groups",
    "preferred-username",
    "tls-client-cert",
    "tls-client-cert-info",
    "user",
];

/// A CGI server turns both spellings into one variable, but only the one with a hyphen frames the message.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// How a name ends that tells the client's address, the scheme or the host, whatever it begins with.
const ENDINGS: [(&str, HeaderGroup); 15] = [
    ("client-ip", HeaderGroup::ClientAddress),
    ("clientip", HeaderGroup::ClientAddress),
    ("connecting-ip", HeaderGroup::ClientAddress),
    ("forwarded-for", HeaderGroup::ClientAddress),
    ("forwarded-ip", HeaderGroup::ClientAddress),
    ("proxied-for", HeaderGroup::ClientAddress),
    ("real-ip", HeaderGroup::ClientAddress),
    ("remote-addr", HeaderGroup::ClientAddress),
    ("remote-ip", HeaderGroup::ClientAddress),
    ("forwarded-proto", HeaderGroup::Scheme),
    ("forwarded-protocol", HeaderGroup::Scheme),
    ("forwarded-scheme", HeaderGroup::Scheme),
    ("forwarded-ssl", HeaderGroup::Scheme),
    ("forwarded-host", HeaderGroup::Host),
    ("forwarded-port", HeaderGroup::Host),
];

static ENDS: Pairs = Pairs::ends(&ENDINGS);

static NAMES: NameList<COUNT> = NameList::new(names());

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which has no iterators in constants"
)]
const fn names() -> [&'static str; COUNT] {
    let mut names = [""; COUNT];
    let mut index = 0;
    while index < COUNT {
        names[index] = LISTED[index].0;
        index += 1;
    }
    names
}

/// The number of entries in [`LISTED`].
const COUNT: usize = 63;

/// The names that do not end in a common way, sorted, in lower case and with hyphens.
const LISTED: [(&str, HeaderGroup); COUNT] = [
    ("cdn-src-ip", HeaderGroup::ClientAddress),
    ("cf-connecting-ipv6", HeaderGroup::ClientAddress),
    ("cf-pseudo-ipv4", HeaderGroup::ClientAddress),
    ("cf-visitor", HeaderGroup::Scheme),
    ("clientprotocol", HeaderGroup::Scheme),
    ("cloudfront-viewer-address", HeaderGroup::ClientAddress),
    ("cluster-https", HeaderGroup::Scheme),
    ("coming-from", HeaderGroup::ClientAddress),
    ("content-length", HeaderGroup::Cgi),
    ("cuda-cliip", HeaderGroup::ClientAddress),
    ("disguised-host", HeaderGroup::Host),
    ("fastly-ssl", HeaderGroup::Scheme),
    ("forwarded", HeaderGroup::Forwarding),
    ("front-end-https", HeaderGroup::Scheme),
    ("http-forwarded", HeaderGroup::ClientAddress),
    ("http-x-forwarded", HeaderGroup::ClientAddress),
    ("https", HeaderGroup::Scheme),
    ("https-from-lb", HeaderGroup::Scheme),
    ("is-ssl", HeaderGroup::Scheme),
    ("oxygen-buyer-ip", HeaderGroup::ClientAddress),
    ("path-info", HeaderGroup::Path),
    // A CGI server turns it into HTTP_PROXY, which client libraries obey (httpoxy).
    ("proxy", HeaderGroup::Cgi),
    ("proxy-auth-cert", HeaderGroup::Scheme),
    ("proxy-ssl-id", HeaderGroup::Scheme),
    ("rlnclientipaddr", HeaderGroup::ClientAddress),
    ("scheme", HeaderGroup::Scheme),
    ("script-name", HeaderGroup::Path),
    ("ssl-cipher", HeaderGroup::Scheme),
    ("ssl-offloaded", HeaderGroup::Scheme),
    ("ssl-session-id", HeaderGroup::Scheme),
    ("transfer-encoding", HeaderGroup::Cgi),
    ("wl-proxy-ssl", HeaderGroup::Scheme),
    ("x-appengine-https", HeaderGroup::Scheme),
    ("x-appengine-user-ip", HeaderGroup::ClientAddress),
    ("x-arr-ssl", HeaderGroup::Scheme),
    ("x-azure-socketip", HeaderGroup::ClientAddress),
    ("x-coming-from", HeaderGroup::ClientAddress),
    ("x-envoy-external-address", HeaderGroup::ClientAddress),
    ("x-envoy-original-path", HeaderGroup::Path),
    ("x-forwarded", HeaderGroup::ClientAddress),
    ("x-host", HeaderGroup::Host),
    ("x-http-host-override", HeaderGroup::Host),
    ("x-ingress-path", HeaderGroup::Path),
    ("x-ms-original-url", HeaderGroup::Path),
    ("x-nf-client-connection-ip", HeaderGroup::ClientAddress),
    ("x-original-for", HeaderGroup::ClientAddress),
    ("x-original-host", HeaderGroup::Host),
    ("x-original-method", HeaderGroup::Path),
    ("x-original-path", HeaderGroup::Path),
    ("x-original-prefix", HeaderGroup::Path),
    ("x-original-proto", HeaderGroup::Scheme),
    ("x-original-scheme", HeaderGroup::Scheme),
    ("x-original-uri", HeaderGroup::Path),
    ("x-original-url", HeaderGroup::Path),
    ("x-originating-ip", HeaderGroup::ClientAddress),
    ("x-proto", HeaderGroup::Scheme),
    ("x-proxied-https", HeaderGroup::Scheme),
    ("x-proxyuser-ip", HeaderGroup::ClientAddress),
    ("x-real-ip", HeaderGroup::Forwarding),
    ("x-rewrite-url", HeaderGroup::Path),
    ("x-scheme", HeaderGroup::Scheme),
    ("x-script-name", HeaderGroup::Path),
    ("x-url-scheme", HeaderGroup::Scheme),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        NAMES.check();
    }

    #[test]
    fn each_entry_and_ending_has_its_group_in_every_spelling() {
        let endings = ENDINGS.map(|(ending, group)| (format!("vendor-{ending}"), group));
        let listed = LISTED.map(|(name, group)| (name.to_owned(), group));
        for (name, group) in endings.into_iter().chain(listed) {
            if !FRAMING.contains(&name.as_str()) {
                assert_eq!(connection_group(name.as_bytes()), Some(group), "{name}");
            }
            if name.contains('-') {
                let twin = name.to_ascii_uppercase().replacen('-', "_", 1);
                assert_eq!(connection_group(twin.as_bytes()), Some(group), "{twin}");
            }
        }
    }

    #[test]
    fn names_of_clients_are_not_in_the_list() {
        for name in [
            "accept",
            "accept-encoding",
            "alt-used",
            "authorization",
            "cache-control",
            "connection",
            "content-length",
            "content-type",
            "cookie",
            "dnt",
            "expect",
            "forwarded-token",
            "http2-settings",
            "http-referer",
            "host",
            "if-modified-since",
            "if-none-match",
            "keep-alive",
            "origin",
            "priority",
            "proxy-authorization",
            "proxy-connection",
            "range",
            "referer",
            "save-data",
            "sec-ch-ua-platform",
            "sec-fetch-dest",
            "sec-gpc",
            "sec-websocket-protocol",
            "te",
            "traceparent",
            "transfer-encoding",
            "upgrade-insecure-requests",
            "user-agent",
            "via",
            "x-amzn-trace-id",
            "x-cloud-trace-context",
            "x-csrftoken",
            "x-request-id",
            "x-requested-with",
            "x-streamlit-user-agent",
            "x-xsrftoken",
        ] {
            assert_eq!(connection_group(name.as_bytes()), None, "{name}");
        }
    }
}
