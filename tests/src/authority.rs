//! A certificate authority of a test's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// How a key is made.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Makes a certificate authority in `folder` (`ca.pem`), and a certificate of it for 127.0.0.1 (`cert.pem`,
/// `key.pem`).
pub fn authority(folder: &Path) -> Result<()> {
    authority_alone(folder)?;
    sign(folder, ("cert", "key"), "server", "IP:127.0.0.1")
}

/// Makes a certificate authority in `folder` (`ca.pem`).
pub fn authority_alone(folder: &Path) -> Result<()> {
    openssl(folder, &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"))
}

/// Makes a certificate of the authority in `folder` for these `names` (such as `IP:127.0.0.1`), in two files,
/// whose names get `.pem`.
pub fn sign(folder: &Path, (certificate, key): (&str, &str), subject: &str, names: &str) -> Result<()> {
    fs::write(folder.join("names"), format!("subjectAltName={names}\n"))?;
    openssl(folder, &format!("req {KEY} -keyout {key}.pem -out request.pem -subj /CN={subject}"))?;
    let signing = "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
    openssl(folder, &format!("{signing} -out {certificate}.pem"))
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let mut openssl = Command::new("openssl");
    let output = openssl.args(arguments.split(' ')).current_dir(folder).output().context("openssl(1)")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
