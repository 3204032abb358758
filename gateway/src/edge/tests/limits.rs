//! Nobody takes more than is due, and places are free again.

use std::net::Ipv4Addr;

use super::scene::{Scene, denying, request};
use crate::audit::Entry;
use crate::config::Limits;
use crate::rejection::Reason;

#[tokio::test]
async fn an_address_has_so_many_sessions_and_gets_a_place_back_when_one_ends() {
    let mut scene = Scene::with(Limits { sessions_per_address: 2, ..Limits::default() }).await;
    let first = scene.open(&scene.good("/chat", &[])).await;
    let _second = scene.open(&request("/chat", &[&scene.good_token("bob")])).await;
    assert_eq!(scene.gate.sessions(), 2);
    let third = request("/chat", &[&scene.good_token("carol")]);
    let (answer, _) = scene.rejects(&third, 429, "limit/address_sessions").await;
    assert!(answer.header("Retry-After").is_some());

    drop(first);
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    // The end is recorded when the place is free.
    scene.open(&third).await;
}

#[tokio::test]
async fn a_subject_has_so_many_sessions_wherever_it_connects_from() {
    let mut scene = Scene::with(Limits { sessions_per_subject: 1, ..Limits::default() }).await;
    let _first = scene.open(&scene.good("/chat", &[])).await;
    let mut second = scene.connect_from(Ipv4Addr::new(127, 0, 0, 3)).await;
    second.send(scene.good("/chat", &[])).await;
    second.rejection().await.is(429, "limit/subject_sessions");
    let (rejection, route) = scene.rejected().await;
    assert_eq!((rejection.subject.as_deref(), route.as_deref()), (Some("alice"), Some("/chat")));
    scene.open(&request("/chat", &[&scene.good_token("bob")])).await;
}

#[tokio::test]
async fn a_limit_is_reached_only_by_those_who_may_enter() {
    let mut scene = Scene::with(Limits { sessions_per_address: 1, ..Limits::default() }).await;
    let _first = scene.open(&scene.good("/chat", &[])).await;
    scene.rejects(&request("/chat", &[]), 401, "credentials/missing").await;
}

#[tokio::test]
async fn a_rejected_client_and_a_failed_upstream_leave_no_place_taken() {
    let limits = Limits { sessions_per_address: 1, sessions_per_subject: 1, ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    for _ in 0..3 {
        scene.rejects(&scene.good("/down", &[]), 502, "upstream/unreachable").await;
    }
    scene.open(&scene.good("/chat", &[])).await;
}

#[tokio::test]
async fn a_full_gate_says_so_to_whoever_asks() {
    let mut scene = Scene::with(Limits { sessions: 1, ..Limits::default() }).await;
    let session = scene.open(&scene.good("/chat", &[])).await;
    let (answer, _) = scene.rejects(&scene.good("/chat", &[]), 503, "limit/capacity").await;
    assert!(answer.header("Retry-After").is_some());
    drop(session);
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    scene.open(&scene.good("/chat", &[])).await;
}

#[tokio::test]
async fn handshakes_that_nobody_finishes_are_limited_by_address() {
    let mut scene = Scene::with(Limits { sessions_per_address: 2, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut peer = scene.connect().await;
        peer.send("GET /chat HTT").await;
        held.push(peer);
    }
    scene.rejects("", 429, "limit/address_sessions").await;
    let mut other = scene.connect_from(Ipv4Addr::new(127, 0, 0, 3)).await;
    other.send(request("/chat", &[])).await;
    other.rejection().await.is(401, "credentials/missing");
    assert_eq!(scene.rejected().await.0.reason, Reason::CredentialsMissing);
}

#[tokio::test]
async fn rejected_clients_that_stay_connected_are_no_undecided_handshakes() {
    let mut scene = Scene::with(Limits { sessions_per_address: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut peer = scene.connect().await;
        peer.send(request("/chat", &[])).await;
        peer.rejection().await.is(401, "credentials/missing");
        assert_eq!(scene.rejected().await.0.reason, Reason::CredentialsMissing);
        held.push(peer);
    }
}

#[tokio::test]
async fn a_denied_client_is_told_of_the_firewall_even_when_the_gate_is_full() {
    let mut scene = Scene::with(Limits { sessions: 1, ..Limits::default() }).await;
    let _session = scene.open(&scene.good("/chat", &[])).await;
    let denied = Ipv4Addr::new(127, 0, 0, 3);
    scene.swap(Some(denying(denied)));
    let mut client = scene.connect_from(denied).await;
    client.send(request("/chat", &[])).await;
    client.rejection().await.is(403, "firewall/denied_range");
    assert_eq!(scene.rejected().await.0.reason, Reason::FirewallDeniedRange);
}

#[tokio::test]
async fn who_comes_too_fast_is_told_when_to_come_back_before_any_token_is_looked_at() {
    let mut scene = Scene::with(Limits { handshake_rate_per_address: 1, ..Limits::default() }).await;
    let (_client, _upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    let (answer, _) = scene.rejects(&request("/chat", &[]), 429, "limit/address_rate").await;
    assert_eq!(answer.header("Retry-After"), Some("1"));
    let mut elsewhere = scene.connect_from(Ipv4Addr::new(127, 0, 0, 7)).await;
    elsewhere.send(request("/chat", &[])).await;
    elsewhere.rejection().await.is(401, "credentials/missing");
}

#[tokio::test]
async fn a_route_is_asked_so_often_and_carries_so_many_sessions() {
    let mut scene = Scene::new().await;
    scene.reroute(|routes| {
        routes[0].limits.sessions = Some(1);
        routes[1].limits.handshake_rate = 1;
    });
    let (_client, _upstream, _) = scene.open(&scene.good("/chat", &[])).await;
    scene.rejects(&scene.good("/chat", &[]), 429, "limit/route_sessions").await;
    let (_client, _upstream, _) = scene.open(&scene.good("/other", &[])).await;
    // No token: it would be missing, were the limit not looked at before.
    scene.rejects(&request("/other", &[]), 429, "limit/route_rate").await;
}
