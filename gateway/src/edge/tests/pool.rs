//! Several upstreams of one route, and upstreams of every kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::scene::{Scene, accepted, soon, upstream_on};
use crate::audit::Entry;
use crate::config::{Limits, Place, Upstream, UpstreamTls};
use crate::session::upstream::probe;

/// An upstream that takes connections and says nothing by itself.
async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that is ours and on which nobody listens.
fn nobody() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Reads a request, accepts it, and echoes `count` bytes.
async fn serve_one(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), count: usize) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(soon(stream.read_u8()).await.unwrap());
    }
    stream.write_all(accepted(&[]).as_bytes()).await.unwrap();
    let mut bytes = vec![0; count];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    String::from_utf8(request).unwrap()
}

/// A client's session over the route `/chat`, in which `message` comes back.
async fn echoes(scene: &mut Scene, message: &[u8]) {
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &[])).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.send(message).await;
    assert!(client.read(message.len()).await == message);
    drop(client);
    assert!(matches!(scene.entry().await, Entry::Admitted { .. }));
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
}

#[tokio::test]
async fn sessions_go_to_the_upstream_that_carries_the_fewest() {
    let mut scene = Scene::new().await;
    let (one, first) = listener().await;
    let (two, second) = listener().await;
    scene.reroute(|routes| routes[0].upstreams = vec![upstream_on(first, None), upstream_on(second, None)]);
    let mut open = Vec::new();
    for listener in [&one, &two, &one, &two] {
        let mut client = scene.connect().await;
        client.send(scene.good("/chat", &[])).await;
        let (mut upstream, _) = soon(listener.accept()).await.unwrap();
        upstream.write_all(accepted(&[]).as_bytes()).await.unwrap();
        client.head().await;
        open.push((client, upstream));
        // Another list, or other keys: what is known of the upstreams stays.
        scene.swap(None);
    }
    let carried: Vec<usize> = scene.gate.snapshot().choices().iter().map(|node| node.sessions()).collect();
    assert_eq!(carried, [2, 2]);
}

#[tokio::test]
async fn where_one_upstream_cannot_be_reached_the_next_one_gets_the_session() {
    let mut scene = Scene::new().await;
    let (socket, down) = nobody();
    let (listener, up) = listener().await;
    scene.reroute(|routes| routes[0].upstreams = vec![upstream_on(down, None), upstream_on(up, None)]);
    let served = tokio::spawn(async move {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        serve_one(&mut stream, 5).await
    });
    echoes(&mut scene, b"hello").await;
    soon(served).await.unwrap();

    let node = Arc::clone(&scene.gate.snapshot().choices()[0]);
    assert!(node.is_down());
    probe(&node, Duration::from_secs(5)).await;
    assert!(node.is_down());
    let _listener = socket.listen(1).unwrap();
    probe(&node, Duration::from_secs(5)).await;
    assert!(!node.is_down());
}

#[tokio::test]
async fn a_request_that_an_upstream_may_have_seen_is_not_sent_to_another() {
    let mut scene = Scene::new().await;
    let (one, first) = listener().await;
    let (two, second) = listener().await;
    scene.reroute(|routes| routes[0].upstreams = vec![upstream_on(first, None), upstream_on(second, None)]);
    let mut client = scene.connect().await;
    client.send(scene.good("/chat", &[])).await;
    let (mut upstream, _) = soon(one.accept()).await.unwrap();
    soon(upstream.read_u8()).await.unwrap();
    drop(upstream);
    client.rejection().await.is(502, "upstream/bad_handshake");
    let two = two.into_std().unwrap();
    assert_eq!(two.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_upstream_on_a_unix_socket_is_served_like_any_other() {
    let mut scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let upstream = Upstream { place: Place::Unix(path), tls: None, path: None };
    scene.reroute(|routes| routes[0].upstreams = vec![upstream]);
    let message = vec![7; 300_000];
    let length = message.len();
    let served = tokio::spawn(async move {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        serve_one(&mut stream, length).await
    });
    echoes(&mut scene, &message).await;
    assert!(soon(served).await.unwrap().starts_with("GET /chat HTTP/1.1\r\n"));
}

/// An authority, in a file, and a certificate of it for 127.0.0.1.
fn authority(file: &Path) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()).into()
}

#[tokio::test]
async fn an_upstream_behind_tls_is_served_when_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let acceptor = authority(&file);
    let mut scene = Scene::new().await;
    let (listener, port) = listener().await;
    let over_tls = |ca| Upstream { tls: Some(UpstreamTls { ca }), ..upstream_on(port, None) };
    scene.reroute(|routes| routes[0].upstreams = vec![over_tls(Some(file))]);
    let message = vec![7; 300_000];
    let length = message.len();
    let served = tokio::spawn(async move {
        let (stream, _) = soon(listener.accept()).await.unwrap();
        serve_one(&mut soon(acceptor.accept(stream)).await.unwrap(), length).await;
        // The next client does not trust it.
        let (stream, _) = soon(listener.accept()).await.unwrap();
        assert!(soon(acceptor.accept(stream)).await.is_err());
    });
    echoes(&mut scene, &message).await;

    scene.reroute(|routes| routes[0].upstreams = vec![over_tls(None)]);
    let opening = scene.good("/chat", &[]);
    let (_, rejection) = scene.rejects(&opening, 502, "upstream/unreachable").await;
    let note = rejection.note.unwrap();
    assert!(note.contains("UnknownIssuer"), "{note}");
    soon(served).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_swallows_connections_leaves_time_for_the_next() {
    let mut scene =
        Scene::with(Limits { upstream_timeout: Duration::from_secs(2), ..Limits::default() }).await;
    // Behind a full queue, connections are neither accepted nor refused.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(0).unwrap();
    let swallowing = full.local_addr().unwrap();
    let _first = tokio::net::TcpStream::connect(swallowing).await.unwrap();
    let (listener, port) = listener().await;
    scene.reroute(|routes| {
        routes[0].upstreams = vec![upstream_on(swallowing.port(), None), upstream_on(port, None)];
    });
    let served = tokio::spawn(async move {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        serve_one(&mut stream, 5).await
    });
    echoes(&mut scene, b"hello").await;
    soon(served).await.unwrap();
}
