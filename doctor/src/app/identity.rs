//! Compares the headers from which Streamlit takes its user with those that the gateway lets pass (D16).

use serde_json::Value;

use crate::app::subject::Subject;
use crate::outcome::Outcome;

/// D16: `server.trustedUserHeaders` and `trusted_pass_headers` agree.
pub(crate) fn user_headers(subject: &Subject, outcome: &mut Outcome) {
    let names = &subject.options.trusted_user_headers;
    if names.is_empty() {
        return outcome.right("Streamlit takes no user from headers");
    }
    let is_on = subject.policy.get("trust_proxy") == Some(&Value::Bool(true));
    let listed = |setting: &str, name: &str| {
        let list = subject.policy.get(setting).and_then(Value::as_array);
        list.into_iter().flatten().any(|item| {
            item.as_str()
                .is_some_and(|item| item.eq_ignore_ascii_case(name))
        })
    };
    for name in names {
        if !listed("trusted_pass_headers", name) {
            outcome.warn(
                format!(
                    "Streamlit takes st.user from `{name}` (server.trustedUserHeaders), which the gateway passes from nobody, so \
                     st.user stays empty"
                ),
                format!(
                    "set FLUXLIT_TRUSTED_PASS_HEADERS={name} if your proxy sets it, or remove it from server.trustedUserHeaders"
                ),
            );
        } else if !is_on {
            outcome.warn(
                format!("`{name}` is in FLUXLIT_TRUSTED_PASS_HEADERS, but no peer is trusted, so st.user stays empty"),
                "set FLUXLIT_TRUST_PROXY=1 and FLUXLIT_FORWARDED_ALLOW_IPS to the address of your proxy",
            );
        } else if subject.policy.get("trust_any_peer") == Some(&Value::Bool(true)) {
            outcome.fail(
                format!("Streamlit takes st.user from `{name}`, and every peer may send it (trust_any_peer): whoever connects chooses the user"),
                "set FLUXLIT_FORWARDED_ALLOW_IPS to the address of your proxy, and remove FLUXLIT_TRUST_ANY_PEER",
            );
        } else {
            outcome.right(format!(
                "Streamlit takes st.user from `{name}`, which only trusted peers may send"
            ));
        }
    }
}
