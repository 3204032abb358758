//! What the tests of this room share.

use std::time::Duration;

use url::Url;

use crate::auth::KeySet;
use crate::config::{FetchedKeys, KeysPlace};

/// A key set with a key of each of these names; the same name is the same key in all sets.
pub(super) fn set(names: &[&str]) -> KeySet {
    // The key of RFC 8037 appendix A.2: its name is a part of what it is.
    let key = |name: &&str| {
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","kid":"{name}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#
        )
    };
    let keys: Vec<String> = names.iter().map(key).collect();
    let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    KeySet::published("the test", text.into_bytes()).expect("a set").keys
}

/// Keys that are fetched.
pub(super) fn fetched() -> FetchedKeys {
    FetchedKeys {
        place: KeysPlace::Set(Url::parse("https://idp.example/jwks").expect("a URL").into()),
        min_interval: Duration::from_secs(300),
        max_interval: Duration::from_secs(3600),
        max_stale: Duration::from_secs(7200),
        cooldown: Duration::from_secs(30),
        ca: None,
    }
}
