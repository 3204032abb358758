//! Where an issuer is asked about tokens.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::SecretUrl;

/// The endpoint of one issuer: that of the configuration, or the one in the issuer's metadata as soon as
/// that is there. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::service) struct Place(Arc<ArcSwap<Known>>);

/// What is known about it.
#[derive(Clone, Debug)]
enum Known {
    At(SecretUrl),
    /// Nothing yet.
    Awaited,
    /// The metadata is there, and this is wrong with it.
    Faulty(String),
}

impl Place {
    /// At `endpoint`; without one, where the metadata will say.
    pub(super) fn new(endpoint: Option<SecretUrl>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(endpoint.map_or(Known::Awaited, Known::At))))
    }

    /// The endpoint is `found` by the issuer's newest metadata, or why it is not. Says in the log what
    /// has changed for `issuer`.
    pub(in crate::service) fn put(&self, found: Result<SecretUrl, String>, issuer: &str) {
        let known = match found {
            Ok(url) => Known::At(url),
            Err(fault) => Known::Faulty(fault),
        };
        let before = self.0.swap(Arc::new(known.clone()));
        match (&known, &*before) {
            (Known::At(new), Known::At(old)) if new == old => {}
            (Known::At(new), _) => log::info!("issuer {issuer} is asked about tokens at {}", new.shown()),
            (Known::Faulty(new), Known::Faulty(old)) if new == old => {}
            (Known::Faulty(fault), _) => log::error!(
                "the metadata of issuer {issuer} does not say where to ask about tokens, its tokens get 503: {fault}"
            ),
            (Known::Awaited, _) => {}
        }
    }

    /// What is wrong with the issuer's metadata, when that is why there is no endpoint.
    pub(super) fn fault(&self) -> Option<String> {
        match &**self.0.load() {
            Known::Faulty(fault) => Some(format!("the issuer's metadata cannot be used for this: {fault}")),
            Known::At(_) | Known::Awaited => None,
        }
    }

    /// The endpoint, or why there is none.
    pub(super) fn get(&self) -> Result<SecretUrl, String> {
        match &**self.0.load() {
            Known::At(url) => Ok(url.clone()),
            Known::Awaited => {
                Err("the issuer's metadata, which names its introspection endpoint, has not arrived: \
                                   `gatehouse status` of the running daemon says why"
                    .to_owned())
            }
            Known::Faulty(fault) => Err(format!("the issuer's metadata cannot be used for this: {fault}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_that_of_the_newest_metadata_and_none_before_there_is_any() {
        let url = |text: &str| SecretUrl::from(url::Url::parse(text).expect("a URL"));
        let place = Place::new(None);
        assert!(place.get().expect_err("none yet").contains("has not arrived"));
        place.put(Ok(url("https://i/1")), "main");
        place.put(Ok(url("https://i/2")), "main");
        assert_eq!(place.get(), Ok(url("https://i/2")));
        assert_eq!(place.fault(), None);
        place.put(Err("it names none".to_owned()), "main");
        assert!(place.fault().is_some_and(|fault| fault.contains("it names none")));
        assert!(place.get().expect_err("gone").contains("it names none"));
        assert_eq!(Place::new(Some(url("https://i/3"))).get(), Ok(url("https://i/3")));
    }
}
