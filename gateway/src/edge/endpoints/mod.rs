//! What the listener answers besides opening handshakes: who to get a token from (RFC 9728), the keys
//! of issuers of this host, tickets, and fresh tokens for open sessions.

pub mod request;
mod response;
mod sessions;
mod store;
mod tickets;
pub mod wanted;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::gate::Gate;
use super::head::Head;
use super::snapshot::{Route, Snapshot};
use super::visitor::Visitor;
use crate::auth::Issuer;
use crate::config;
use crate::rejection::Rejection;
use crate::session::limits::Place;
use crate::session::stream::Stream;

use request::Request;
use response::Response;
pub(super) use store::Tickets;

/// Where the metadata of a protected resource is; the resource's own path follows (RFC 9728 §3.1).
const METADATA: &str = "/.well-known/oauth-protected-resource";
/// Where the keys of issuers of this host are.
const KEYS: &str = "/.well-known/jwks.json";
/// Where tickets are made.
const TICKETS: &str = "/tickets";

/// How the targets of all requests to endpoints begin.
const PATHS: [&str; 3] = ["/.well-known/", TICKETS, sessions::SESSIONS];

/// How long others may keep what does not change from one request to the next, in seconds.
const MAX_AGE: u32 = 300;

/// The documents of one snapshot, and whether there are tickets, and sessions that can be renewed.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    documents: HashMap<String, Arc<str>>,
    tickets: bool,
    renewal: bool,
}

/// The URL of the metadata of the route with this path, where clients know the gate as `public_url`.
pub(super) fn metadata_url(public_url: &str, path: &str) -> String {
    format!("{public_url}{METADATA}{}", if path == "/" { "" } else { path })
}

impl Endpoints {
    /// The endpoints of these routes and issuers.
    pub(super) fn new(routes: &[config::Route], issuers: &[Arc<Issuer>], public_url: Option<&str>) -> Self {
        let mut documents = HashMap::new();
        if let Some(url) = public_url {
            for route in routes {
                let path = metadata_url("", &route.path);
                documents.insert(path, metadata(url, route, issuers).into());
            }
        }
        let served: Vec<_> = issuers.iter().flat_map(|issuer| issuer.served()).collect();
        if !served.is_empty() {
            documents.insert(KEYS.to_owned(), json!({ "keys": served }).to_string().into());
        }
        Self {
            documents,
            tickets: routes.iter().any(|route| route.sources.tickets),
            renewal: routes.iter().any(|route| route.renewal),
        }
    }

    fn document(&self, path: &str) -> Option<Arc<str>> {
        self.documents.get(path).map(Arc::clone)
    }
}

/// The metadata of one route (RFC 9728 §2).
fn metadata(url: &str, route: &config::Route, issuers: &[Arc<Issuer>]) -> String {
    let believed = issuers.iter().filter(|issuer| route.issuers.iter().any(|name| name == issuer.name()));
    // An authorization server is an https URL (RFC 8414 §2); other issuers have no place to ask.
    let servers: Vec<&str> =
        believed.map(|issuer| issuer.identifier()).filter(|name| name.starts_with("https://")).collect();
    let mut methods = vec!["header"];
    if route.sources.query {
        methods.push("query");
    }
    let path = if route.path == "/" { "" } else { &route.path };
    let mut document = json!({
        "resource": format!("{url}{path}"),
        "bearer_methods_supported": methods,
    });
    if !servers.is_empty() {
        document["authorization_servers"] = servers.into();
    }
    let scopes: Vec<&str> = route.scopes.wanted().collect();
    if !scopes.is_empty() {
        document["scopes_supported"] = scopes.into();
    }
    document.to_string()
}

/// A request to one of the endpoints that could not be served.
pub(super) struct Refused {
    /// The route that it was about, once that is known.
    pub(super) route: Option<Arc<Route>>,
    /// Why.
    pub(super) rejection: Box<Rejection>,
}

impl Refused {
    /// The same, and pages of `origin` may read why.
    fn readable_by(mut self, origin: Option<&str>) -> Self {
        self.rejection.page = origin.map(str::to_owned);
        self
    }
}

/// The answer to `head` if it is a request to an endpoint; `None`: it is none.
pub(super) async fn serve(
    stream: &mut Stream,
    head: &Head,
    visitor: &Visitor,
    snapshot: &Snapshot,
    gate: &Gate,
    place: &Place,
) -> Result<Option<Vec<u8>>, Refused> {
    // Of handshakes nothing is read twice.
    let target = head.bytes().split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if !PATHS.iter().any(|path| target.starts_with(path.as_bytes())) {
        return Ok(None);
    }
    let endpoints = snapshot.endpoints();
    let Some(request) = Request::parse(head, gate.limits().request_headers) else {
        return Ok(None);
    };
    let response = if endpoints.tickets && request.path == TICKETS {
        tickets::answer(stream, head, &request, visitor, snapshot, gate, place).await?
    } else if endpoints.renewal && request.path.starts_with(sessions::SESSIONS) {
        sessions::answer(&request, visitor, snapshot, gate, place).await?
    } else if let Some(document) = endpoints.document(&request.path) {
        document_answer(&request, &document)
    } else {
        return Ok(None);
    };
    Ok(Some(response.bytes(gate.now(), request.method == "HEAD")))
}

/// A document that any page may read: it holds nothing that is not public.
fn document_answer(request: &Request, document: &str) -> Response {
    match request.method.as_str() {
        "GET" | "HEAD" => Response::json(200, document)
            .header("Cache-Control", &format!("public, max-age={MAX_AGE}"))
            .header("Access-Control-Allow-Origin", "*"),
        "OPTIONS" => Response::empty(204)
            .header("Access-Control-Allow-Origin", "*")
            .header("Access-Control-Allow-Methods", "GET, HEAD")
            .header("Access-Control-Max-Age", &MAX_AGE.to_string()),
        _ => Response::empty(405).header("Allow", "GET, HEAD, OPTIONS"),
    }
}
