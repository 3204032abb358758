//! Upstreams that do not accept the handshake, or not as they should.

use std::time::Duration;

use super::scene::{Answer, Scene, accepted, raw};
use crate::config::Limits;
use crate::rejection::Rejection;

/// What the client is told, and the trail, when the upstream answers `answer` and closes.
async fn answered(scene: &mut Scene, more: &[&str], answer: &str) -> (Answer, Rejection) {
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", more)).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(answer).await;
    drop(upstream);
    let answer = client.rejection().await;
    (answer, scene.rejected().await.0)
}

async fn is_bad(scene: &mut Scene, more: &[&str], answer: &str, note: &str) {
    let (told, rejection) = answered(scene, more, answer).await;
    told.is(502, "upstream/bad_handshake");
    let known = rejection.note.unwrap();
    assert!(known.contains(note), "{answer:?}: {known}");
    assert!(!told.body.contains("127.0.0.1"), "where the upstream is stays in the journal");
}

#[tokio::test]
async fn only_101_opens_a_session() {
    // CVE-2024-23326: a proxy took 200 for an upgrade.
    let mut scene = Scene::new().await;
    for status in ["200 OK", "204 No Content", "301 Moved", "999 What"] {
        let answer = accepted(&[]).replace("101 Switching Protocols", status);
        is_bad(&mut scene, &[], &answer, "instead of 101").await;
    }
    is_bad(&mut scene, &[], &accepted(&[]).replace("HTTP/1.1", "HTTP/1.0"), "version").await;
}

#[tokio::test]
async fn a_101_that_does_not_accept_this_very_handshake_opens_no_session() {
    let mut scene = Scene::new().await;
    let good = accepted(&[]);
    for (answer, note) in [
        (good.replace("Upgrade: websocket\r\n", ""), "lacks Upgrade"),
        (good.replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"), "lacks Upgrade"),
        (good.replace("Connection: Upgrade\r\n", ""), "lacks Connection"),
        (good.replace("s3pP", "s3pQ"), "Accept"),
        (good.replace("Sec-WebSocket-Accept", "X-Accept"), "Accept"),
        (accepted(&["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]), "Accept"),
        (accepted(&["Sec-WebSocket-Protocol: v1"]), "subprotocol"),
        (accepted(&["Sec-WebSocket-Extensions: permessage-deflate"]), "extension"),
        (accepted(&["X-Folded: a\r\n b"]), "parsed"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), "parsed"),
        ("HTTP/1.1 101 ".to_owned(), "no answer"),
        (String::new(), "no answer"),
        (good.replace("\r\n", "\n"), "CR LF"),
    ] {
        is_bad(&mut scene, &[], &answer, note).await;
    }
}

#[tokio::test]
async fn what_was_offered_may_be_chosen_and_nothing_else() {
    let mut scene = Scene::new().await;
    let offers = ["Sec-WebSocket-Protocol: v1, v2", "Sec-WebSocket-Extensions: permessage-deflate, x"];
    for chosen in
        ["Sec-WebSocket-Protocol: v3", "Sec-WebSocket-Protocol: V1", "Sec-WebSocket-Protocol: v1, v2"]
    {
        is_bad(&mut scene, &offers, &accepted(&[chosen]), "subprotocol").await;
    }
    let twice = ["Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2"];
    is_bad(&mut scene, &offers, &accepted(&twice), "subprotocol").await;
    let other = ["Sec-WebSocket-Extensions: permessage-deflate; a=1, y"];
    is_bad(&mut scene, &offers, &accepted(&other), "extension").await;

    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &offers)).await;
    let (_, mut upstream) = scene.upstream().await;
    let chosen = ["Sec-WebSocket-Protocol: v2", "Sec-WebSocket-Extensions: permessage-deflate; a=1"];
    upstream.send(accepted(&chosen)).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_refusal_of_the_upstream_reaches_the_client_with_its_own_status() {
    let mut scene = Scene::new().await;
    for (status, header) in
        [(400, "Date"), (401, "WWW-Authenticate"), (404, "Date"), (426, "Upgrade"), (503, "Retry-After")]
    {
        let answer = raw(&format!("HTTP/1.1 {status} No"), &["Content-Length: 6", "Set-Cookie: x=SECRET"]);
        let (told, rejection) = answered(&mut scene, &[], &format!("{answer}SECRET")).await;
        told.is(status, "upstream/refused");
        assert!(told.header(header).is_some(), "{told:?}");
        assert!(!format!("{told:?}").contains("SECRET"), "nothing else of its answer crosses");
        assert_eq!(rejection.subject.as_deref(), Some("alice"));
    }
}

#[tokio::test]
async fn interim_answers_are_skipped_but_not_for_ever() {
    let mut scene = Scene::new().await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &[])).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(format!("{interim}HTTP/1.1 100 Continue\r\n\r\n{}first", accepted(&[]))).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read(5).await, b"first");
    scene.entry().await;

    is_bad(&mut scene, &[], &interim.repeat(20), "interim").await;
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let mut scene = Scene::new().await;
    let endless = format!("HTTP/1.1 101 X\r\nX: {}", "x".repeat(100_000));
    is_bad(&mut scene, &[], &endless, "longer than 65536 bytes").await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_unreachable() {
    let mut scene = Scene::new().await;
    let (answer, rejection) = scene.rejects(&scene.good("/down", &[]), 502, "upstream/unreachable").await;
    assert!(answer.header("Retry-After").is_some() && answer.problem().retryable);
    assert!(rejection.note.unwrap().contains("127.0.0.1:"));
    assert!(!answer.body.contains("127.0.0.1"));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_timed_out() {
    let limits = Limits { upstream_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    // The kernel accepts the connection; nobody ever answers.
    scene.rejects(&scene.good("/chat", &[]), 504, "upstream/timeout").await;
}

#[tokio::test]
async fn nothing_that_came_early_reaches_an_upstream_that_did_not_accept() {
    // CVE-2026-2833: a proxy passed on what followed the request before the upgrade was accepted,
    // so it could be a second request that nobody judged.
    let scene = Scene::new().await;
    let smuggled = "GET /admin HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let mut client = scene.connect().await;
    client.send(format!("{}{smuggled}", scene.good("/chat", &[]))).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(raw("HTTP/1.1 404 Not Found", &["Content-Length: 0"])).await;
    assert_eq!(upstream.read_to_end().await, b"", "not a byte more than the handshake");
    client.rejection().await.is(404, "upstream/refused");

    let mut client = scene.connect().await;
    client.send(format!("{}early", scene.good("/chat", &[]))).await;
    let (_, mut upstream) = scene.upstream().await;
    assert!(upstream.stream.try_read(&mut [0; 1]).is_err(), "nothing is there before the answer");
    upstream.send(accepted(&[])).await;
    assert_eq!(upstream.read(5).await, b"early");
}
