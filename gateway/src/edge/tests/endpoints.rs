//! What the listener answers besides opening handshakes.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Answer, Peer, Scene, raw, request};
use crate::auth::{KeySet, Token};
use crate::config::{KeySource, Limits};

async fn answer(mut peer: Peer, request: &str) -> (u16, String, String) {
    peer.send(request).await;
    let text = String::from_utf8(peer.read_to_end().await).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().unwrap(), format!("{head}\r\n"), body.to_owned())
}

async fn get(scene: &Scene, path: &str) -> (u16, String, Value) {
    let (status, head, body) =
        answer(scene.connect().await, &raw(&format!("GET {path} HTTP/1.1"), &["Host: gate.test"])).await;
    (status, head, serde_json::from_str(&body).unwrap_or_default())
}

/// A request for a ticket with more headers.
fn wants(route: &str, more: &[&str]) -> String {
    let body = json!({ "route": route }).to_string();
    let length = format!("Content-Length: {}", body.len());
    raw("POST /tickets HTTP/1.1", &[&["Host: gate.test", length.as_str()], more].concat()) + &body
}

async fn scene(limits: Limits) -> Scene {
    let mut scene = Scene::with(limits).await;
    scene.reroute(|routes| {
        for route in routes.iter_mut().filter(|route| route.path != "/down") {
            route.sources.tickets = true;
        }
    });
    scene
}

async fn ticket(scene: &Scene, route: &str) -> String {
    let request = wants(route, &[&scene.good_token("alice")]);
    let (status, head, body) = answer(scene.connect().await, &request).await;
    assert!(status == 201 && head.contains("Cache-Control: no-store\r\n"), "{head}{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["expires_in"], 30);
    body["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_opens_one_session_and_the_upstream_does_not_see_it() {
    let mut scene = scene(Limits::default()).await;
    let ticket = ticket(&scene, "/chat").await;
    assert_eq!(ticket.len(), 43, "256 bits");
    let opening = request(&format!("/chat?a=1&ticket={ticket}"), &[]);
    let (_client, _upstream, asked) = scene.open(&opening).await;
    assert!(asked.starts_with("GET /chat?a=1 HTTP/1.1\r\n") && !asked.contains(&ticket), "{asked}");
    let (told, _) = scene.rejects(&opening, 401, "credentials/ticket").await;
    assert!(!told.body.contains(&ticket));
}

#[tokio::test]
async fn a_ticket_shown_on_another_route_or_from_another_address_is_used_up() {
    let mut scene = scene(Limits::default()).await;
    let first = ticket(&scene, "/chat").await;
    scene.rejects(&request(&format!("/other?ticket={first}"), &[]), 401, "credentials/ticket").await;
    scene.rejects(&request(&format!("/chat?ticket={first}"), &[]), 401, "credentials/ticket").await;

    let second = ticket(&scene, "/chat").await;
    let opening = request(&format!("/chat?ticket={second}"), &[]);
    let mut elsewhere = scene.connect_from(Ipv4Addr::new(127, 0, 0, 7)).await;
    elsewhere.send(&opening).await;
    elsewhere.rejection().await.is(401, "credentials/ticket");
    scene.rejected().await;
    scene.rejects(&opening, 401, "credentials/ticket").await;
}

#[tokio::test]
async fn a_ticket_stands_for_its_token_which_is_judged_again() {
    let mut scene = scene(Limits::default()).await;
    let ticket = ticket(&scene, "/chat").await;
    scene.lose_keys();
    scene
        .rejects(&request(&format!("/chat?ticket={ticket}"), &[]), 503, "auth_system/keys_unavailable")
        .await;
}

#[tokio::test]
async fn who_may_not_connect_gets_no_ticket_and_the_same_answer() {
    let mut scene = scene(Limits::default()).await;
    let bad = format!("Authorization: Bearer {}", scene.token("alice", &["other"], 0, 60));
    for (request, status, name) in [
        (wants("/chat", &[]), 401, "credentials/missing"),
        (wants("/chat", &[&bad]), 403, "scope/insufficient_scope"),
        (wants("/none", &[&scene.good_token("alice")]), 404, "handshake/no_route"),
        (wants("/down", &[&scene.good_token("alice")]), 404, "handshake/no_route"),
        (wants("/app", &[&scene.good_token("alice"), "Origin: https://evil.test"]), 403, "handshake/origin"),
    ] {
        scene.rejects(&request, status, name).await;
    }
    let good = scene.good_token("alice");
    for (headers, body) in [
        (vec!["Content-Length: 2"], "{}"),
        (vec!["Content-Length: 4"], "null"),
        (vec!["Content-Length: 25"], "{\"route\":\"/chat\",\"a\":\"b\"}"),
        (vec![], ""),
    ] {
        let head = raw(
            "POST /tickets HTTP/1.1",
            &[&["Host: gate.test", good.as_str()], headers.as_slice()].concat(),
        );
        scene.rejects(&format!("{head}{body}"), 400, "handshake/malformed").await;
    }
    let long = raw("POST /tickets HTTP/1.1", &["Host: gate.test", &good, "Content-Length: 8193"]);
    scene.rejects(&long, 431, "handshake/too_large").await;
}

#[tokio::test]
async fn a_body_that_never_comes_ends_at_the_deadline() {
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut scene = scene(limits).await;
    let head = raw("POST /tickets HTTP/1.1", &["Host: gate.test", "Content-Length: 18"]);
    scene.rejects(&format!("{head}{{\"route\":"), 408, "handshake/timeout").await;
}

#[tokio::test]
async fn unused_tickets_of_an_address_are_limited() {
    let mut scene = scene(Limits { tickets_per_address: 1, ..Limits::default() }).await;
    ticket(&scene, "/chat").await;
    let again = wants("/chat", &[&scene.good_token("alice")]);
    let (told, _) = scene.rejects(&again, 429, "limit/tickets").await;
    assert!(told.header("Retry-After").is_some());
}

#[tokio::test]
async fn requests_for_tickets_count_as_handshakes_of_their_address() {
    let mut scene = scene(Limits { handshake_rate_per_address: 1, ..Limits::default() }).await;
    let unknown = wants("/chat", &["Authorization: Bearer a.b.c"]);
    for _ in 0..50 {
        let told = scene.ask(&unknown).await;
        scene.rejected().await;
        if told.status() == 429 {
            return told.is(429, "limit/address_rate");
        }
    }
    panic!("no request was too many");
}

#[tokio::test]
async fn pages_of_the_routes_origins_may_ask_for_tickets_and_no_others() {
    let scene = scene(Limits::default()).await;
    let asks = |origin: &str| {
        let origin = format!("Origin: {origin}");
        raw("OPTIONS /tickets HTTP/1.1", &["Host: gate.test", &origin, "Access-Control-Request-Method: POST"])
    };
    let (status, head, _) = answer(scene.connect().await, &asks("https://app.test")).await;
    assert!(status == 204 && head.contains("Access-Control-Allow-Origin: https://app.test\r\n"), "{head}");
    assert!(head.contains("Access-Control-Allow-Headers: Authorization, Content-Type\r\n"), "{head}");
    let (status, head, _) = answer(scene.connect().await, &asks("https://evil.test")).await;
    assert!(status == 204 && !head.contains("Access-Control-Allow"), "{head}");
    let refused = wants("/app", &["Origin: https://app.test"]);
    let (status, head, _) = answer(scene.connect().await, &refused).await;
    assert!(status == 401 && head.contains("Access-Control-Allow-Origin: https://app.test\r\n"), "{head}");
    assert!(head.contains("Access-Control-Expose-Headers: Gatehouse-Rejection, "), "{head}");
    let refused = wants("/app", &["Origin: https://evil.test"]);
    let (status, head, _) = answer(scene.connect().await, &refused).await;
    assert!(status == 403 && !head.contains("Access-Control-Allow"), "{head}");
    let page = wants("/app", &[&scene.good_token("alice"), "Origin: https://app.test"]);
    let (status, head, _) = answer(scene.connect().await, &page).await;
    assert!(status == 201 && head.contains("Access-Control-Allow-Origin: https://app.test\r\n"), "{head}");
    let (status, head, _) =
        answer(scene.connect().await, &raw("GET /tickets HTTP/1.1", &["Host: gate.test"])).await;
    assert!(status == 405 && head.contains("Allow: POST, OPTIONS\r\n"), "{head}");
}

#[tokio::test]
async fn without_tickets_nothing_is_there() {
    let mut scene = Scene::new().await;
    scene.rejects(&wants("/chat", &[]), 426, "handshake/not_websocket").await;
}

#[tokio::test]
async fn a_401_leads_to_the_metadata_that_tells_where_to_get_a_token() {
    let mut scene = Scene::new().await;
    let (told, _) = scene.rejects(&request("/chat", &[]), 401, "credentials/missing").await;
    let challenge = told.header("WWW-Authenticate").unwrap();
    let path = "/.well-known/oauth-protected-resource/chat";
    assert_eq!(
        challenge,
        format!("Bearer realm=\"gatehouse\", resource_metadata=\"https://gate.test{path}\"")
    );
    let (status, head, document) = get(&scene, path).await;
    assert!(status == 200 && head.contains("Access-Control-Allow-Origin: *\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/json\r\n") && head.contains("max-age=300"), "{head}");
    assert_eq!(
        document,
        json!({
            "resource": "https://gate.test/chat",
            "authorization_servers": ["https://idp.test"],
            "scopes_supported": ["chat:read"],
            "bearer_methods_supported": ["header"],
        })
    );
    let none = raw("GET /.well-known/oauth-protected-resource/none HTTP/1.1", &["Host: gate.test"]);
    scene.rejects(&none, 426, "handshake/not_websocket").await;
}

#[tokio::test]
async fn the_served_keys_verify_tokens_of_the_local_issuer_and_hold_no_secret() {
    let scene = Scene::new().await;
    let (status, _, document) = get(&scene, "/.well-known/jwks.json").await;
    assert_eq!(status, 200);
    let members = document["keys"][0].as_object().unwrap();
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    let source = KeySource::JwkSet("served.json".into());
    let keys = KeySet::parse(&source, document.to_string().into_bytes()).unwrap().keys;
    let token = Token::parse(scene.token("alice", &["chat:read"], 0, 60).as_bytes()).unwrap();
    assert!(scene.requirement_with(keys).judge(&token, scene.now()).is_ok());
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_are_refused() {
    let scene = Scene::new().await;
    let path = "/.well-known/jwks.json";
    let (status, head, body) =
        answer(scene.connect().await, &raw(&format!("HEAD {path} HTTP/1.1"), &["Host: gate.test"])).await;
    assert!(status == 200 && body.is_empty() && !head.contains("Content-Length: 0\r\n"), "{head}");
    let (status, head, _) =
        answer(scene.connect().await, &raw(&format!("DELETE {path} HTTP/1.1"), &["Host: gate.test"])).await;
    assert!(status == 405 && head.contains("Allow: GET, HEAD, OPTIONS\r\n"), "{head}");
}

#[tokio::test]
async fn the_answer_tells_how_long_ago_the_token_expired() {
    let mut scene = Scene::new().await;
    let token = format!("Authorization: Bearer {}", scene.token("alice", &["chat:read"], 300, 180));
    let (told, _): (Answer, _) = scene.rejects(&request("/chat", &[&token]), 401, "expiry/expired").await;
    let challenge = told.header("WWW-Authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert!(challenge.contains("error_description=\"The token expired 2 min ago.\""), "{challenge}");
    assert!(told.problem().detail.contains("2 min ago"));
}
