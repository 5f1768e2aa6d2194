//! Puts a login into the printed configuration of a front, logs in, and checks that only the login names the user.

use std::net::SocketAddr;
use std::path::Path;

use fluxlit_support::client::{connect, exchange};
use fluxlit_support::http1::Response;
use fluxlit_system::published::{Published, expect};
use fluxlit_system::visitor::Visitor;

use crate::parts::{LOGIN_COOKIE, Parts, SUBJECT, USER};
use crate::shape::Front;

/// A text that occurs once in a printed configuration, and what it becomes.
pub(crate) struct Edit {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// Asks a login service about each request; `LOGIN_SERVICE` is its address.
pub(crate) const NGINX: [Edit; 3] = [
    Edit {
        from: "            proxy_redirect off;\n",
        to: "            proxy_redirect off;
            auth_request /login-check;
            auth_request_set $email $upstream_http_x_auth_email;
",
    },
    Edit {
        from: "            proxy_set_header X-Auth-Email \"\";\n",
        to: "            proxy_set_header X-Auth-Email $email;\n",
    },
    Edit {
        from: "        location / {\n",
        to: "        location = /login-check {
            internal;
            proxy_pass http://LOGIN_SERVICE;
            proxy_pass_request_body off;
            proxy_set_header Content-Length \"\";
            proxy_set_header Connection \"\";
            proxy_set_header Upgrade \"\";
        }

        location / {
",
    },
];

/// Makes Apache a client of an OpenID provider, whose address is `PROVIDER`. `early` removes what the client sends before
/// the module sets the header.
pub(crate) const APACHE: [Edit; 3] = [
    Edit {
        from: "    RequestHeader unset OIDC_CLAIM_email\n",
        to: "    RequestHeader unset OIDC_CLAIM_email early\n",
    },
    Edit {
        from: "\nListen ",
        to: "
LoadModule authn_core_module ${FLUXLIT_MODULES}/mod_authn_core.so
LoadModule authz_user_module ${FLUXLIT_MODULES}/mod_authz_user.so
LoadModule auth_openidc_module ${FLUXLIT_MODULES}/mod_auth_openidc.so
Listen ",
    },
    Edit {
        from: "    ProxyPass \"/apps/my-app\" ",
        to: "    OIDCProviderMetadataURL http://PROVIDER/.well-known/openid-configuration
    OIDCClientID edge
    OIDCClientSecret a-secret-of-this-client
    OIDCCryptoPassphrase a-passphrase-for-cookies
    OIDCScope \"openid email\"
    OIDCRedirectURI https://portal.example.com/apps/my-app/login/callback
    OIDCCookiePath /apps/my-app
    <Location /apps/my-app>
        AuthType openid-connect
        Require valid-user
    </Location>
    ProxyPass \"/apps/my-app/login/callback\" \"!\"
    ProxyPass \"/apps/my-app\" ",
    },
];

/// Adds the login to a printed file.
pub(crate) fn add_to(file: &Path, front: Front, parts: &Parts) -> Result<(), String> {
    let (edits, name, address) = match front {
        Front::NginxLogin => (&NGINX, "LOGIN_SERVICE", parts.login_service()),
        Front::ApacheLogin => (&APACHE, "PROVIDER", parts.provider()),
        Front::Printed(_) | Front::Varnish => return Ok(()),
    };
    let mut text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    for Edit { from, to } in edits {
        // The second `Listen` is the one that redirects to https.
        if !text.contains(from) {
            return Err(format!("{from:?} is not in\n{text}"));
        }
        text = text.replacen(from, &to.replace(name, &address.to_string()), 1);
    }
    std::fs::write(file, text).map_err(|error| error.to_string())
}

/// Logs in as a browser does; returns the cookie.
pub(crate) fn log_in(
    front: Front,
    visitor: &Visitor,
    mount: &str,
    provider: impl Fn() -> SocketAddr,
) -> Result<Option<String>, String> {
    match front {
        Front::NginxLogin => Ok(Some(LOGIN_COOKIE.to_owned())),
        Front::ApacheLogin => at_the_provider(visitor, mount, provider()).map(Some),
        Front::Printed(_) | Front::Varnish => Ok(None),
    }
}

/// Follows the redirects from the app to the provider and back.
fn at_the_provider(visitor: &Visitor, mount: &str, provider: SocketAddr) -> Result<String, String> {
    let get = |visitor: &Visitor, path: &str| {
        // The module redirects only what asks for a page.
        let response = visitor.get(path, "Accept: text/html\r\n");
        response.map_err(|error| error.to_string())
    };
    let sent_away = get(visitor, &format!("{mount}/"))?;
    let authorize = path_of(&sent_away, &format!("http://{provider}"))?;
    let form = format!("sub={SUBJECT}");
    let request = format!(
        "POST {authorize} HTTP/1.1\r\nHost: {provider}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
        form.len()
    );
    let authorized = connect(provider)
        .and_then(|mut connection| exchange(&mut connection, request.as_bytes(), "POST"))
        .map_err(|error| error.to_string())?;
    let callback = path_of(&authorized, &format!("https://{}", visitor.host))?;
    let returning = Visitor {
        cookie: Some(cookies(&sent_away)),
        ..visitor.clone()
    };
    let back = get(&returning, &callback)?;
    path_of(&back, &format!("https://{}", visitor.host))?;
    Ok(cookies(&back))
}

/// Returns what follows the origin in a redirect.
fn path_of(response: &Response, origin: &str) -> Result<String, String> {
    let location = response.values("location").concat();
    let path = location.strip_prefix(origin);
    expect(response.status == 302 && path.is_some(), response)?;
    Ok(path.unwrap_or_default().to_owned())
}

/// Returns the cookies that a response sets, as a browser sends them.
fn cookies(response: &Response) -> String {
    let cookies = response.values("set-cookie");
    let pairs = cookies
        .iter()
        .map(|cookie| cookie.split(';').next().unwrap_or_default());
    pairs.collect::<Vec<_>>().join("; ")
}

/// Without a login nothing reaches the app, with one the app learns the user from it alone, and a client that reaches the
/// gateway without the front cannot name a user.
pub(crate) fn check(
    published: &Published,
    front: Front,
    gateway: SocketAddr,
) -> Result<(), String> {
    let header = match front {
        Front::NginxLogin => "X-Auth-Email",
        Front::ApacheLogin => "OIDC_CLAIM_email",
        Front::Printed(_) | Front::Varnish => return Err("this front has no login".to_owned()),
    };
    let path = published.path("/api/received");
    let forged = format!("{header}: {FORGED}\r\n");
    let stranger = Visitor {
        cookie: None,
        ..published.visitor.clone()
    };
    let response = stranger
        .get(&path, &forged)
        .map_err(|error| error.to_string())?;
    expect(response.status == 401, &response)?;

    let known = published.get("/api/received", &forged)?;
    let text = known.text();
    let expected = format!(r#"["{}","{USER}"]"#, header.to_ascii_lowercase());
    let is_named_once = text.matches(&expected).count() == 1 && !text.contains(FORGED);
    expect(known.status == 200 && is_named_once, &known)?;

    // Its address is not the front's.
    let past = Visitor {
        front: gateway,
        trusted: None,
        ..stranger
    };
    let response = past
        .get(&path, &forged)
        .map_err(|error| error.to_string())?;
    let is_unnamed = response.status == 200 && !response.text().contains(FORGED);
    expect(is_unnamed, &response)
}

/// The user that a client claims to be.
const FORGED: &str = "root@forged.example";
