//! Lists the headers by which known proxies, clouds and meshes tell an app who the user is.
//!
//! Whoever may write such a header chooses the user, so it is removed unless a trusted peer sent it and the operator
//! lists it. The list covers the names that these products document:
//!
//! | product | headers |
//! | --- | --- |
//! | [Azure App Service and Container Apps][easyauth], [their client certificates][arr] | `X-MS-Client-Principal`, `X-MS-Client-Principal-*`, `X-MS-Token-*`, `X-ARR-ClientCert` |
//! | [IIS and ASP.NET Core Module][iis] | `MS-ASPNETCORE-*`, `X-IIS-WindowsAuthToken` |
//! | [Google IAP][iap], [Endpoints and API Gateway][espv2], [App Engine][gae], [inverting proxy][invp] | `X-Goog-Authenticated-User-*`, `X-Goog-IAP-*`, `X-Endpoint-API-*`, `X-Apigateway-API-*`, `X-AppEngine-User-*`, `X-AppEngine-Auth-Domain`, `X-AppEngine-Inbound-AppId`, `X-AppEngine-Cron`, `X-AppEngine-QueueName`, `X-Inverting-Proxy-*` |
//! | [AWS ALB][alb], [its mutual TLS][albmtls], [Verified Access][ava], [VPC Lattice][lattice], [Lambda Web Adapter][lwa], [CloudFront][cfmtls] | `X-Amzn-OIDC-*`, `X-Amzn-mTLS-*`, `X-Amzn-Ava-*`, `X-Amzn-Lattice-Identity`, `X-Amzn-Request-Context`, `CloudFront-Viewer-Cert-*` |
//! | [Cloudflare Access][cfaccess], [its client certificates][cfcert] | `Cf-Access-*`, `Cf-Cert-*`, `Cf-Client-Cert-*` |
//! | [Oracle Access Manager][oam], [App Gateway][idcs], WebLogic | `OAM-*`, `Osso-*`, `IDCS-*`, `Proxy-Remote-User`, `WL-Proxy-Client-Cert` |
//! | [IBM Verify Access][webseal], WebSphere plug-in | `IV-*`, `$WS*` |
//! | [SiteMinder][sm] | `SM_*` |
//! | [Tailscale][tailscale] | `Tailscale-*` |
//! | [ngrok][ngrok] | `Ngrok-Auth-*`, `Ngrok-OAuth-*`, `Ngrok-mTLS-*` |
//! | [Teleport][teleport] | `Teleport-*` |
//! | [Pomerium][pomerium] | `X-Pomerium-*` |
//! | [Authelia][authelia], Tinyauth, Pangolin, Cloudera | `Remote-*` |
//! | [authentik][authentik] | `X-Authentik-*` |
//! | [oauth2-proxy][o2p] | `X-Auth-Request-*`, `X-Forwarded-User`, `-Email`, `-Groups`, `-Preferred-Username`, `-Access-Token`, `GAP-Auth`, `GAP-Signature` |
//! | [Databricks Apps][dbx] | `X-Forwarded-User`, `-Email`, `-Preferred-Username`, `-Access-Token` |
//! | [Louketo (Keycloak Gatekeeper)][louketo], [Posit Connect][connectproxy], Traefik examples | `X-Auth-*` |
//! | [Vouch][vouch] | `X-Vouch-*` |
//! | [Ory Oathkeeper][ory], lua-resty-openidc and other examples | `X-User`, `X-User-ID`, `X-User-Name`, `X-User-Email`, `X-User-Groups`, `X-User-Roles`, `X-Username`, `X-UserID`, `X-Email` |
//! | [Kong][kong] | `X-Consumer-*`, `X-Credential-*`, `X-Authenticated-*`, `X-Anonymous-Consumer` |
//! | [APISIX][apisix], Kong OIDC | `X-Userinfo`, `X-ID-Token` |
//! | [WSO2][wso2], [Istio and Envoy examples][istio] | `X-JWT-Assertion`, `X-JWT-Payload`, `X-JWT-Claim-*`, `Sec-Istio-Auth-Userinfo` |
//! | [Linkerd][l5d], [Dapr][dapr] | `L5d-Client-Id`, `Dapr-Caller-*` |
//! | [Grafana][grafana] and Caddy with Tailscale | `X-WebAuth-*` |
//! | [OpenSearch][opensearch], [NiFi][nifi], [Apache Knox][knox] | `X-Proxy-User`, `X-Proxy-Roles`, `X-ProxiedEntitiesChain`, `X-Knox-Actor-*` |
//! | [Kubernetes front proxy][k8sfront], [impersonation][k8simp] | `X-Remote-*`, `Impersonate-*` |
//! | [Red Hat][rh], [Kubeflow][kubeflow], [Sandstorm][sandstorm] | `X-RH-Identity`, `Kubeflow-*`, `X-Sandstorm-*` |
//! | [Shibboleth][shib] | `Shib-*`, and attributes of its default map: `Affiliation`, `Assurance`, `Entitlement`, `EPPN`, `Pairwise-Id`, `Persistent-Id`, `Subject-Id`, `Targeted-Id`, `Unscoped-Affiliation` |
//! | [mod_auth_openidc][oidc] | `OIDC_*` |
//! | [mod_auth_cas][cas] | `CAS-*` |
//! | [LemonLDAP::NG][llng], [YunoHost][ynh] | `Auth-User`, `Auth-Mail`, `Auth-Groups`, `Auth-CN`, `YNH-User`, `YNH-User-*` |
//! | [caddy-security][caddysec] | `X-Token-Subject`, `X-Token-User-*` |
//! | [Logto][logto] | `Logto-ID-Token` |
//! | [Posit Connect and Workbench, Shiny Server][posit] | `RStudio-Connect-*`, `Posit-Connect-*`, `X-RStudio-*`, `Shiny-Server-Credentials` |
//! | [Snowflake][spcs] | `Sf-Context-*` |
//! | [Hugging Face][hf], [Replit][replit], [Domino][domino], [Dash Enterprise][dash] | `X-IP-Token`, `X-Replit-User-*`, `Domino-*`, `X-Domino-*`, `Plotly-User-Data` |
//! | Streamlit, up to 1.4x on its own cloud | `X-Streamlit-User` |
//! | [JupyterHub's Streamlit proxy][jhsingle] | `X-CDSDashboards-*` |
//! | [RFC 9440][rfc9440] | `Client-Cert`, `Client-Cert-Chain` |
//! | [ingress-nginx][ingress], Apache, Tomcat, [Keycloak][kccert] | `SSL-Client-*`, `SSL-Cert`, `Cert-Chain-*` |
//! | [HAProxy][haproxy], nginx examples | `X-SSL-*` |
//! | [Google load balancers][glbmtls], Apigee, Kong | `X-Client-Cert`, `X-Client-Cert-*`, `X-Client-Certificate`, `X-Client-DN`, `X-Client-Verify`, `X-Client-Verified` |
//! | F5 examples | `SSLClientCert*` |
//! | [Traefik][traefik] | `X-Forwarded-TLS-Client-Cert`, `X-Forwarded-TLS-Client-Cert-Info` |
//!
//! Products that let the administrator choose the names, such as the Microsoft Entra application proxy, F5, Akamai and
//! PingAccess, cannot be listed: `identity_headers` and `trusted_pass_headers` take their names.
//!
//! Not in the list, although a proxy may send it:
//!
//! - `Authorization`, `Cookie`, `X-API-Key`, `X-Access-Token`, `X-Auth-Token`, `X-Auth-Key` and the other names in
//!   [`CREDENTIALS`]: credentials that clients send themselves, and that the app verifies;
//! - `X-Envoy-Peer-Metadata`, `L5d-Dst-Override` and other headers that a mesh exchanges between its own proxies; Envoy's
//!   metadata exchange would lose them;
//! - `X-Forwarded-Client-Cert`, which has a group of its own, because Envoy sanitizes it.
//!
//! [easyauth]: https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
//! [arr]: https://learn.microsoft.com/azure/app-service/app-service-web-configure-tls-mutual-auth
//! [iis]: https://learn.microsoft.com/aspnet/core/host-and-deploy/iis/web-config
//! [iap]: https://cloud.google.com/iap/docs/identity-howto
//! [espv2]: https://cloud.google.com/endpoints/docs/openapi/migrate-to-esp-v2
//! [gae]: https://cloud.google.com/appengine/docs/standard/reference/request-headers
//! [invp]: https://github.com/google/inverting-proxy
//! [alb]: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html
//! [albmtls]: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/mutual-authentication.html
//! [ava]: https://docs.aws.amazon.com/verified-access/latest/ug/user-claims-passing.html
//! [lattice]: https://docs.aws.amazon.com/vpc-lattice/latest/ug/http-headers.html
//! [lwa]: https://github.com/awslabs/aws-lambda-web-adapter
//! [cfmtls]: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/viewer-mtls-headers.html
//! [cfaccess]: https://developers.cloudflare.com/cloudflare-one/identity/authorization-cookie/validating-json/
//! [cfcert]: https://developers.cloudflare.com/ssl/client-certificates/forward-a-client-certificate/
//! [oam]: https://docs.oracle.com/en/middleware/idm/access-manager/
//! [idcs]: https://docs.oracle.com/en/cloud/paas/identity-cloud/uaids/
//! [webseal]: https://www.ibm.com/docs/en/sva
//! [sm]: https://techdocs.broadcom.com/us/en/symantec-security-software/identity-security/siteminder.html
//! [tailscale]: https://tailscale.com/kb/1312/serve
//! [ngrok]: https://ngrok.com/docs/http/oauth/
//! [teleport]: https://goteleport.com/docs/enroll-resources/application-access/jwt/introduction/
//! [pomerium]: https://www.pomerium.com/docs/reference/jwt-claim-headers
//! [authelia]: https://www.authelia.com/integration/trusted-header-sso/introduction/
//! [authentik]: https://docs.goauthentik.io/add-secure-apps/providers/proxy/
//! [o2p]: https://oauth2-proxy.github.io/oauth2-proxy/configuration/overview
//! [dbx]: https://docs.databricks.com/aws/en/dev-tools/databricks-apps/http-headers
//! [louketo]: https://github.com/louketo/louketo-proxy/blob/master/docs/user-guide.md
//! [connectproxy]: https://docs.posit.co/connect/admin/authentication/proxied/
//! [vouch]: https://github.com/vouch/vouch-proxy
//! [ory]: https://www.ory.sh/docs/oathkeeper/pipeline/mutator
//! [kong]: https://developer.konghq.com/plugins/key-auth/
//! [apisix]: https://apisix.apache.org/docs/apisix/plugins/openid-connect/
//! [wso2]: https://apim.docs.wso2.com/en/latest/
//! [istio]: https://istio.io/latest/docs/tasks/security/authentication/claim-to-header/
//! [l5d]: https://linkerd.io/2/reference/
//! [dapr]: https://docs.dapr.io/developing-applications/building-blocks/service-invocation/
//! [grafana]: https://grafana.com/docs/grafana/latest/setup-grafana/configure-security/configure-authentication/auth-proxy/
//! [opensearch]: https://docs.opensearch.org/latest/security/authentication-backends/proxy/
//! [nifi]: https://nifi.apache.org/docs/nifi-docs/html/administration-guide.html
//! [knox]: https://knox.apache.org/
//! [k8sfront]: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
//! [k8simp]: https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/
//! [rh]: https://github.com/RedHatInsights/identity-schemas
//! [kubeflow]: https://www.kubeflow.org/docs/components/central-dash/profiles/
//! [sandstorm]: https://docs.sandstorm.io/en/latest/developing/auth/
//! [shib]: https://shibboleth.atlassian.net/wiki/spaces/SP3/pages/2065335257/AttributeAccess
//! [oidc]: https://github.com/OpenIDC/mod_auth_openidc/blob/master/auth_openidc.conf
//! [cas]: https://github.com/apereo/mod_auth_cas
//! [llng]: https://lemonldap-ng.org/documentation/latest/writingrulesand_headers.html
//! [ynh]: https://doc.yunohost.org/
//! [caddysec]: https://docs.authcrunch.com/
//! [logto]: https://docs.logto.io/integrate-logto/protected-app
//! [posit]: https://docs.posit.co/connect/user/
//! [spcs]: https://docs.snowflake.com/en/developer-guide/snowpark-container-services/additional-considerations-services-jobs
//! [hf]: https://www.gradio.app/docs/python-client/using-zero-gpu-spaces
//! [replit]: https://docs.replit.com/
//! [domino]: https://docs.dominodatalab.com/
//! [dash]: https://dash.plotly.com/dash-enterprise/
//! [jhsingle]: https://github.com/ideonate/jhsingle-native-proxy
//! [rfc9440]: https://www.rfc-editor.org/rfc/rfc9440
//! [ingress]: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/
//! [kccert]: https://www.keycloak.org/server/reverseproxy
//! [haproxy]: https://docs.haproxy.org/
//! [glbmtls]: https://cloud.google.com/load-balancing/docs/https/custom-headers
//! [traefik]: https://doc.traefik.io/traefik/middlewares/http/passtlsclientcert/

/// Returns true for a name of the list. `folded`: the name in lower case and with hyphens for underscores, or its first
/// [`LONGEST`] octets. `whole`: whether it is the entire name.
pub(crate) fn is_identity_header(folded: &[u8], whole: bool) -> bool {
    if whole && contains(&NAMES, folded) {
        return true;
    }
    // No family is the beginning of another one, so only the last one that does not come after the name can match.
    let after = FAMILIES.partition_point(|family| family.as_bytes() <= folded);
    let family = after.checked_sub(1).and_then(|last| FAMILIES.get(last));
    family.is_some_and(|family| folded.starts_with(family.as_bytes()))
        && !(whole && contains(&CREDENTIALS, folded))
}

fn contains(sorted: &[&str], folded: &[u8]) -> bool {
    sorted
        .binary_search_by(|name| name.as_bytes().cmp(folded))
        .is_ok()
}

/// Returns true if a name of the list may begin with these two octets, in lower case and with hyphens for underscores.
/// This rules out most names of a request.
pub(crate) fn may_be_identity_header(first: u8, second: u8) -> bool {
    matches!(
        (first, second),
        (b'x', b'-')
            | (b'a', b'f' | b's' | b'u')
            | (b'c', b'a' | b'e' | b'f' | b'l')
            | (b'd', b'a' | b'o')
            | (b'e', b'n' | b'p')
            | (b'g', b'a')
            | (b'i', b'd' | b'm' | b'v')
            | (b'k', b'u')
            | (b'l', b'5' | b'o')
            | (b'm', b's')
            | (b'n', b'g')
            | (b'o', b'a' | b'i' | b's')
            | (b'p', b'a' | b'e' | b'l' | b'o' | b'r')
            | (b'r', b'e' | b's')
            | (b's', b'e' | b'f' | b'h' | b'm' | b's' | b'u')
            | (b't', b'a' | b'e')
            | (b'u', b'n')
            | (b'w', b'l')
            | (b'y', b'n')
            | (b'$', b'w')
    )
}

/// Whole names, sorted.
const NAMES: [&str; 68] = [
    "affiliation",
    "assurance",
    "auth-cn",
    "auth-groups",
    "auth-mail",
    "auth-user",
    "cert-chain",
    "client-cert",
    "client-cert-chain",
    "entitlement",
    "eppn",
    "gap-auth",
    "gap-signature",
    "l5d-client-id",
    "logto-id-token",
    "pairwise-id",
    "persistent-id",
    "plotly-user-data",
    "proxy-remote-user",
    "sec-istio-auth-userinfo",
    "shiny-server-credentials",
    "ssl-cert",
    "subject-id",
    "targeted-id",
    "unscoped-affiliation",
    "wl-proxy-client-cert",
    "x-amzn-lattice-identity",
    "x-amzn-request-context",
    "x-anonymous-consumer",
    "x-appengine-auth-domain",
    "x-appengine-cron",
    "x-appengine-inbound-appid",
    "x-appengine-queuename",
    "x-arr-clientcert",
    "x-client-cert",
    "x-client-certificate",
    "x-client-dn",
    "x-client-verified",
    "x-client-verify",
    "x-email",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-forwarded-user",
    "x-id-token",
    "x-iis-windowsauthtoken",
    "x-ip-token",
    "x-jwt-assertion",
    "x-jwt-payload",
    "x-ms-client-principal",
    "x-proxiedentitieschain",
    "x-proxy-roles",
    "x-proxy-user",
    "x-rh-identity",
    "x-streamlit-user",
    "x-token-subject",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userid",
    "x-userinfo",
    "x-username",
];

/// Beginnings of names, sorted. None is the beginning of another one.
const FAMILIES: [&str; 61] = [
    "$ws",
    "cas-",
    "cert-chain-",
    "cf-access-",
    "cf-cert-",
    "cf-client-cert-",
    "cloudfront-viewer-cert-",
    "dapr-caller-",
    "domino-",
    "idcs-",
    "impersonate-",
    "iv-",
    "kubeflow-",
    "ms-aspnetcore-",
    "ngrok-auth-",
    "ngrok-mtls-",
    "ngrok-oauth-",
    "oam-",
    "oidc-",
    "osso-",
    "posit-connect-",
    "remote-",
    "rstudio-connect-",
    "sf-context-",
    "shib-",
    "sm-",
    "ssl-client-",
    "sslclientcert",
    "tailscale-",
    "teleport-",
    "x-amzn-ava-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-apigateway-api-",
    "x-appengine-user-",
    "x-auth-",
    "x-authenticated-",
    "x-authentik-",
    "x-cdsdashboards-",
    "x-client-cert-",
    "x-consumer-",
    "x-credential-",
    "x-domino-",
    "x-endpoint-api-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-inverting-proxy-",
    "x-jwt-claim-",
    "x-knox-actor-",
    "x-ms-client-principal-",
    "x-ms-token-",
    "x-pomerium-",
    "x-remote-",
    "x-replit-user-",
    "x-rstudio-",
    "x-sandstorm-",
    "x-ssl-",
    "x-token-user-",
    "x-vouch-",
    "x-webauth-",
    "ynh-user",
];

/// Names of these families that clients use for credentials of their own, sorted.
const CREDENTIALS: [&str; 6] = [
    "x-auth-key",
    "x-auth-nonce",
    "x-auth-signature",
    "x-auth-timestamp",
    "x-auth-token",
    "x-domino-api-key",
];

/// The length of the longest name and of the longest family.
pub(crate) const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_listed(name: &str) -> bool {
        let folded = name.to_ascii_lowercase().replace('_', "-");
        let folded = folded.as_bytes();
        let start = folded.get(..LONGEST).unwrap_or(folded);
        is_identity_header(start, start.len() == folded.len())
    }

    #[test]
    fn the_lists_can_be_searched() {
        for list in [&NAMES[..], &FAMILIES, &CREDENTIALS] {
            assert!(list.is_sorted_by(|one, other| one < other));
            for name in list {
                assert!((2..=LONGEST).contains(&name.len()), "{name}");
                assert_eq!(**name, name.to_ascii_lowercase().replace('_', "-"));
                let [first, second, ..] = name.as_bytes() else {
                    panic!("{name} is too short");
                };
                assert!(may_be_identity_header(*first, *second), "{name}");
            }
        }
        for family in FAMILIES {
            for other in FAMILIES.iter().chain(&NAMES) {
                assert!(*other == family || !other.starts_with(family), "{other}");
            }
        }
        assert!(
            NAMES
                .iter()
                .chain(&FAMILIES)
                .any(|name| name.len() == LONGEST)
        );
    }

    #[test]
    fn names_that_products_send() {
        for name in [
            "X-MS-CLIENT-PRINCIPAL",
            "X-MS-CLIENT-PRINCIPAL-NAME",
            "X-MS-TOKEN-AAD-ACCESS-TOKEN",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-IAP-JWT-Assertion",
            "X-Amzn-Oidc-Data",
            "X-Amzn-Mtls-Clientcert-Leaf",
            "Cf-Access-Authenticated-User-Email",
            "Tailscale-User-Login",
            "X-Pomerium-Claim-Email",
            "Remote-Groups",
            "X-authentik-meta-jwks",
            "X-Auth-Username",
            "X-Vouch-IdP-Claims-Family-Name-And-More-Than-That",
            "Teleport-Jwt-Assertion",
            "X-User",
            "X-Consumer-Custom-Id",
            "X-WEBAUTH-USER",
            "RStudio-Connect-Credentials",
            "Sf-Context-Current-User",
            "OIDC_CLAIM_email",
            "SM_USER",
            "iv-groups",
            "Client-Cert",
            "Client-Cert-Chain",
            "X-Remote-Extra-Scopes",
            "Impersonate-Extra-Scopes",
            "$WSRU",
            "X_SSL_CERT",
            "CERT_CHAIN_0",
        ] {
            assert!(is_listed(name), "{name}");
        }
    }

    #[test]
    fn names_with_another_use() {
        for name in [
            "authorization",
            "cookie",
            "client-cert-chains",
            "x-api-key",
            "x-access-token",
            "X-Auth-Token",
            "x_auth_key",
            "x-auth",
            "x-client-id",
            "x-user-agent",
            "x-requested-with",
            "x-envoy-peer-metadata",
            "x-ms-client-principals",
            "remote",
            "referer",
            "sec-websocket-key",
            "domino",
        ] {
            assert!(!is_listed(name), "{name}");
        }
    }
}
