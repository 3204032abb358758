//! What an issuer says about itself: nobody else speaks for it, and no key is fetched in the clear.

use gateway::auth::metadata::{introspection_endpoint, jwks_uri};
use serde_json::Value;

/// The names that issuers are asked by.
const ISSUERS: [&str; 2] = ["https://idp.example", "http://127.0.0.1:8000"];

pub(crate) fn run(input: &[u8]) {
    for issuer in ISSUERS {
        for found in [jwks_uri(input, issuer), introspection_endpoint(input, issuer)] {
            match found {
                Ok(url) => {
                    let metadata: Value = serde_json::from_slice(input).unwrap_or_default();
                    assert_eq!(metadata["issuer"], issuer, "somebody else speaks for it");
                    let local =
                        issuer.starts_with("http:") && matches!(url.host_str(), Some(host) if is_local(host));
                    assert!(url.scheme() == "https" || (url.scheme() == "http" && local), "{url}");
                    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
                }
                Err(fault) => {
                    let message = fault.to_string();
                    assert!(crate::is_one_plain_line(&message), "{message:?}");
                    assert!(message.len() < 2048, "{message}");
                }
            }
        }
    }
}

/// Whether nothing but this host answers there.
fn is_local(host: &str) -> bool {
    host.starts_with("127.") || host == "[::1]"
}
