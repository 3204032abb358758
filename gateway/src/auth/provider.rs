//! The cryptography under jsonwebtoken.

use jsonwebtoken::crypto::{CryptoProvider, aws_lc};

/// aws-lc, and never what jsonwebtoken would choose by itself.
///
/// It chooses by its crate features and panics at the first token when some other crate of the
/// build has enabled a second provider. So verifying names the provider, and for the functions
/// that use the default of the process (`encode`, `decode`) it is made the default as well. Only
/// the first call changes something.
pub(super) fn provider() -> &'static CryptoProvider {
    // An error says that there is a default already, which is this one: nothing else sets it.
    let _already = aws_lc::DEFAULT_PROVIDER.install_default();
    &aws_lc::DEFAULT_PROVIDER
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::errors::ErrorKind;
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

    use super::*;

    static OTHER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        verifier_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        key_utils: jsonwebtoken::crypto::KeyUtils::new_unimplemented(),
    };

    #[test]
    fn no_other_provider_takes_the_place_of_ours() {
        let ours = provider();
        assert!(std::ptr::eq(ours, &raw const aws_lc::DEFAULT_PROVIDER));
        assert!(OTHER.install_default().is_err());
        let claims = serde_json::json!({"exp": 1});
        let token =
            jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"s")).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(b"s");
        assert!(jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).is_ok());
    }
}
