//! Writes the page that shows the shapes and their checks.

use std::fmt::Write as _;

use fluxlit_system::published::Published;

use crate::login::{APACHE, Edit, NGINX};
use crate::shape::Shape;

/// The name of the check that only fronts with a login have.
pub(crate) const LOGIN: &str = "login";

/// Returns the whole page.
pub(crate) fn text() -> String {
    let mut page = INTRODUCTION.to_owned();
    let half = Shape::half();
    let checks = Published::CHECKS.map(|(check, _)| check).join(" | ");
    // Writing to a string cannot fail.
    let _ = writeln!(page, "| shape | {checks} | {LOGIN} | in CI |");
    let columns = Published::CHECKS.len() + 3;
    let _ = writeln!(page, "|{}", " --- |".repeat(columns));
    for shape in Shape::all() {
        let marks = "ok | ".repeat(Published::CHECKS.len());
        let login = if shape.front.has_login() { "ok" } else { "–" };
        let in_ci = if half.contains(&shape) { "yes" } else { "" };
        let _ = writeln!(page, "| {} | {marks}{login} | {in_ci} |", shape.name());
    }
    page.push_str(CHECKS);
    for (text, edits) in [(NGINX_LOGIN, &NGINX), (APACHE_LOGIN, &APACHE)] {
        page.push_str(text);
        for Edit { from, to } in edits {
            let _ = write!(
                page,
                "\nInstead of the first\n\n```text\n{}\n```\n\nwrite\n\n```text\n{}\n```\n",
                without_indentation(from),
                without_indentation(to)
            );
        }
    }
    page
}

/// Removes the indentation that all lines have.
fn without_indentation(text: &str) -> String {
    let lines = || text.trim_matches('\n').lines().map(str::trim_end);
    let indentation = lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or_default();
    let shorter = lines().map(|line| line.get(indentation..).unwrap_or_default());
    shorter.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

const INTRODUCTION: &str = "# Shapes that are tested

Each row is a front with the configuration that `fluxlit-gateway config --for` prints, the form of the app's path, and http
or https. The app of [deploy/images/app](../deploy/images/app), FastAPI and Streamlit, runs behind it and the gateway. Every
program is the real one. Over https, the client verifies the certificate.

```sh
cargo xtask smoke                    # every shape; prints this table
cargo xtask smoke caddy https        # those with both words in their names
cargo xtask test smoke               # the shapes in the last column, as in CI
```

A check that fails is shown in the table as `FAILED`, and described below it. `FLUXLIT_WRITE=1 cargo xtask test smoke`
writes this page.

| word | the form of the path |
| --- | --- |
| `strip-prefix` | `/myapp`, which the front removes |
| `full-path` | `/myapp`, which the gateway removes |
| `root` | the root of the host |
| `apps` | `/apps/my-app`, which the gateway removes |

`varnish` is [envoy/fronts/varnish.vcl](../envoy/fronts/varnish.vcl), over https with nginx in front of it. The two fronts
with a login are [below](#behind-a-login).

";

const CHECKS: &str = "
| check | what must be so |
| --- | --- |
| health | `/api/healthz` says that the gateway is alive |
| readiness | `/api/readyz` says that Streamlit and the API are ready |
| page | the page of the app |
| WebSocket | the app's own page opens a WebSocket and gets the first message of Streamlit; a page of another site gets 403 |
| upload | 2 MB reach the API |
| request id | an `X-Request-ID` reaches the API and is returned; Envoy replaces that of a client by its own, unless the connection manager has `preserve_external_request_id` |
| 413 | a body that is too large is rejected before it is sent |
| forged headers | `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and headers that name a user do not arrive, also with underscores in their names; the true address and scheme do |
| Location, cookie | a redirect and a cookie of the API stay below the path of the app |
| HSTS | each response over https has Strict-Transport-Security once, and none over http; http is redirected to https |
| login | without a login, no request reaches the app; with one, the app learns the user from the login alone; a client that reaches the gateway itself cannot name a user |
";

const NGINX_LOGIN: &str = "
## Behind a login

The front logs users in and tells the app who they are, in a header that the gateway accepts from this front only. List the
header in `FLUXLIT_TRUSTED_PASS_HEADERS`, print the configuration, and change it as below. The rest of a changed line stays
as it is.

### nginx with auth_request

`FLUXLIT_TRUSTED_PASS_HEADERS=X-Auth-Email`. `LOGIN_SERVICE` is the address of a login service, such as OAuth2 Proxy: it
responds to the request's cookies with 2xx and the user in `X-Auth-Email`, or with 401.
";

const APACHE_LOGIN: &str = "
### Apache with OpenID Connect

`FLUXLIT_TRUSTED_PASS_HEADERS=OIDC_CLAIM_email`: the module `mod_auth_openidc` (Debian: `libapache2-mod-auth-openidc`) sets
headers with underscores. `PROVIDER` is the address of the OpenID provider. Use https for it, unless it is on the same
machine, and read both secrets from a file with `OIDCClientSecret \"exec:...\"`.
";
