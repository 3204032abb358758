//! A gate with one issuer in front of an upstream that the test plays itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditSink, Entry};
use crate::auth::revocation::{InForce, Revocation, Revocations};
use crate::auth::sign::{Claims, SigningKey};
use crate::auth::{Authenticator, Issuer, KeySet, Requirement};
use crate::config::{self, KeySource, Limits, ScopeRule, TokenSources};
use crate::edge::{Gate, Listener, Snapshot, Sources, serve};
use crate::policy::{self, Generation, ListEntry, PolicyInput, SourceTable, Tier, Verdict};
use crate::rejection::Rejection;
use crate::rejection::http::Problem;
use crate::session::client::Header;

/// Enough for a busy machine; reaching it fails the test.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const PUBLIC_URL: &str = "https://gate.test";

pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Waits for what must come.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

pub(super) struct Scene {
    pub(super) address: SocketAddr,
    pub(super) gate: Arc<Gate>,
    pub(super) stop: CancellationToken,
    pub(super) served: JoinHandle<()>,
    entries: UnboundedReceiver<Entry>,
    upstream: TcpListener,
    /// The same listener, which can be asked without waiting.
    upstream_std: std::net::TcpListener,
    routes: Vec<config::Route>,
    listener: Arc<Listener>,
    revocations: InForce,
    keys: Arc<KeySet>,
    signer: SigningKey,
    now: fn() -> SystemTime,
    _down: TcpSocket,
    _folder: TempDir,
}

struct Recorder(UnboundedSender<Entry>);

impl AuditSink for Recorder {
    fn record(&self, entry: Entry) {
        // The test may be over.
        let _ = self.0.send(entry);
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(2_000_000_000)
}

/// The same time at the first call, and a clock that goes from then on.
fn moving() -> SystemTime {
    static START: OnceLock<Instant> = OnceLock::new();
    now() + START.get_or_init(Instant::now).elapsed()
}

fn random() -> [u8; 10] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 10];
    id[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    id
}

/// An upstream on this host.
pub(super) fn upstream_on(port: u16, at: Option<&str>) -> config::Upstream {
    let place = config::Place::Tcp { host: "127.0.0.1".to_owned(), port };
    config::Upstream { place, tls: None, path: at.map(str::to_owned) }
}

fn issuer() -> config::Issuer {
    config::Issuer {
        name: "main".to_owned(),
        issuer: "https://idp.test".to_owned(),
        audience: vec!["https://gate.test".to_owned()],
        keys: KeySource::SigningKey("unused".into()),
        algorithms: vec![Algorithm::EdDSA],
        typ: None,
        leeway: Duration::ZERO,
        scope_claim: None,
        introspection: None,
        serve_keys: true,
        profile: config::Profile::Rfc9068,
        require: Vec::new(),
        max_lifetime: None,
    }
}

impl Scene {
    /// `/chat` leads to the upstream, `/other` to another path of it, `/app` takes one origin, and
    /// behind `/down` nobody listens.
    pub(super) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        Self::with_clock(limits, now).await
    }

    /// The same, in which time passes.
    pub(super) async fn in_time(limits: Limits) -> Self {
        Self::with_clock(limits, moving).await
    }

    async fn with_clock(limits: Limits, now: fn() -> SystemTime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let keys = KeySet::load_or_create(&KeySource::SigningKey(path.clone()), 1 << 16).unwrap().keys;
        let (signer, _) = SigningKey::load(&path, 1 << 16, SystemTime::now()).unwrap();

        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let upstream_std = upstream.try_clone().unwrap();
        let upstream = TcpListener::from_std(upstream).unwrap();
        // A port that is ours and on which nobody listens.
        let down = TcpSocket::new_v4().unwrap();
        down.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = upstream.local_addr().unwrap().port();
        let route = |path: &str, port, at: Option<&str>, origins: Option<&[&str]>| config::Route {
            path: path.to_owned(),
            upstreams: vec![upstream_on(port, at)],
            issuers: vec!["main".to_owned()],
            scopes: ScopeRule::all(vec!["chat:read".to_owned()]),
            claims: config::ClaimRule::default(),
            max_age: None,
            origins: origins.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
            sources: TokenSources::default(),
            limits: config::RouteLimits::default(),
            browser: config::Browser::Status,
            renewal: false,
            control: None,
        };
        let routes = vec![
            route("/chat", port, None, None),
            route("/other", port, Some("/elsewhere"), None),
            route("/app", port, None, Some(&["https://app.test"])),
            route("/down", down.local_addr().unwrap().port(), None, None),
        ];
        let (sender, entries) = unbounded_channel();
        let sources = Sources { now, random };
        let gate = Arc::new(Gate::new(Snapshot::default(), limits, Arc::new(Recorder(sender)), sources));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, address, Arc::clone(&gate), stop.clone(), stop.clone()));
        let keys = Arc::new(keys);
        let scene = Self {
            address,
            gate,
            stop,
            served,
            entries,
            upstream,
            upstream_std,
            routes,
            listener: Arc::default(),
            revocations: InForce::default(),
            keys,
            signer,
            now,
            _down: down,
            _folder: folder,
        };
        scene.swap(None);
        scene
    }

    /// Puts another address policy in force.
    pub(super) fn swap(&self, policy: Option<Generation>) {
        self.snapshot(Arc::clone(&self.keys), policy);
    }

    /// Takes tokens from these places on all routes.
    pub(super) fn take_tokens_from(&mut self, sources: &TokenSources) {
        self.reroute(|routes| routes.iter_mut().for_each(|route| route.sources = sources.clone()));
    }

    /// The time of the gate.
    pub(super) fn now(&self) -> SystemTime {
        (self.now)()
    }

    /// What the route `/chat` demands, where the issuer has these keys.
    pub(super) fn requirement_with(&self, keys: KeySet) -> Requirement {
        Authenticator::new([Issuer::new(issuer(), Arc::new(keys))]).requirement(&self.routes[0])
    }

    /// Changes the routes.
    pub(super) fn reroute(&mut self, change: impl FnOnce(&mut Vec<config::Route>)) {
        change(&mut self.routes);
        self.swap(None);
    }

    /// Revokes these, and nothing else.
    pub(super) fn revoke(&self, revocations: Vec<Revocation>) {
        self.revocations.set(Revocations::new(revocations, self.now()));
        self.gate.judge_again();
    }

    /// Listens by other rules from now on.
    pub(super) fn listen(&mut self, listener: Listener) {
        self.listener = Arc::new(listener);
        self.swap(None);
    }

    /// Takes the issuer's keys away.
    pub(super) fn lose_keys(&self) {
        self.snapshot(Arc::default(), None);
    }

    fn snapshot(&self, keys: Arc<KeySet>, policy: Option<Generation>) {
        let authenticator =
            Authenticator::new([Issuer::new(issuer(), keys)]).revoking(self.revocations.clone());
        let snapshot = Snapshot::new(&self.routes, &authenticator, policy.map(Arc::new), Some(PUBLIC_URL));
        let listeners = [(self.address, Arc::clone(&self.listener))];
        self.gate.swap(snapshot.listening(listeners.into()));
    }

    /// A token of `subject` with these scopes that is valid for `ttl` seconds from `age` seconds
    /// ago.
    pub(super) fn token(&self, subject: &str, scopes: &[&str], age: u64, ttl: u64) -> String {
        self.token_with(subject, scopes, age, ttl, serde_json::Map::new())
    }

    /// The same with more claims.
    pub(super) fn token_with(
        &self,
        subject: &str,
        scopes: &[&str],
        age: u64,
        ttl: u64,
        more: serde_json::Map<String, serde_json::Value>,
    ) -> String {
        let issuer = issuer();
        let claims = Claims {
            issuer: issuer.issuer,
            subject: subject.to_owned(),
            audience: issuer.audience,
            scopes: scopes.iter().map(|one| (*one).to_owned()).collect(),
            ttl: Duration::from_secs(ttl),
            more,
        };
        self.signer.sign(&claims, (self.now)() - Duration::from_secs(age), [1; 16]).unwrap()
    }

    /// The header of a token that admits `subject`.
    pub(super) fn good_token(&self, subject: &str) -> String {
        format!("Authorization: Bearer {}", self.token(subject, &["chat:read"], 0, 60))
    }

    /// A valid handshake of alice with more headers.
    pub(super) fn good(&self, path: &str, more: &[&str]) -> String {
        let token = self.good_token("alice");
        request(path, &[&[token.as_str()], more].concat())
    }

    pub(super) async fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    pub(super) async fn connect_from(&self, source: Ipv4Addr) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Peer::new(socket.connect(self.address).await.unwrap())
    }

    /// The answer to `request`.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut peer = self.connect().await;
        peer.send(request).await;
        peer.rejection().await
    }

    /// The next handshake that reaches the upstream.
    pub(super) async fn upstream(&self) -> (String, Peer) {
        let (stream, _) = soon(self.upstream.accept()).await.unwrap();
        let mut peer = Peer::new(stream);
        (peer.head().await, peer)
    }

    /// Whether no connection to the upstream waits to be accepted.
    pub(super) fn upstream_is_untouched(&self) -> bool {
        matches!(self.upstream_std.accept(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Opens a session: the client, and the upstream with what it was asked.
    pub(super) async fn open(&mut self, request: &str) -> (Peer, Peer, String) {
        let mut client = self.connect().await;
        client.send(request).await;
        let (asked, mut upstream) = self.upstream().await;
        upstream.send(&accepted(&[])).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(matches!(self.entry().await, Entry::Admitted { .. }));
        (client, upstream, asked)
    }

    /// The next entry of the trail.
    pub(super) async fn entry(&mut self) -> Entry {
        soon(self.entries.recv()).await.expect("the gate lives")
    }

    /// The next entry of the trail, which is a rejection, with its route.
    pub(super) async fn rejected(&mut self) -> (Rejection, Option<String>) {
        match self.entry().await {
            Entry::Rejected { rejection, route, .. } => (*rejection, route),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a request that must be rejected as `name`; the answer and the trail agree.
    pub(super) async fn rejects(&mut self, request: &str, status: u16, name: &str) -> (Answer, Rejection) {
        let answer = self.ask(request).await;
        let (rejection, _) = self.rejected().await;
        assert_eq!(rejection.reason.to_string(), name, "{request:?} {rejection:?}");
        answer.is(status, name);
        (answer, rejection)
    }
}

/// A policy that drops one address.
pub(super) fn denying(address: Ipv4Addr) -> Generation {
    let entries = vec![ListEntry { prefix: IpAddr::from(address).into(), line: 3 }];
    let list = policy::List { tier: Tier::Deny, name: "deny.list".into(), entries };
    let input = PolicyInput { default: Verdict::Pass, lists: vec![Arc::new(list)] };
    policy::compile(1, &input, &policy::CompileLimits::default(), &mut SourceTable::default()).unwrap()
}

/// A valid handshake with more headers.
pub(super) fn request(path: &str, more: &[&str]) -> String {
    let mut lines = vec![
        "Host: gate.test",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
    ];
    let key = format!("Sec-WebSocket-Key: {KEY}");
    lines.push(&key);
    lines.extend(more);
    raw(&format!("GET {path} HTTP/1.1"), &lines)
}

pub(super) fn raw(first: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{first}\r\n{headers}\r\n")
}

/// A valid answer of the upstream with more headers.
pub(super) fn accepted(more: &[&str]) -> String {
    let accept = format!("Sec-WebSocket-Accept: {}", derive_accept_key(KEY.as_bytes()));
    let lines = ["Upgrade: websocket", "Connection: Upgrade", &accept];
    raw("HTTP/1.1 101 Switching Protocols", &[&lines[..], more].concat())
}

/// One end of a connection.
pub(super) struct Peer<S = TcpStream> {
    pub(super) stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream }
    }

    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        soon(self.stream.write_all(text.as_ref())).await.unwrap();
    }

    /// Reads to the empty line and not beyond.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    pub(super) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon(self.stream.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    /// Waits until the other side has ended, with or without a goodbye; nothing more comes before that.
    pub(super) async fn gone(&mut self) {
        assert!(matches!(soon(self.stream.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    }

    /// Waits for the reset of the connection, before which nothing more comes.
    pub(super) async fn is_reset(&mut self) {
        let error = soon(self.stream.read_u8()).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// The answer, after which the gate closes.
    pub(super) async fn rejection(&mut self) -> Answer {
        let text = String::from_utf8(self.read_to_end().await).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        Answer { head: format!("{head}\r\n"), body: body.to_owned() }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(super) fn problem(&self) -> Problem {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Status, header and document all say the same.
    pub(super) fn is(&self, status: u16, name: &str) {
        let header = Header::parse(self.header("Gatehouse-Rejection").unwrap().as_bytes()).unwrap();
        let problem = self.problem();
        assert_eq!((self.status(), problem.status), (status, status), "{self:?}");
        assert_eq!(format!("{}/{}", header.layer, header.reason), name);
        assert_eq!(format!("{}/{}", problem.layer, problem.reason), name);
        assert_eq!(header.id, problem.id);
        assert_eq!(self.header("Content-Length"), Some(self.body.len().to_string().as_str()));
    }
}
