//! What reaches the upstream, and what comes back.

use super::scene::{KEY, Scene, accepted, request};
use crate::audit::Entry;

fn lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let all = head.lines().filter_map(|line| line.split_once(": "));
    all.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn the_upstream_gets_exactly_the_clients_request_less_its_token_plus_its_identity() {
    let scene = Scene::new().await;
    let token = format!("Authorization: Bearer {}", scene.token("alice \u{e4}", &["chat:read", "b"], 0, 60));
    let mut client = scene.connect().await;
    let more = [
        token.as_str(),
        "Cookie: a=b",
        "X-Kept: yes",
        "Connection: x-private",
        "X-Private: 1",
        "TE: trailers",
    ];
    client.send(request("/other?room=1", &more)).await;
    let (asked, _upstream) = scene.upstream().await;
    let id = lines(&asked, "Gatehouse-Id").concat();
    let expected = format!(
        "GET /elsewhere?room=1 HTTP/1.1\r\n\
         Host: gate.test\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         sec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n\
         cookie: a=b\r\n\
         x-kept: yes\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\
         X-Forwarded-Host: gate.test\r\n\
         X-Forwarded-Proto: http\r\n\
         Gatehouse-Issuer: main\r\n\
         Gatehouse-Subject: alice%20%C3%A4\r\n\
         Gatehouse-Scopes: chat:read b\r\n\
         Gatehouse-Id: {id}\r\n\r\n"
    );
    assert_eq!(asked, expected);
    assert_eq!(id.len(), 20);
}

#[tokio::test]
async fn a_client_cannot_say_who_it_is() {
    let mut scene = Scene::new().await;
    let spoofed = [
        "Gatehouse-Subject: mallory",
        "gatehouse-subject: mallory",
        "Gatehouse_Subject: mallory",
        "Gatehouse-Admin: mallory",
        "Forwarded: for=mallory",
        "X-Forwarded-For: mallory",
        "X-Forwarded-User: mallory",
        "X_Forwarded_For: mallory",
        "X-Real-IP: mallory",
        "Proxy-Authorization: mallory",
        "Connection: Gatehouse-Subject",
    ];
    let (_, _, asked) = scene.open(&scene.good("/chat", &spoofed)).await;
    assert!(!asked.contains("mallory"), "{asked}");
    assert_eq!(lines(&asked, "Gatehouse-Subject"), ["alice"]);
    assert_eq!(lines(&asked, "X-Forwarded-For"), ["127.0.0.1"]);
}

#[tokio::test]
async fn the_client_gets_the_upstreams_headers_and_the_name_of_its_handshake() {
    let mut scene = Scene::new().await;
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &["Sec-WebSocket-Protocol: v1, v2"])).await;
    let (asked, mut upstream) = scene.upstream().await;
    let more = [
        "Sec-WebSocket-Protocol: v2",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Gatehouse-Rejection: layer=limit, reason=capacity, id=\"0\"",
        "Content-Length: 0",
        "Keep-Alive: timeout=5",
    ];
    upstream.send(accepted(&more)).await;
    let answer = client.head().await;
    let id = lines(&asked, "Gatehouse-Id").concat();
    assert_eq!(
        answer,
        format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             sec-websocket-protocol: v2\r\n\
             set-cookie: a=1\r\n\
             set-cookie: b=2\r\n\
             Gatehouse-Id: {id}\r\n\r\n"
        )
    );
    match scene.entry().await {
        Entry::Admitted { id: own, route, subject, issuer, .. } => {
            assert_eq!(own.to_string(), id);
            assert_eq!((route.as_str(), subject.as_str(), issuer.as_str()), ("/chat", "alice", "main"));
        }
        other => panic!("{other:?}"),
    }
}
