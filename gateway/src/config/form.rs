//! The form of the configuration file, exactly as TOML has it. Nothing here is checked beyond its
//! type; `validate` turns it into the model.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::{Spanned, Value};

/// A list with the places of its items.
pub(super) type Strings = Vec<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default)]
    pub(super) listen: Vec<Listen>,
    pub(super) firewall: Option<Firewall>,
    #[serde(default)]
    pub(super) issuer: Vec<Issuer>,
    #[serde(default)]
    pub(super) route: Vec<Route>,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) gateway: Option<Gateway>,
    pub(super) revocation: Option<Revocation>,
    pub(super) echo: Option<Echo>,
    pub(super) control: Option<Control>,
    pub(super) admin: Option<Admin>,
    pub(super) state: Option<State>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) address: Spanned<String>,
    pub(super) client_address: Option<Spanned<String>>,
    pub(super) trusted_proxies: Option<Spanned<Strings>>,
    pub(super) tls: Option<Spanned<ListenTls>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTls {
    pub(super) certificate: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) client_ca: Option<Spanned<String>>,
    pub(super) client_certificate: Option<Spanned<String>>,
    pub(super) min_version: Option<Spanned<String>>,
    pub(super) http2: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateFiles {
    pub(super) certificate: Spanned<String>,
    pub(super) key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Firewall {
    #[serde(default)]
    pub(super) interfaces: Strings,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) pins: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Value>>,
    #[serde(default)]
    pub(super) deny: Vec<Spanned<List>>,
    #[serde(default)]
    pub(super) allow: Vec<Spanned<List>>,
    pub(super) max_shrink: Option<Spanned<u32>>,
    pub(super) max_growth: Option<Spanned<u32>>,
    pub(super) change_freely_below: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) never_block: Strings,
    pub(super) protect: Option<Strings>,
    pub(super) default: Option<Spanned<String>>,
    pub(super) reports_per_second: Option<Spanned<u32>>,
    pub(super) reload: Option<Spanned<String>>,
}

/// An item of `deny` or `allow`: a name alone, or a table when the list has settings of its own.
pub(super) enum List {
    Name(String),
    Table(Box<ListTable>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTable {
    pub(super) list: Spanned<String>,
    pub(super) observe: Option<Spanned<bool>>,
    pub(super) max_shrink: Option<Spanned<u32>>,
    pub(super) max_growth: Option<Spanned<u32>>,
    pub(super) change_freely_below: Option<Spanned<u32>>,
    pub(super) interval: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<String>>,
}

/// By hand, because an untagged enum would lose the places of what is inside.
impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, as \"deny.list\" or { list = \"deny.list\" }")
            }

            fn visit_str<E>(self, name: &str) -> Result<List, E> {
                Ok(List::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List, A::Error> {
                ListTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| List::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(ListVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) name: Spanned<String>,
    pub(super) issuer: Spanned<String>,
    pub(super) audience: Spanned<Strings>,
    pub(super) keys: Option<Spanned<String>>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) signing_key: Option<Spanned<String>>,
    pub(super) serve_keys: Option<Spanned<bool>>,
    pub(super) introspection: Option<Spanned<Introspection>>,
    pub(super) discovery: Option<Spanned<bool>>,
    pub(super) keys_min_interval: Option<Spanned<String>>,
    pub(super) keys_max_interval: Option<Spanned<String>>,
    pub(super) max_stale: Option<Spanned<String>>,
    pub(super) keys_cooldown: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<String>>,
    pub(super) algorithms: Option<Spanned<Strings>>,
    pub(super) typ: Option<Spanned<Value>>,
    pub(super) leeway: Option<Spanned<String>>,
    pub(super) scope_claim: Option<Spanned<Value>>,
    pub(super) profile: Option<Spanned<String>>,
    pub(super) require: Option<Spanned<Value>>,
    pub(super) max_lifetime: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: Spanned<String>,
    pub(super) upstream: Spanned<Value>,
    pub(super) upstream_ca: Option<Spanned<String>>,
    pub(super) issuers: Spanned<Strings>,
    pub(super) scopes: Option<Spanned<Value>>,
    pub(super) claims: Option<Spanned<Value>>,
    pub(super) max_age: Option<Spanned<String>>,
    pub(super) origins: Option<Spanned<Strings>>,
    pub(super) subprotocol_prefix: Option<Spanned<String>>,
    pub(super) cookie: Option<Spanned<String>>,
    pub(super) tickets: Option<Spanned<bool>>,
    pub(super) query: Option<Spanned<bool>>,
    pub(super) first_message: Option<Spanned<bool>>,
    pub(super) subprotocols: Option<Spanned<Strings>>,
    pub(super) sessions: Option<Spanned<u64>>,
    pub(super) handshake_rate: Option<Spanned<u64>>,
    pub(super) bytes_rate: Option<Spanned<u64>>,
    pub(super) messages_rate: Option<Spanned<u64>>,
    pub(super) browser: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) renewal: bool,
    pub(super) renewal_warning: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions: Option<Spanned<u64>>,
    pub(super) sessions_per_address: Option<Spanned<u64>>,
    pub(super) sessions_per_subject: Option<Spanned<u64>>,
    pub(super) handshake_rate: Option<Spanned<u64>>,
    pub(super) handshake_rate_per_address: Option<Spanned<u64>>,
    pub(super) handshake_rate_per_subject: Option<Spanned<u64>>,
    pub(super) bytes_rate: Option<Spanned<u64>>,
    pub(super) bytes_rate_per_address: Option<Spanned<u64>>,
    pub(super) bytes_rate_per_subject: Option<Spanned<u64>>,
    pub(super) messages_rate: Option<Spanned<u64>>,
    pub(super) messages_rate_per_address: Option<Spanned<u64>>,
    pub(super) messages_rate_per_subject: Option<Spanned<u64>>,
    pub(super) request_head: Option<Spanned<u64>>,
    pub(super) request_headers: Option<Spanned<u64>>,
    pub(super) request_body: Option<Spanned<u64>>,
    pub(super) handshake_timeout: Option<Spanned<String>>,
    pub(super) proxy_header_timeout: Option<Spanned<String>>,
    pub(super) tls_timeout: Option<Spanned<String>>,
    pub(super) certificate_file: Option<Spanned<u64>>,
    pub(super) http2_streams: Option<Spanned<u64>>,
    pub(super) introspection_timeout: Option<Spanned<String>>,
    pub(super) introspection_cache: Option<Spanned<u64>>,
    pub(super) introspection_requests: Option<Spanned<u64>>,
    pub(super) revocations: Option<Spanned<u64>>,
    pub(super) bans: Option<Spanned<u64>>,
    pub(super) ban_duration: Option<Spanned<String>>,
    pub(super) tickets: Option<Spanned<u64>>,
    pub(super) tickets_per_address: Option<Spanned<u64>>,
    pub(super) ticket_ttl: Option<Spanned<String>>,
    pub(super) first_message_timeout: Option<Spanned<String>>,
    pub(super) first_message_size: Option<Spanned<u64>>,
    pub(super) upstream_timeout: Option<Spanned<String>>,
    pub(super) health_interval: Option<Spanned<String>>,
    pub(super) list_size: Option<Spanned<u64>>,
    pub(super) remote_connect_timeout: Option<Spanned<String>>,
    pub(super) remote_idle_timeout: Option<Spanned<String>>,
    pub(super) remote_timeout: Option<Spanned<String>>,
    pub(super) prefixes: Option<Spanned<u64>>,
    pub(super) policy_memory: Option<Spanned<u64>>,
    pub(super) key_file: Option<Spanned<u64>>,
    pub(super) issuer_timeout: Option<Spanned<String>>,
    pub(super) issuer_answer: Option<Spanned<u64>>,
    pub(super) issuer_waiters: Option<Spanned<u64>>,
    pub(super) audit_queue: Option<Spanned<u64>>,
    pub(super) audit_at_once: Option<Spanned<u64>>,
    pub(super) audit_fold: Option<Spanned<String>>,
    pub(super) audit_folded: Option<Spanned<u64>>,
    pub(super) audit_remembered: Option<Spanned<u64>>,
    pub(super) verified_tokens: Option<Spanned<u64>>,
    pub(super) idle_timeout: Option<Spanned<String>>,
    pub(super) session_lifetime: Option<Spanned<String>>,
    pub(super) close_timeout: Option<Spanned<String>>,
    pub(super) drain_timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Introspection {
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) client_id: Spanned<String>,
    pub(super) client_secret: Spanned<String>,
    pub(super) auth: Option<Spanned<String>>,
    pub(super) introspect: Option<Spanned<String>>,
    pub(super) cache: Option<Spanned<String>>,
    pub(super) inactive_cache: Option<Spanned<String>>,
    pub(super) failures: Option<Spanned<u32>>,
    pub(super) rest: Option<Spanned<String>>,
    pub(super) retry: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    pub(super) file: Option<Spanned<String>>,
    pub(super) keep: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) public_url: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Echo {
    pub(super) listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: Spanned<String>,
    pub(super) token_file: Option<Spanned<String>>,
    pub(super) users: Option<Spanned<Vec<u32>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) socket: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) folder: Spanned<String>,
}
