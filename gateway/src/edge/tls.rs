//! TLS to clients (RFC 8446; RFC 5246): which certificate is shown to whom, and what a client shows.
//! Pure: the contents of files are passed in.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::aws_lc_rs::digest;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::auth::Certificate;
use crate::rejection::{Reason, Rejection};
use crate::session::tls::roots_in;

/// HTTP/2 in the list of protocols (RFC 9113 §3.2).
pub(super) const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// What a listener with TLS is made of, as the files have it.
#[derive(Debug)]
pub struct Material<'a> {
    /// Certificates with their private keys, in PEM; the first is for clients that name no other.
    pub certificates: Vec<(&'a [u8], &'a [u8])>,
    /// The authorities of clients, in PEM.
    pub client_ca: Option<&'a [u8]>,
    /// Whether nobody is admitted without a certificate.
    pub client_certificate_required: bool,
    /// Whether TLS 1.2 is spoken, too.
    pub tls12: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
}

/// Which part of a [`Material`] cannot be used, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// The certificate with this index.
    #[error("{1}")]
    Certificate(usize, String),
    /// The key with this index.
    #[error("{1}")]
    Key(usize, String),
    /// The authorities of clients.
    #[error("{0}")]
    ClientCa(String),
    /// TLS as a whole.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
}

/// TLS of one listener.
pub struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// The same without HTTP/2, for clients that are turned away.
    pub(super) brief: Arc<ServerConfig>,
    clients: Option<Authorities>,
    required: bool,
}

/// Who vouches for clients.
struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of the file that names them.
    digest: Digest,
}

type Digest = [u8; 32];

/// The certificate of a client, and what it takes to judge it again when the authorities are others.
#[derive(Debug)]
pub(super) struct Vouched {
    /// What it says.
    pub(super) certificate: Arc<Certificate>,
    /// Where it was shown.
    pub(super) listener: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    /// Those that vouch for it.
    by: Mutex<Digest>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS by `material`.
    ///
    /// # Errors
    ///
    /// What of it cannot be used.
    pub fn new(material: &Material<'_>) -> Result<Self, MaterialError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let failed = |error: &dyn fmt::Display| MaterialError::Tls(error.to_string());
        let names = Names::new(&material.certificates, &provider)?;
        let clients = material.client_ca.map(|ca| Authorities::new(ca, &provider)).transpose()?;
        let versions: &[_] =
            if material.tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| failed(&error))?;
        let builder = match &clients {
            Some(clients) => {
                builder.with_client_cert_verifier(Arc::new(Shown(Arc::clone(&clients.verifier))))
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(names));
        if clients.is_some() {
            // A session that is resumed shows no certificate again; one that has expired, or whose
            // authority is gone, would go on being believed.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| failed(&error))?;
        }
        config.alpn_protocols = vec![HTTP11.to_vec()];
        let brief = Arc::new(config.clone());
        if material.http2 {
            config.alpn_protocols.insert(0, H2.to_vec());
        }
        Ok(Self { config: Arc::new(config), brief, clients, required: material.client_certificate_required })
    }

    /// The certificate of a client that showed `chain` at `listener` and has the key to it; `None`: it has
    /// none, and needs none.
    ///
    /// # Errors
    ///
    /// `credentials/certificate`: there has to be one, or this one is of no use.
    pub(super) fn certificate(
        &self,
        listener: SocketAddr,
        chain: Option<&[CertificateDer<'_>]>,
        now: UnixTime,
    ) -> Result<Option<Arc<Vouched>>, Box<Rejection>> {
        let (Some(clients), Some(chain)) = (&self.clients, chain) else {
            return match self.required {
                true => Err(refused("The client showed no certificate.".to_owned())),
                false => Ok(None),
            };
        };
        let certificate = clients
            .verify(chain, now)
            .and_then(|own| Certificate::parse(own).map_err(|error| error.to_string()))
            .map_err(|error| refused(format!("The certificate of the client is refused: {error}.")))?;
        Ok(Some(Arc::new(Vouched {
            certificate: Arc::new(certificate),
            listener,
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            by: Mutex::new(clients.digest),
        })))
    }

    /// Whether the authorities still vouch for `client`. A signature is verified only when they are others
    /// than those that vouched for it last.
    ///
    /// # Errors
    ///
    /// `credentials/certificate`.
    pub(super) fn vouches_still(&self, client: &Vouched, now: UnixTime) -> Result<(), Box<Rejection>> {
        // Where no certificate is asked for any more, rules and tokens decide what it was good for.
        let Some(clients) = &self.clients else { return Ok(()) };
        let mut by = client.by.lock().unwrap_or_else(PoisonError::into_inner);
        if *by == clients.digest {
            return Ok(());
        }
        clients.verify(&client.chain, now).map_err(|error| {
            refused(format!(
                "The authorities of clients are others now, and refuse its certificate: {error}."
            ))
        })?;
        *by = clients.digest;
        Ok(())
    }
}

fn refused(detail: String) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::CredentialsCertificate).detail(detail))
}

/// Takes any certificate whose key the client has. Whether it is a good one is judged after the
/// handshake, so that a client with a bad one gets an answer that says so, and not an alert.
#[derive(Debug)]
struct Shown(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Shown {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The certificates by the names that they are for.
#[derive(Debug)]
struct Names {
    all: Vec<Arc<CertifiedKey>>,
    /// In lower case; of wildcards, what stands behind `*`.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Names {
    fn new(pairs: &[(&[u8], &[u8])], provider: &CryptoProvider) -> Result<Self, MaterialError> {
        let mut this = Self { all: Vec::new(), named: HashMap::new() };
        for (index, (certificate, key)) in pairs.iter().enumerate() {
            let chain = chain(certificate).map_err(|reason| MaterialError::Certificate(index, reason))?;
            let names = names(&chain[0]).map_err(|reason| MaterialError::Certificate(index, reason))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                let reason = "it has no private key in PEM that is not encrypted";
                MaterialError::Key(index, reason.to_owned())
            })?;
            let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
                let reason = match error {
                    Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
                    error => format!("the key cannot be used ({error})"),
                };
                MaterialError::Key(index, reason)
            })?;
            let pair = Arc::new(pair);
            for name in names {
                this.named.entry(name).or_default().push(Arc::clone(&pair));
            }
            this.all.push(pair);
        }
        Ok(this)
    }

    /// The certificates for `name`, the best first.
    fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<CertifiedKey>> + use<'a> {
        let name = name.to_ascii_lowercase();
        // A wildcard is for one label (RFC 9525 §6.3).
        let wild = name.find('.').and_then(|dot| self.named.get(&name[dot..]));
        self.named.get(&name).into_iter().chain(wild).flatten().chain(&self.all)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        self.of(hello.server_name().unwrap_or_default()).find(fits).map(Arc::clone)
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("it has no certificate in PEM".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("it is not PEM ({error})")),
    }
}

/// The names that a certificate is for: those of hosts (RFC 9525 §2), of wildcards what is behind `*`.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let cannot = |_| "its first certificate cannot be read".to_owned();
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| cannot(()))?;
    let names = certificate.subject_alternative_name().map_err(|_| cannot(()))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase()),
        _ => None,
    });
    Ok(hosts.collect())
}

impl Authorities {
    fn new(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Self, MaterialError> {
        let roots = roots_in(pem).map_err(MaterialError::ClientCa)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| MaterialError::ClientCa(error.to_string()))?;
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, pem).as_ref());
        Ok(Self { verifier, digest })
    }

    /// The first certificate of `chain`, for which they vouch, or why not.
    fn verify<'a>(
        &self,
        chain: &'a [CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<&'a CertificateDer<'a>, String> {
        let (own, others) = chain.split_first().ok_or("it is empty")?;
        self.verifier.verify_client_cert(own, others, now).map_err(|error| error.to_string())?;
        Ok(own)
    }
}

/// Seconds since 1970 at which the first certificate in `pem` begins and ceases to be valid.
pub fn validity(pem: &[u8]) -> Option<(i64, i64)> {
    let chain = chain(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&chain[0]).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}
