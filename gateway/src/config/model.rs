//! The valid configuration. What stands here has been checked; a value of these types needs no
//! further validation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jsonwebtoken::Algorithm;

use super::admin::Admin;
use super::fetched::FetchedKeys;
use super::introspection::Introspection;
use super::remote::RemoteList;
use super::token_sources::TokenSources;
use crate::policy::{Tier, Verdict};

/// Everything in the configuration file.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file this was read from.
    pub file: PathBuf,
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// The address policy and where to attach; `None`: a gateway alone.
    pub firewall: Option<Firewall>,
    /// Who may issue tokens.
    pub issuers: Vec<Issuer>,
    /// What is guarded.
    pub routes: Vec<Route>,
    /// How clients know the gate: scheme and authority, without a path; `None`: nobody is told.
    pub public_url: Option<String>,
    /// What is revoked.
    pub revocation: RevocationFile,
    /// Every limit.
    pub limits: Limits,
    /// Where the built-in echo upstream listens, when there is one.
    pub echo: Option<SocketAddr>,
    /// Unix socket of the running daemon for `explain`, `status` and their like.
    pub control: Option<PathBuf>,
    /// Where the page, the metrics and the health of the daemon are; `None`: nowhere.
    pub admin: Option<Admin>,
    /// Folder for what has to outlive the daemon; `None`: nothing is kept.
    pub state: Option<PathBuf>,
}

impl Config {
    /// The lists that are fetched, and their tiers.
    pub fn remote_lists(&self) -> impl Iterator<Item = (Tier, &RemoteList)> {
        let patterns = self.firewall.iter().flat_map(|firewall| {
            let allow = firewall.allow.iter().map(|pattern| (Tier::Allow, pattern));
            allow.chain(firewall.deny.iter().map(|pattern| (Tier::Deny, pattern)))
        });
        patterns.filter_map(|(tier, pattern)| match &pattern.files {
            ListFiles::Remote(list) => Some((tier, list)),
            ListFiles::One(_) | ListFiles::Matching { .. } => None,
        })
    }
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address and port to bind.
    pub address: SocketAddr,
    /// Where the address of a client is learnt from.
    pub client_address: ClientAddress,
    /// Who is believed about the addresses of others; empty unless somebody is asked.
    pub trusted_proxies: Vec<IpNet>,
    /// How it is encrypted; `None`: it is not.
    pub tls: Option<ListenTls>,
}

/// Where the address of a client is learnt from, on a connection of a trusted proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// It is that of the connection; nobody is believed about another.
    #[default]
    Connection,
    /// The PROXY protocol, version 1 or 2, before anything else.
    ProxyProtocol,
    /// The header `Forwarded` (RFC 7239).
    Forwarded,
    /// The header `X-Forwarded-For`.
    XForwardedFor,
}

/// TLS to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// What is shown to clients, by the name that they ask for; the first to all others. Never empty.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates (PEM) of the authorities that certificates of clients must come from; `None`:
    /// clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether nobody is admitted without a certificate.
    pub client_certificate_required: bool,
    /// Whether TLS 1.2 is spoken, too.
    pub tls12: bool,
    /// Whether HTTP/2 is spoken (RFC 8441).
    pub http2: bool,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// Layer 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Names of the interfaces to attach to.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// Folder in a BPF file system for what stays in force without the daemon; `None`: nothing
    /// does.
    pub pins: Option<PathBuf>,
    /// Which traffic the verdicts apply to.
    pub ports: Ports,
    /// Deny lists.
    pub deny: Vec<ListPattern>,
    /// Allow lists.
    pub allow: Vec<ListPattern>,
    /// Prefixes that always pass, with the line of the configuration that has them.
    pub never_block: Vec<(IpNet, u32)>,
    /// Addresses of the host itself that always pass, too.
    pub protect: Vec<Protect>,
    /// The verdict on addresses in no list.
    pub default: Verdict,
    /// Rejected clients reported in full per second; the others are counted.
    pub reports_per_second: u32,
    /// When edits are put in force.
    pub reload: Reload,
}

/// When edits of lists are put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At once.
    Auto,
    /// When the operator says so, by `gatehouse apply`.
    Manual,
}

/// Addresses that the host needs, and that no list may take from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protect {
    /// The addresses of its own interfaces.
    Own,
    /// The routers that it sends through.
    Gateways,
    /// The servers that it asks for names.
    Resolvers,
    /// 127.0.0.0/8 (RFC 1122 §3.2.1.3) and ::1 (RFC 4291 §2.5.3).
    Loopback,
    /// 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291 §2.5.6).
    LinkLocal,
}

impl Protect {
    /// All of them: the default.
    pub const ALL: [Self; 5] = [Self::Own, Self::Gateways, Self::Resolvers, Self::Loopback, Self::LinkLocal];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Gateways => "gateways",
            Self::Resolvers => "resolvers",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
        }
    }

    /// How lists of these addresses are called where a list is named.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Own => "the host's own addresses",
            Self::Gateways => "the host's gateways",
            Self::Resolvers => "the host's resolvers",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
        }
    }
}

/// Where the firewall is pinned unless told otherwise.
pub const PINS: &str = "/sys/fs/bpf/gatehouse";

/// Which program mode to ask the driver for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, or not at all.
    Native,
    /// In the network stack, on any interface.
    Generic,
    /// Native where the driver can, generic otherwise.
    Auto,
    /// Nothing is attached; the lists decide at the gateway only.
    Off,
}

/// Which traffic of a denied source is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All of it, whatever the protocol.
    All,
    /// Only TCP to these destination ports of this host.
    Only(Vec<u16>),
}

/// One entry of `deny` or `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPattern {
    /// The file, or the files.
    pub files: ListFiles,
    /// Counted and reported, but not enforced.
    pub observe: bool,
    /// How far each of them may change at once.
    pub bounds: Bounds,
    /// Line of the configuration file, counted from 1.
    pub line: u32,
    /// Column of the configuration file, counted from 1.
    pub column: u32,
}

/// The files of one entry of `deny` or `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFiles {
    /// This file, by its absolute path.
    One(PathBuf),
    /// Every file that matches.
    Matching {
        /// The absolute glob.
        glob: String,
        /// The folder before its first wildcard.
        folder: PathBuf,
    },
    /// A list that is fetched.
    Remote(RemoteList),
}

/// How far a list may change at once; new content beyond that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries that may go, in per cent of those in force: 0 to 100.
    pub max_shrink: u32,
    /// Entries that may come, in per cent of those in force.
    pub max_growth: u32,
    /// A list with fewer entries in force than this may change as it likes.
    pub change_freely_below: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_shrink: 50, max_growth: 400, change_freely_below: 100 }
    }
}

/// Someone whose tokens can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The name used by routes and in the journal.
    pub name: String,
    /// The exact `iss` claim.
    pub issuer: String,
    /// Accepted `aud` values; one of them must be in the token.
    pub audience: Vec<String>,
    /// Where the keys are.
    pub keys: KeySource,
    /// Accepted algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `typ` header values, in lower case, without an `application/` prefix; `None`: any
    /// or absent.
    pub typ: Option<Vec<String>>,
    /// Tolerated clock difference.
    pub leeway: Duration,
    /// The claim that holds the scopes; `None`: `scope`, then `scp`.
    pub scope_claim: Option<ClaimPath>,
    /// How it is asked about tokens that only it can read; `None`: it is not.
    pub introspection: Option<Introspection>,
    /// Whether the gate serves the public keys, for others to verify tokens of ours.
    pub serve_keys: bool,
    /// Which claims have to be there.
    pub profile: Profile,
    /// What claims have to be.
    pub require: Vec<ClaimTest>,
    /// The longest time from `iat` to `exp`; `None`: any.
    pub max_lifetime: Option<Duration>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// None: the issuer is asked about each token.
    Nothing,
    /// A JWK set (RFC 7517 §5), in a file.
    JwkSet(PathBuf),
    /// PEM public keys (`PUBLIC KEY`, `RSA PUBLIC KEY`), in a file. No certificates.
    Pem(PathBuf),
    /// The raw bytes of an HMAC secret, in a file; a trailing newline is not part of it.
    Secret(PathBuf),
    /// A private key of ours (PKCS #8 PEM), made on first start when the file is absent; its
    /// public half verifies.
    SigningKey(PathBuf),
    /// A JWK set that is fetched from the issuer.
    Fetched(Box<FetchedKeys>),
}

/// A guarded path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The exact path that clients request, without a query.
    pub path: String,
    /// Where admitted sessions go: to the one that has the fewest; never empty.
    pub upstreams: Vec<Upstream>,
    /// Names of the issuers whose tokens are accepted; never empty.
    pub issuers: Vec<String>,
    /// What the token must allow.
    pub scopes: ScopeRule,
    /// What its claims must be.
    pub claims: ClaimRule,
    /// The longest time since the user signed in (`auth_time`); `None`: any.
    pub max_age: Option<Duration>,
    /// Origins of pages that may connect; `None`: any. Requests without an Origin header are not
    /// from pages and pass.
    pub origins: Option<Vec<String>>,
    /// Where clients put their tokens.
    pub sources: TokenSources,
    /// How much it carries.
    pub limits: RouteLimits,
    /// How clients hear that they are turned away.
    pub browser: Browser,
    /// Whether its open sessions can be renewed.
    pub renewal: bool,
    /// How long before its end a session is told so by a message of the gate, which takes the fresh
    /// token by a message, too; `None`: client and gate do not speak in sessions.
    pub control: Option<Duration>,
}

/// How clients of a route hear that they are turned away. Pages in browsers see nothing of an HTTP
/// answer to a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Browser {
    /// All by the HTTP answer.
    #[default]
    Status,
    /// All by the Close frame of a session that is opened for that.
    CloseCode,
    /// Those with an `Origin` by the Close frame, all others by the answer.
    Origin,
}

/// The limits of one route, besides those of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Open sessions; `None`: as many as there are in all.
    pub sessions: Option<usize>,
    /// Handshakes a second; 0: any number.
    pub handshake_rate: u32,
    /// What clients may send in its sessions, together.
    pub traffic: TrafficLimits,
}

/// What clients may send in their sessions. The default is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Bytes a second; 0: any number.
    pub bytes: u32,
    /// Messages a second; 0: any number.
    pub messages: u32,
}

/// A service behind the gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where it listens.
    pub place: Place,
    /// Whether it is spoken to over TLS, and whom to trust then.
    pub tls: Option<UpstreamTls>,
    /// Path to request; `None`: the path that the client requested.
    pub path: Option<String>,
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On a TCP port.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket of this host.
    Unix(PathBuf),
}

/// How a service proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Which scopes a token needs. Every part has to hold; what is empty demands nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeRule {
    /// Every one of these.
    pub all: Vec<String>,
    /// At least one of these.
    pub any: Vec<String>,
    /// Not one of these.
    pub none: Vec<String>,
}

impl ScopeRule {
    /// Every one of `scopes`; with none, any valid token passes.
    pub fn all(scopes: Vec<String>) -> Self {
        Self { all: scopes, ..Self::default() }
    }

    /// The scopes that can help a token to pass, as they are named to a client.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.all.iter().chain(&self.any).map(String::as_str)
    }
}

/// Where a claim is: the name of a member, and of a member of that, and so on; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(pub Vec<String>);

impl std::fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A value that a claim can have to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Flag(bool),
}

/// What one claim has to be: one of the values, or a list that holds one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTest {
    /// The claim.
    pub claim: ClaimPath,
    /// The values; never empty.
    pub values: Vec<ClaimValue>,
}

/// Which claims a token needs. Every part has to hold; what is empty demands nothing. A test of a
/// claim that the token does not have is not passed, not even where it forbids a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRule {
    /// Every one of these.
    pub all: Vec<ClaimTest>,
    /// At least one of these.
    pub any: Vec<ClaimTest>,
    /// Not one of these, although each claim is there.
    pub none: Vec<ClaimTest>,
}

/// Which claims a token has to have whatever the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Those of RFC 9068 §2.2: `iss`, `sub`, `aud`, `exp`, `iat`, `jti` and `client_id`.
    Rfc9068,
    /// `iss`, `sub`, `aud` and `exp`.
    Jwt,
}

/// Where revocations are, besides those of `gatehouse revoke`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationFile {
    /// The file that operators edit.
    pub file: Option<PathBuf>,
    /// How long `gatehouse revoke` keeps a revocation unless told otherwise; no token may be good for
    /// longer.
    pub keep: Duration,
}

impl Default for RevocationFile {
    fn default() -> Self {
        Self { file: None, keep: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// Every limit of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open sessions and handshakes in all, as far as the host's limit on open files allows.
    pub sessions: usize,
    /// Open sessions of one address (IPv6: of one /64).
    pub sessions_per_address: usize,
    /// Open sessions of one subject of one issuer.
    pub sessions_per_subject: usize,
    /// Handshakes a second in all; 0: any number.
    pub handshake_rate: u32,
    /// Handshakes a second of one address (IPv6: of one /64); 0: any number.
    pub handshake_rate_per_address: u32,
    /// Handshakes a second of one subject of one issuer; 0: any number.
    pub handshake_rate_per_subject: u32,
    /// What all clients may send together.
    pub traffic: TrafficLimits,
    /// What clients at one address (IPv6: in one /64) may send.
    pub traffic_per_address: TrafficLimits,
    /// What clients of one subject of one issuer may send.
    pub traffic_per_subject: TrafficLimits,
    /// Bytes of a request head.
    pub request_head: usize,
    /// Headers of a request.
    pub request_headers: usize,
    /// Bytes of the body of a request for a ticket.
    pub request_body: usize,
    /// From the begin of a request to its complete head: from the accepted connection, or the end of
    /// what comes before.
    pub handshake_timeout: Duration,
    /// From the accepted connection of a proxy to the end of its PROXY header.
    pub proxy_header_timeout: Duration,
    /// From the accepted connection, or its PROXY header, to the end of the handshake of TLS.
    pub tls_timeout: Duration,
    /// Bytes of one file with a certificate, its key or authorities.
    pub certificate_file: usize,
    /// Sessions and requests at once on one connection of HTTP/2.
    pub http2_streams: usize,
    /// From a question about a token to its answer.
    pub introspection_timeout: Duration,
    /// Answers that are remembered.
    pub introspection_cache: usize,
    /// Questions at once, to one endpoint.
    pub introspection_requests: usize,
    /// Revocations of each kind of list.
    pub revocations: usize,
    /// Prefixes that are banned at once.
    pub bans: usize,
    /// The longest time for which somebody is banned.
    pub ban_duration: Duration,
    /// Tickets that are not used yet.
    pub tickets: usize,
    /// The same, of one address.
    pub tickets_per_address: usize,
    /// How long a ticket can be used.
    pub ticket_ttl: Duration,
    /// From the open session to the message with its token, where a route has `first_message`.
    pub first_message_timeout: Duration,
    /// Bytes of that message.
    pub first_message_size: usize,
    /// From dialling the upstream to its complete answer.
    pub upstream_timeout: Duration,
    /// Between two looks whether an upstream can be reached, where a route has several.
    pub health_interval: Duration,
    /// Bytes of one list file.
    pub list_size: u64,
    /// From the request for a remote list to a connection.
    pub remote_connect_timeout: Duration,
    /// Between two pieces of the answer with a remote list.
    pub remote_idle_timeout: Duration,
    /// From the request for a remote list to the end of the answer.
    pub remote_timeout: Duration,
    /// Prefixes of all lists together.
    pub prefixes: usize,
    /// Bytes of the compiled address policy in the kernel; a larger one is refused.
    pub policy_memory: usize,
    /// Bytes of one key file.
    pub key_file: usize,
    /// From a request to an issuer to the end of its answer, and the longest that a handshake waits
    /// for one.
    pub issuer_timeout: Duration,
    /// Bytes of an answer of an issuer.
    pub issuer_answer: u64,
    /// Handshakes that wait for the same answer of an issuer at once.
    pub issuer_waiters: usize,
    /// Audit entries waiting for the journal; more are counted as lost.
    pub audit_queue: usize,
    /// Rejections of a client for one reason that are written at once, before repeats are held.
    pub audit_at_once: usize,
    /// The longest time for which repeats of a rejection are held, to be written as one entry.
    pub audit_fold: Duration,
    /// Clients and reasons of which repeats are held at once.
    pub audit_folded: usize,
    /// Rejections and ends of sessions that `gatehouse explain --id` is answered from.
    pub audit_remembered: usize,
    /// Tokens of one issuer that are remembered once their signature is verified; 0: none.
    pub verified_tokens: usize,
    /// The longest time without a byte either way in a session; `None`: any.
    pub idle_timeout: Option<Duration>,
    /// The longest session; `None`: as long as its token is good.
    pub session_lifetime: Option<Duration>,
    /// From the Close frame of the gate until the connection is cut.
    pub close_timeout: Duration,
    /// From the order to stop until open sessions are cut.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 8_192,
            sessions_per_address: 1_024,
            sessions_per_subject: 1_024,
            handshake_rate: 0,
            handshake_rate_per_address: 1_000,
            handshake_rate_per_subject: 0,
            traffic: TrafficLimits::default(),
            traffic_per_address: TrafficLimits::default(),
            traffic_per_subject: TrafficLimits::default(),
            request_head: 16 * 1024,
            request_headers: 100,
            request_body: 8 * 1024,
            handshake_timeout: Duration::from_secs(10),
            proxy_header_timeout: Duration::from_secs(5),
            tls_timeout: Duration::from_secs(10),
            certificate_file: 1024 * 1024,
            http2_streams: 100,
            introspection_timeout: Duration::from_secs(3),
            introspection_cache: 10_000,
            introspection_requests: 64,
            revocations: 100_000,
            bans: 10_000,
            ban_duration: Duration::from_secs(30 * 24 * 3600),
            tickets: 10_000,
            tickets_per_address: 100,
            ticket_ttl: Duration::from_secs(30),
            first_message_timeout: Duration::from_secs(5),
            first_message_size: 16 * 1024,
            upstream_timeout: Duration::from_secs(10),
            health_interval: Duration::from_secs(5),
            list_size: 256 * 1024 * 1024,
            remote_connect_timeout: Duration::from_secs(10),
            remote_idle_timeout: Duration::from_secs(30),
            remote_timeout: Duration::from_secs(5 * 60),
            prefixes: 4_000_000,
            policy_memory: 1024 * 1024 * 1024,
            key_file: 1024 * 1024,
            issuer_timeout: Duration::from_secs(5),
            issuer_answer: 1024 * 1024,
            issuer_waiters: 1_024,
            audit_queue: 16_384,
            audit_at_once: 20,
            audit_fold: Duration::from_secs(60),
            audit_folded: 16_384,
            audit_remembered: 4_096,
            verified_tokens: 10_000,
            idle_timeout: None,
            session_lifetime: None,
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
