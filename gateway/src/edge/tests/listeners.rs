//! Listeners with TLS, behind proxies, and of HTTP/2.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::scene::{Peer, Scene, accepted, denying, request, soon};
use super::tenure;
use crate::audit::Entry;
use crate::auth::Certificate;
use crate::config::{self, ClaimPath, ClaimTest, ClaimValue, ClientAddress, Limits};
use crate::edge::{Listener, Material, Tls};
use crate::rejection::Reason;

/// An authority and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate with this name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        self.sign_until(name, 4_000_000_000)
    }

    /// The same, which is valid through this second since 1970.
    fn sign_until(&self, name: &str, last: u64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(last);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn rules(client_address: ClientAddress) -> config::Listen {
    config::Listen {
        address: "127.0.0.1:0".parse().unwrap(),
        client_address,
        trusted_proxies: match client_address {
            ClientAddress::Connection => Vec::new(),
            _ => vec!["127.0.0.1/32".parse().unwrap()],
        },
        tls: None,
    }
}

pub(super) fn proxied(client_address: ClientAddress) -> Listener {
    Listener::new(&rules(client_address), None)
}

/// TLS with certificates of these names, and perhaps asking clients for theirs.
fn tls(authority: &Authority, names: &[&str], clients: Option<(&Authority, bool)>) -> Arc<Tls> {
    tls_asking(authority, names, clients.map(|(clients, required)| (clients.pem(), required)))
}

/// The same, with the authorities of clients as their file has them.
fn tls_asking(authority: &Authority, names: &[&str], clients: Option<(String, bool)>) -> Arc<Tls> {
    let pairs: Vec<_> = names.iter().map(|name| authority.sign(name)).collect();
    let material = Material {
        certificates: pairs.iter().map(|(own, key)| (own.as_bytes(), key.as_bytes())).collect(),
        client_ca: clients.as_ref().map(|(ca, _)| ca.as_bytes()),
        client_certificate_required: clients.as_ref().is_some_and(|(_, required)| *required),
        tls12: true,
        http2: true,
    };
    Arc::new(Tls::new(&material).unwrap())
}

fn secured(tls: Arc<Tls>) -> Listener {
    Listener::new(&rules(ClientAddress::Connection), Some(tls))
}

/// How a client speaks TLS.
fn client(authority: &Authority, own: Option<&(String, String)>, protocols: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut client = match own {
        None => builder.with_no_client_auth(),
        Some((own, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(own.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    client.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    client
}

type Secured = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(scene: &Scene, client: ClientConfig, name: &'static str) -> Secured {
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    soon(connector.connect(ServerName::try_from(name).unwrap(), stream)).await.unwrap()
}

fn peer(stream: Secured) -> Peer<Secured> {
    Peer::new(stream)
}

/// The names in the certificate that the gate shows to who asks for `name`.
async fn shown(scene: &Scene, authority: &Authority, name: &'static str) -> String {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let stream = connect(scene, client(authority, None, &[]), name).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let (_, own) = X509Certificate::from_der(&chain[0]).unwrap();
    own.subject().iter_common_name().last().unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_over_tls_is_relayed_and_its_upstream_is_told_so() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    for versions in [[&version::TLS12], [&version::TLS13]] {
        let builder = ClientConfig::builder_with_protocol_versions(&versions);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let client = builder.with_root_certificates(roots).with_no_client_auth();
        let mut client = peer(connect(&scene, client, "gate.test").await);
        client.send(scene.good("/chat", &[])).await;
        let (asked, mut upstream) = scene.upstream().await;
        assert!(asked.contains("X-Forwarded-Proto: https\r\n"), "{asked}");
        upstream.send(accepted(&[])).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.send("up").await;
        assert_eq!(upstream.read(2).await, b"up");
        upstream.send("down").await;
        assert_eq!(client.read(4).await, b"down");
        assert!(matches!(scene.entry().await, Entry::Admitted { .. }));
        drop((client, upstream));
        assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    }
}

#[tokio::test]
async fn each_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test", "chat.test", "*.wild.test"], None)));
    assert_eq!(shown(&scene, &authority, "chat.test").await, "chat.test");
    assert_eq!(shown(&scene, &authority, "GATE.test").await, "gate.test");
    assert_eq!(shown(&scene, &authority, "a.wild.test").await, "*.wild.test");
    // Whatever it is called, the first is shown; whether that will do is for the client to say.
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client(&authority, None, &[])));
    let name = ServerName::try_from("a.b.wild.test").unwrap();
    assert!(soon(connector.connect(name, stream)).await.is_err());
    let (rejection, _) = scene.rejected().await;
    assert_eq!(rejection.reason, Reason::HandshakeTls);
}

#[tokio::test]
async fn another_certificate_is_shown_to_the_next_client_and_open_sessions_stay() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    let mut client = peer(connect(&scene, client(&authority, None, &[]), "gate.test").await);
    client.send(scene.good("/chat", &[])).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(accepted(&[])).await;
    client.head().await;

    let other = Authority::new();
    scene.listen(secured(tls(&other, &["other.test"], None)));
    assert_eq!(shown(&scene, &other, "other.test").await, "other.test");
    client.send("still").await;
    assert_eq!(upstream.read(5).await, b"still");
}

#[tokio::test]
async fn a_client_without_tls_is_told_so_in_plain_words() {
    let mut scene = Scene::new().await;
    scene.listen(secured(tls(&Authority::new(), &["gate.test"], None)));
    let request = scene.good("/chat", &[]);
    let (answer, _) = scene.rejects(&request, 400, "handshake/tls").await;
    assert!(answer.body.contains("wss://"), "{answer:?}");
    assert!(scene.upstream_is_untouched());
    // What is neither is an alert, and a record.
    let mut garbage = scene.connect().await;
    garbage.send([0, 1, 2, 3, 4, 5, 6, 7]).await;
    garbage.read_to_end().await;
    assert_eq!(scene.rejected().await.0.reason, Reason::HandshakeTls);
}

#[tokio::test]
async fn a_handshake_of_tls_that_does_not_end_is_cut_and_silence_is_nobody() {
    let limits = Limits { tls_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    scene.listen(secured(tls(&Authority::new(), &["gate.test"], None)));
    let mut slow = scene.connect().await;
    slow.send([22, 3, 1]).await;
    assert_eq!(slow.read_to_end().await, b"");
    let (rejection, _) = scene.rejected().await;
    assert_eq!(rejection.reason, Reason::HandshakeTimeout);
}

#[tokio::test]
async fn a_denied_address_is_told_so_over_tls_and_over_http2() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    scene.swap(Some(denying([127, 0, 0, 1].into())));
    for protocols in [&[][..], &[&b"h2"[..], b"http/1.1"]] {
        let mut denied = peer(connect(&scene, client(&authority, None, protocols), "gate.test").await);
        denied.send(request("/chat", &[])).await;
        denied.rejection().await.is(403, "firewall/denied_range");
        assert_eq!(scene.rejected().await.0.reason, Reason::FirewallDeniedRange);
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_named_authority_admits_where_one_is_required() {
    let mut scene = Scene::new().await;
    let (authority, clients) = (Authority::new(), Authority::new());
    let robot = clients.sign("robot");
    scene.listen(secured(tls(&authority, &["gate.test"], Some((&clients, true)))));
    let stranger = Authority::new().sign("robot");
    for own in [None, Some(&stranger)] {
        for path in ["/chat", "/tickets"] {
            let mut refused = peer(connect(&scene, client(&authority, own, &[]), "gate.test").await);
            refused.send(scene.good("/chat", &[])).await;
            refused.rejection().await.is(401, "credentials/certificate");
            assert_eq!(scene.rejected().await.0.reason, Reason::CredentialsCertificate, "{path}");
        }
    }
    assert!(scene.upstream_is_untouched());
    let mut good = peer(connect(&scene, client(&authority, Some(&robot), &[]), "gate.test").await);
    good.send(scene.good("/chat", &[])).await;
    scene.upstream().await;
}

#[tokio::test]
async fn a_session_ends_when_the_certificate_of_its_client_expires() {
    let mut scene = Scene::in_time(Limits::default()).await;
    let (authority, clients) = (Authority::new(), Authority::new());
    let now = scene.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let robot = clients.sign_until("robot", now + 1);
    scene.listen(secured(tls(&authority, &["gate.test"], Some((&clients, true)))));
    let mut client = peer(connect(&scene, client(&authority, Some(&robot), &[]), "gate.test").await);
    client.send(scene.good("/chat", &[])).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(&accepted(&[])).await;
    client.head().await;
    assert!(matches!(scene.entry().await, Entry::Admitted { .. }));
    tenure::ends(&mut scene, &mut client, &mut upstream, Reason::CredentialsCertificate).await;
}

/// A message of a client, with a mask of zeroes.
const MESSAGE: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];

#[tokio::test]
async fn a_session_ends_when_nobody_vouches_for_the_certificate_of_its_client_any_more() {
    let mut scene = Scene::in_time(Limits::default()).await;
    let (authority, clients) = (Authority::new(), Authority::new());
    let robot = clients.sign("robot");
    scene.listen(secured(tls(&authority, &["gate.test"], Some((&clients, true)))));
    let mut client = peer(connect(&scene, client(&authority, Some(&robot), &[]), "gate.test").await);
    client.send(scene.good("/chat", &[])).await;
    let (_, mut upstream) = scene.upstream().await;
    upstream.send(&accepted(&[])).await;
    client.head().await;
    assert!(matches!(scene.entry().await, Entry::Admitted { .. }));

    // The same authority, read anew; then it stands behind another one.
    let both = Authority::new().pem() + &clients.pem();
    for authorities in [clients.pem(), both] {
        scene.listen(secured(tls_asking(&authority, &["gate.test"], Some((authorities, true)))));
        client.send(MESSAGE).await;
        assert_eq!(upstream.read(MESSAGE.len()).await, MESSAGE);
    }
    scene.listen(secured(tls(&authority, &["gate.test"], Some((&Authority::new(), true)))));
    tenure::ends(&mut scene, &mut client, &mut upstream, Reason::CredentialsCertificate).await;
}

#[tokio::test]
async fn what_a_certificate_says_is_a_claim_and_binds_the_tokens_made_for_it() {
    let mut scene = Scene::new().await;
    let (authority, clients) = (Authority::new(), Authority::new());
    let (robot, other) = (clients.sign("robot"), clients.sign("other"));
    scene.listen(secured(tls(&authority, &["gate.test"], Some((&clients, false)))));
    let thumbprint = |(own, _): &(String, String)| {
        let der = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
        Certificate::parse(&der).unwrap().thumbprint().to_owned()
    };
    let mut confirmed = serde_json::Map::new();
    confirmed.insert("cnf".to_owned(), serde_json::json!({ "x5t#S256": thumbprint(&robot) }));
    let bound = scene.token_with("alice", &["chat:read"], 0, 60, confirmed);
    let asking = request("/chat", &[&format!("Authorization: Bearer {bound}")]);
    for (own, reason) in [(None, "credentials/bound"), (Some(&other), "credentials/bound")] {
        let mut refused = peer(connect(&scene, client(&authority, own, &[]), "gate.test").await);
        refused.send(&asking).await;
        refused.rejection().await.is(401, reason);
        scene.rejected().await;
    }
    let mut good = peer(connect(&scene, client(&authority, Some(&robot), &[]), "gate.test").await);
    good.send(&asking).await;
    scene.upstream().await;

    scene.reroute(|routes| {
        let claim = ClaimPath(vec!["certificate".to_owned(), "common_name".to_owned()]);
        let value = ClaimValue::Text("robot".to_owned());
        routes[0].claims.all = vec![ClaimTest { claim, values: vec![value] }];
    });
    let asking = scene.good("/chat", &[]);
    for own in [None, Some(&other)] {
        let mut refused = peer(connect(&scene, client(&authority, own, &[]), "gate.test").await);
        refused.send(&asking).await;
        refused.rejection().await.is(403, "scope/insufficient_claims");
    }
    let mut good = peer(connect(&scene, client(&authority, Some(&robot), &[]), "gate.test").await);
    good.send(&asking).await;
    scene.upstream().await;
}

#[tokio::test]
async fn the_address_that_a_trusted_proxy_names_is_the_one_that_is_judged_and_recorded() {
    let mut scene = Scene::new().await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x1f\x90\0\x50".to_vec();
    let by =
        |source: ClientAddress, before: &[u8], header: &str| (source, before.to_vec(), header.to_owned());
    for (source, before, header) in [
        by(ClientAddress::ProxyProtocol, b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n", "A: b"),
        by(ClientAddress::ProxyProtocol, &v2, "X-Forwarded-For: 198.51.100.1"),
        by(ClientAddress::XForwardedFor, b"", "X-Forwarded-For: 198.51.100.1, 192.0.2.1"),
        by(ClientAddress::Forwarded, b"", "Forwarded: for=198.51.100.1, for=192.0.2.1;proto=https"),
    ] {
        scene.listen(proxied(source));
        let mut client = scene.connect().await;
        client.send([&before, scene.good("/chat", &[&header]).as_bytes()].concat()).await;
        let (asked, mut upstream) = scene.upstream().await;
        assert!(asked.contains("X-Forwarded-For: 192.0.2.1\r\n"), "{source:?}: {asked}");
        let secure = asked.contains("X-Forwarded-Proto: https\r\n");
        assert_eq!(secure, source == ClientAddress::Forwarded);
        upstream.send(accepted(&[])).await;
        let Entry::Admitted { client: named, .. } = scene.entry().await else { panic!("admitted") };
        assert_eq!(named.ip().to_string(), "192.0.2.1", "{source:?}");
        // The policy is that of the client, during its session, too.
        scene.swap(Some(denying([192, 0, 2, 1].into())));
        assert!(matches!(scene.entry().await, Entry::Ended { rejection: Some(_), .. }));
        let mut denied = scene.connect().await;
        denied.send([&before, scene.good("/chat", &[&header]).as_bytes()].concat()).await;
        denied.rejection().await.is(403, "firewall/denied_range");
        let Entry::Rejected { client: named, .. } = scene.entry().await else { panic!("rejected") };
        assert_eq!(named.ip().to_string(), "192.0.2.1", "{source:?}");
        scene.swap(None);
    }
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_is_believed() {
    let mut scene = Scene::new().await;
    for source in [ClientAddress::Connection, ClientAddress::XForwardedFor, ClientAddress::Forwarded] {
        let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
        scene.listen(Listener::new(&config::Listen { trusted_proxies, ..rules(source) }, None));
        let forged = ["X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9"];
        let (client, _upstream, asked) = scene.open(&scene.good("/chat", &forged)).await;
        assert!(asked.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{asked}");
        drop(client);
        assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    }
    let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let rules = config::Listen { trusted_proxies, ..rules(ClientAddress::ProxyProtocol) };
    scene.listen(Listener::new(&rules, None));
    let forged = format!("PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n{}", scene.good("/chat", &[]));
    scene.rejects(&forged, 400, "handshake/malformed").await;
}

#[tokio::test]
async fn a_proxy_that_does_not_say_who_its_client_is_is_not_the_fault_of_the_client() {
    let limits = Limits { proxy_header_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    scene.listen(proxied(ClientAddress::ProxyProtocol));
    let request = scene.good("/chat", &[]);
    let (answer, rejection) = scene.rejects(&request, 502, "handshake/proxy_header").await;
    assert!(answer.header("Retry-After").is_some());
    assert!(rejection.note.is_some_and(|note| note.contains("127.0.0.1")));
    scene.rejects("PROXY TCP4 192.0", 502, "handshake/proxy_header").await;
    scene.listen(proxied(ClientAddress::Forwarded));
    let hidden = scene.good("/chat", &["Forwarded: for=unknown"]);
    scene.rejects(&hidden, 502, "handshake/proxy_header").await;
    assert!(scene.upstream_is_untouched());
}

#[tokio::test]
async fn a_proxy_brings_more_clients_than_one_address_may_be() {
    let limits = Limits { sessions_per_address: 1, ..Limits::default() };
    let mut scene = Scene::with(limits).await;
    scene.listen(proxied(ClientAddress::XForwardedFor));
    let mut open = Vec::new();
    for number in 1..=3 {
        let asking = scene.good("/chat", &[&format!("X-Forwarded-For: 192.0.2.{number}")]);
        open.push(scene.open(&asking).await);
    }
    let again = scene.good("/chat", &["X-Forwarded-For: 192.0.2.2"]);
    scene.rejects(&again, 429, "limit/address_sessions").await;
}

/// A connection of HTTP/2 to the gate.
async fn http2(scene: &Scene, authority: &Authority) -> SendRequest<Bytes> {
    let stream = connect(scene, client(authority, None, &[b"h2"]), "gate.test").await;
    let (send, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    let driven = tokio::spawn(async move {
        // It ends with the test.
        let _ = connection.await;
    });
    drop(driven);
    let mut send = soon(send.ready()).await.unwrap();
    // The settings of the gate have to be here.
    while !send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
        send = soon(send.ready()).await.unwrap();
    }
    send
}

/// A text message of the upstream, unmasked: "hello".
const GREETING: &[u8] = b"\x81\x05hello";

/// Asks for a WebSocket (RFC 8441).
async fn ask(
    send: &mut SendRequest<Bytes>,
    scene: &Scene,
    path: &str,
    token: Option<&str>,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://gate.test{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let (answer, sending) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let answering = async {
        let playing = async {
            if token.is_some() && path == "/chat" {
                let (asked, mut upstream) = scene.upstream().await;
                let key = asked.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                upstream.send([head.as_bytes(), GREETING].concat()).await;
                // Echoes what comes, to its end.
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) =
                        tokio::io::AsyncReadExt::read(&mut upstream.stream, &mut bytes).await
                    {
                        upstream.stream.write_all(&bytes[..count]).await.unwrap();
                    }
                });
            }
        };
        tokio::join!(answer, playing).0
    };
    (soon(answering).await.unwrap(), sending)
}

/// Reads `count` bytes at least.
async fn read(body: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let piece = soon(body.data()).await.expect("more").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// Nothing more comes.
async fn ends(body: &mut RecvStream) {
    while let Some(piece) = soon(body.data()).await {
        assert!(piece.unwrap().is_empty());
    }
}

#[tokio::test]
async fn many_sessions_share_a_connection_of_http2_and_each_is_judged_by_itself() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    let mut send = http2(&scene, &authority).await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let mut open = Vec::new();
    for number in 0..3_u8 {
        let (answer, mut sending) = ask(&mut send, &scene, "/chat", Some(&token)).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("gatehouse-id"));
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        let mut body = answer.into_body();
        assert_eq!(read(&mut body, GREETING.len()).await, GREETING);
        // Far more than one window.
        let much = vec![number; 300_000];
        let echoed = async { read(&mut body, much.len()).await };
        let sent = async {
            let mut left = &much[..];
            while !left.is_empty() {
                sending.reserve_capacity(left.len());
                let capacity = std::future::poll_fn(|context| sending.poll_capacity(context)).await;
                let (now, rest) = left.split_at(capacity.unwrap().unwrap().min(left.len()));
                sending.send_data(Bytes::copy_from_slice(now), false).unwrap();
                left = rest;
            }
        };
        assert!(soon(async { tokio::join!(echoed, sent).0 }).await == much);
        assert!(matches!(scene.entry().await, Entry::Admitted { .. }));
        open.push((sending, body));
    }
    let (answer, _sending) = ask(&mut send, &scene, "/chat2", Some(&token)).await;
    assert_eq!(answer.status(), 404);
    let header = answer.headers()["gatehouse-rejection"].to_str().unwrap().to_owned();
    assert!(header.contains("reason=no_route"), "{header}");
    let (answer, _sending) = ask(&mut send, &scene, "/chat", None).await;
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    for reason in [Reason::HandshakeNoRoute, Reason::CredentialsMissing] {
        assert_eq!(scene.rejected().await.0.reason, reason);
    }
    // A client that ends its half ends its session, and no other.
    let (mut sending, mut body) = open.pop().unwrap();
    sending.send_data(Bytes::new(), true).unwrap();
    ends(&mut body).await;
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    let (mut sending, body) = open.pop().unwrap();
    sending.send_reset(h2::Reason::CANCEL);
    drop(body);
    assert!(matches!(scene.entry().await, Entry::Ended { .. }));
    let (sending, body) = &mut open[0];
    sending.send_data(Bytes::from_static(b"alive"), false).unwrap();
    assert_eq!(read(body, 5).await, b"alive");
}

#[tokio::test]
async fn what_is_served_besides_sessions_is_served_over_http2_too() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    let mut send = http2(&scene, &authority).await;
    for (path, status) in [("/.well-known/jwks.json", 200), ("/chat", 426)] {
        let request = Request::builder().uri(format!("https://gate.test{path}")).body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.status(), status);
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let mut body = answer.into_body();
        assert_eq!(read(&mut body, length).await.len(), length);
        ends(&mut body).await;
    }
}

#[tokio::test]
async fn a_gate_that_stops_ends_connections_of_http2_with_their_sessions() {
    let mut scene = Scene::new().await;
    let authority = Authority::new();
    scene.listen(secured(tls(&authority, &["gate.test"], None)));
    let mut send = http2(&scene, &authority).await;
    let token = scene.token("alice", &["chat:read"], 0, 60);
    let (answer, mut sending) = ask(&mut send, &scene, "/chat", Some(&token)).await;
    let mut body = answer.into_body();
    assert_eq!(read(&mut body, GREETING.len()).await, GREETING);
    scene.stop.cancel();
    // A Close frame with 1001 (RFC 6455 §7.4.1), to be answered.
    let close = read(&mut body, 4).await;
    assert_eq!((close[0], &close[2..4]), (0x88, &1001_u16.to_be_bytes()[..]));
    sending.send_data(Bytes::from_static(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]), true).unwrap();
    soon(&mut scene.served).await.unwrap();
}
