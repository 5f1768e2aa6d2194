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
//! | [WSO2][wso2], [Istio and Envoy examples][istio] | `X-JWT-Assertion`, `X-JWT-Payload`, `X-JWT-Claim-*` |
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

use crate::header::is_same_name;
use crate::name_list::NameList;

/// Returns true for an identity header of the list, except for those that begin with `X-Forwarded-`.
pub(crate) fn is_identity_header(name: &[u8]) -> bool {
    let is_credential = || {
        CREDENTIALS
            .iter()
            .any(|credential| is_same_name(credential.as_bytes(), name))
    };
    HEADERS.find(name).is_some() && !is_credential()
}

/// Returns the names of the list. A family, such as `x-auth-*`, is represented by one member.
pub(crate) fn identity_headers() -> impl Iterator<Item = String> {
    HEADERS
        .names()
        .iter()
        .map(|entry| entry.replace('*', "probe"))
}

/// The number of entries in [`HEADERS`].
const COUNT: usize = 121;

static HEADERS: NameList<COUNT> = NameList::new([
    "$ws*",
    "affiliation",
    "assurance",
    "auth-cn",
    "auth-groups",
    "auth-mail",
    "auth-user",
    "cas-*",
    "cert-chain",
    "cert-chain-*",
    "cf-access-*",
    "cf-cert-*",
    "cf-client-cert-*",
    "client-cert",
    "client-cert-chain",
    "cloudfront-viewer-cert-*",
    "dapr-caller-*",
    "domino-*",
    "entitlement",
    "eppn",
    "gap-auth",
    "gap-signature",
    "idcs-*",
    "impersonate-*",
    "iv-*",
    "kubeflow-*",
    "l5d-client-id",
    "logto-id-token",
    "ms-aspnetcore-*",
    "ngrok-auth-*",
    "ngrok-mtls-*",
    "ngrok-oauth-*",
    "oam-*",
    "oidc-*",
    "osso-*",
    "pairwise-id",
    "persistent-id",
    "plotly-user-data",
    "posit-connect-*",
    "proxy-remote-user",
    "remote-*",
    "rstudio-connect-*",
    "sf-context-*",
    "shib-*",
    "shiny-server-credentials",
    "sm-*",
    "ssl-cert",
    "ssl-client-*",
    "sslclientcert*",
    "subject-id",
    "tailscale-*",
    "targeted-id",
    "teleport-*",
    "unscoped-affiliation",
    "wl-proxy-client-cert",
    "x-amzn-ava-*",
    "x-amzn-lattice-identity",
    "x-amzn-mtls-*",
    "x-amzn-oidc-*",
    "x-amzn-request-context",
    "x-anonymous-consumer",
    "x-apigateway-api-*",
    "x-appengine-auth-domain",
    "x-appengine-cron",
    "x-appengine-inbound-appid",
    "x-appengine-queuename",
    "x-appengine-user-*",
    "x-arr-clientcert",
    "x-auth-*",
    "x-authenticated-*",
    "x-authentik-*",
    "x-cdsdashboards-*",
    "x-client-cert",
    "x-client-cert-*",
    "x-client-certificate",
    "x-client-dn",
    "x-client-verified",
    "x-client-verify",
    "x-consumer-*",
    "x-credential-*",
    "x-domino-*",
    "x-email",
    "x-endpoint-api-*",
    "x-goog-authenticated-user-*",
    "x-goog-iap-*",
    "x-id-token",
    "x-iis-windowsauthtoken",
    "x-inverting-proxy-*",
    "x-ip-token",
    "x-jwt-assertion",
    "x-jwt-claim-*",
    "x-jwt-payload",
    "x-knox-actor-*",
    "x-ms-client-principal",
    "x-ms-client-principal-*",
    "x-ms-token-*",
    "x-pomerium-*",
    "x-proxiedentitieschain",
    "x-proxy-roles",
    "x-proxy-user",
    "x-remote-*",
    "x-replit-user-*",
    "x-rh-identity",
    "x-rstudio-*",
    "x-sandstorm-*",
    "x-ssl-*",
    "x-streamlit-user",
    "x-token-subject",
    "x-token-user-*",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userid",
    "x-userinfo",
    "x-username",
    "x-vouch-*",
    "x-webauth-*",
    "ynh-user*",
]);

/// Names of these families that clients use for credentials of their own, sorted.
const CREDENTIALS: [&str; 6] = [
    "x-auth-key",
    "x-auth-nonce",
    "x-auth-signature",
    "x-auth-timestamp",
    "x-auth-token",
    "x-domino-api-key",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn is_listed(name: &str) -> bool {
        is_identity_header(name.as_bytes())
    }

    #[test]
    fn the_list_can_be_searched() {
        HEADERS.check();
        for name in HEADERS.names() {
            assert!(is_listed(name.trim_end_matches('*')));
        }
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
