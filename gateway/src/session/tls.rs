//! TLS to upstreams.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes of a file with certificates.
const MAX_CA: u64 = 1024 * 1024;

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The named file has no certificates that can be used.
    #[error("{}: {reason}", .file.display())]
    Ca {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has none.
    #[error(
        "the certificates of the system cannot be used ({0}): install ca-certificates, or set upstream_ca"
    )]
    System(#[from] tokio_rustls::rustls::Error),
}

/// Trusts the authorities in the file `ca`, or those of the system.
///
/// # Errors
///
/// See [`TlsError`].
pub fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = match ca {
        None => ClientConfig::with_platform_verifier()?,
        Some(file) => {
            let fault = |reason: String| {
                let reason = format!("{reason}: name a PEM file with the certificates of the authority");
                TlsError::Ca { file: file.to_owned(), reason }
            };
            let roots = roots(file).map_err(fault)?;
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let text = |error: io::Error| error.to_string();
    if fs::metadata(file).map_err(text)?.len() > MAX_CA {
        return Err(format!("it is larger than {MAX_CA} bytes"));
    }
    roots_in(&fs::read(file).map_err(text)?)
}

/// The authorities in `pem`.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn roots_in(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is not PEM ({error})"))?;
        roots.add(certificate).map_err(|error| format!("a certificate in it cannot be used ({error})"))?;
    }
    if roots.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(roots) }
}
