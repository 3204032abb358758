//! Clients that cannot see the answer to a handshake hear by a Close frame why they are turned away.

use std::net::Ipv4Addr;

use super::listeners::proxied;
use super::scene::{Peer, Scene, denying, request};
use super::tenure::close;
use crate::config::{Browser, ClientAddress, Limits, RouteLimits};
use crate::rejection::{Layer, Reason};
use crate::session::client::Header;

const PAGE: &str = "Origin: https://app.test";

async fn scene(browser: Browser) -> Scene {
    scene_with(browser, Limits::default()).await
}

async fn scene_with(browser: Browser, limits: Limits) -> Scene {
    let mut scene = Scene::with(limits).await;
    scene.reroute(|routes| routes.iter_mut().for_each(|route| route.browser = browser));
    scene
}

/// What a client hears that is turned away after `asking`: the head of the answer, and the Close frame.
async fn hears(scene: &mut Scene, asking: &str) -> (String, Header, Reason) {
    let mut client = scene.connect().await;
    client.send(asking).await;
    told(scene, client).await
}

async fn told(scene: &mut Scene, mut client: Peer) -> (String, Header, Reason) {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (code, reason) = close(&mut client).await;
    assert_eq!(client.read_to_end().await, b"");
    let header = Header::parse(reason.as_bytes()).expect("a dictionary");
    assert!(head.contains(&format!("Gatehouse-Rejection: {reason}\r\n")), "{head}");
    assert!(head.contains(&format!("Gatehouse-Id: {}\r\n", header.id)), "{head}");
    let (rejection, _) = scene.rejected().await;
    let reason = rejection.reason;
    assert_eq!((code, &*header.reason), (reason.layer().close_code(), reason.name()));
    (head, header, reason)
}

#[tokio::test]
async fn every_layer_behind_the_route_is_told_by_its_close_code_and_no_upstream_is_asked() {
    let mut scene = scene(Browser::CloseCode).await;
    let token = |scene: &Scene, scopes: &[&str], age| {
        request("/chat", &[&format!("Authorization: Bearer {}", scene.token("alice", scopes, age, 60))])
    };
    for (asking, reason) in [
        (request("/chat", &[]), Reason::CredentialsMissing),
        (request("/chat", &["Authorization: Bearer a.b.c"]), Reason::CredentialsMalformed),
        (token(&scene, &["chat:read"], 100), Reason::ExpiryExpired),
        (token(&scene, &["other"], 0), Reason::ScopeInsufficient),
    ] {
        assert_eq!(hears(&mut scene, &asking).await.2, reason);
    }
    scene.lose_keys();
    let asking = token(&scene, &["chat:read"], 0);
    assert_eq!(hears(&mut scene, &asking).await.2, Reason::AuthSystemKeysUnavailable);
    scene.reroute(|routes| routes[0].limits = RouteLimits { handshake_rate: 1, ..RouteLimits::default() });
    assert_eq!(hears(&mut scene, &request("/chat", &[])).await.2, Reason::CredentialsMissing);
    assert_eq!(hears(&mut scene, &request("/chat", &[])).await.2, Reason::LimitRouteRate);
    assert!(scene.upstream_is_untouched());
    let down = scene.good("/down", &[]);
    assert_eq!(hears(&mut scene, &down).await.2.layer(), Layer::Upstream);
    scene.swap(Some(denying(Ipv4Addr::LOCALHOST)));
    assert_eq!(hears(&mut scene, &asking).await.2, Reason::FirewallDeniedRange);
}

#[tokio::test]
async fn what_keeps_the_client_of_a_proxy_out_is_told_by_its_close_code_too() {
    let limits = Limits { sessions_per_address: 1, ..Limits::default() };
    let mut scene = scene_with(Browser::CloseCode, limits).await;
    scene.listen(proxied(ClientAddress::XForwardedFor));
    let asking = scene.good("/chat", &["X-Forwarded-For: 192.0.2.1"]);
    scene.swap(Some(denying([192, 0, 2, 1].into())));
    assert_eq!(hears(&mut scene, &asking).await.2, Reason::FirewallDeniedRange);
    scene.swap(None);
    let _open = scene.open(&asking).await;
    assert_eq!(hears(&mut scene, &asking).await.2, Reason::LimitAddressSessions);
}

#[tokio::test]
async fn a_limit_that_is_reached_before_the_request_is_read_is_told_by_its_close_code_too() {
    let mut scene =
        scene_with(Browser::Origin, Limits { sessions_per_address: 1, ..Limits::default() }).await;
    let _open = scene.open(&scene.good("/chat", &[])).await;
    let page = scene.good("/chat", &[PAGE]);
    assert_eq!(hears(&mut scene, &page).await.2, Reason::LimitAddressSessions);
    let asking = scene.good("/chat", &[]);
    scene.rejects(&asking, 429, "limit/address_sessions").await;
}

#[tokio::test]
async fn a_good_client_gets_its_session_as_everywhere() {
    let mut scene = scene(Browser::CloseCode).await;
    let (mut client, mut upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    upstream.send("x").await;
    assert_eq!(client.read(1).await, b"x");
}

#[tokio::test]
async fn by_origin_pages_hear_a_close_code_and_others_get_their_answer() {
    let mut scene = scene(Browser::Origin).await;
    assert_eq!(hears(&mut scene, &request("/chat", &[PAGE])).await.2, Reason::CredentialsMissing);
    scene.rejects(&request("/chat", &[]), 401, "credentials/missing").await;
}

#[tokio::test]
async fn a_subprotocol_is_selected_as_browsers_demand_but_none_that_holds_a_token() {
    let mut scene = scene(Browser::CloseCode).await;
    let token = "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YQ, v2, v1";
    let (head, ..) = hears(&mut scene, &request("/chat", &[token])).await;
    assert!(head.contains("Sec-WebSocket-Protocol: v2\r\n") && !head.contains("YQ"), "{head}");
    let (head, ..) = hears(&mut scene, &request("/chat", &[])).await;
    assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
    // With nothing to select, a browser would take the session for broken: the answer says at least to others why.
    let alone = request("/chat", &["Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.YQ"]);
    let answer = scene.ask(&alone).await;
    assert!(answer.status() == 400 || answer.status() == 401, "{answer:?}");
}

#[tokio::test]
async fn what_is_no_opening_handshake_of_a_route_is_answered_as_everywhere() {
    let mut scene = scene(Browser::CloseCode).await;
    scene.rejects(&scene.good("/none", &[]), 404, "handshake/no_route").await;
    let old = scene.good("/chat", &[]).replace("Version: 13", "Version: 8");
    scene.rejects(&old, 426, "handshake/bad_version").await;
}

#[tokio::test]
async fn when_to_come_back_stands_in_the_close_frame() {
    let scene = scene(Browser::CloseCode).await;
    scene.lose_keys();
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &[])).await;
    client.head().await;
    let (_, reason) = close(&mut client).await;
    assert!(reason.ends_with(", retry_after=10"), "{reason}");
}
