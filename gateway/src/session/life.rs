//! How long a session may live. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rejection::{Reason, Rejection};

/// The longest time until the clock is looked at again: it can be set, and a host can sleep.
const LOOK: Duration = Duration::from_secs(60);

/// When a session is over by itself.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// From this second since 1970 on the token is not accepted any more.
    pub accepted_until: u64,
    /// From this second since 1970 on the certificate of the client is not valid any more; `None`: it
    /// showed none.
    pub certificate_until: Option<u64>,
    /// The longest life.
    pub lifetime: Option<Duration>,
    /// The longest time without a byte either way.
    pub idle: Option<Duration>,
}

impl Terms {
    /// Whether a session of this `age`, in which nothing has moved for `quiet`, may go on: how long
    /// until it has to be asked again.
    ///
    /// # Errors
    ///
    /// `expiry/session_expired`, `credentials/certificate`, `limit/session_lifetime` or
    /// `limit/session_idle`.
    pub fn check(&self, now: SystemTime, age: Duration, quiet: Duration) -> Result<Duration, Box<Rejection>> {
        // A clock before 1970 makes every token good for long, and no session longer than its life.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let over = |reason| Err(Box::new(Rejection::new(reason)));
        let Some(valid) = Duration::from_secs(self.accepted_until).checked_sub(now).filter(some) else {
            return over(Reason::ExpirySessionExpired);
        };
        let certificate = self
            .certificate_until
            .map_or(Some(LOOK), |until| Duration::from_secs(until).checked_sub(now).filter(some));
        let Some(certificate) = certificate else {
            let rejection = Rejection::new(Reason::CredentialsCertificate);
            return Err(Box::new(rejection.detail("The certificate of the client has expired.")));
        };
        let left = |limit: Option<Duration>, used: Duration| match limit {
            Some(limit) => limit.checked_sub(used).filter(some),
            None => Some(LOOK),
        };
        let Some(lifetime) = left(self.lifetime, age) else {
            return over(Reason::LimitSessionLifetime);
        };
        let Some(idle) = left(self.idle, quiet) else {
            return over(Reason::LimitSessionIdle);
        };
        Ok(valid.min(certificate).min(lifetime).min(idle).min(LOOK))
    }
}

fn some(left: &Duration) -> bool {
    !left.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    const FREE: Terms =
        Terms { accepted_until: u64::MAX, certificate_until: None, lifetime: None, idle: None };

    fn check(terms: &Terms, now: u64, age: u32, quiet: u32) -> Result<Duration, Reason> {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        terms.check(now, S * age, S * quiet).map_err(|rejection| rejection.reason)
    }

    #[test]
    fn a_session_ends_in_the_second_from_which_its_token_is_not_accepted() {
        let terms = Terms { accepted_until: 1000, ..FREE };
        assert_eq!(check(&terms, 990, 0, 0), Ok(S * 10));
        assert_eq!(check(&terms, 999, 0, 0), Ok(S));
        assert_eq!(check(&terms, 1000, 0, 0), Err(Reason::ExpirySessionExpired));
        assert_eq!(check(&terms, 5000, 0, 0), Err(Reason::ExpirySessionExpired));
    }

    #[test]
    fn a_session_ends_in_the_second_from_which_the_certificate_of_its_client_is_not_valid() {
        let terms = Terms { certificate_until: Some(1000), ..FREE };
        assert_eq!(check(&terms, 990, 0, 0), Ok(S * 10));
        assert_eq!(check(&terms, 1000, 0, 0), Err(Reason::CredentialsCertificate));
        let expired = Terms { accepted_until: 900, ..terms };
        assert_eq!(check(&expired, 1000, 0, 0), Err(Reason::ExpirySessionExpired));
    }

    #[test]
    fn the_clock_is_looked_at_every_minute_however_long_the_token_is_good() {
        let terms = FREE;
        assert_eq!(check(&terms, 0, 0, 1_000_000), Ok(LOOK));
    }

    #[test]
    fn a_session_ends_at_its_longest_life_and_after_its_longest_silence() {
        let terms = Terms { lifetime: Some(S * 50), idle: Some(S * 20), ..FREE };
        assert_eq!(check(&terms, 0, 0, 0), Ok(S * 20));
        assert_eq!(check(&terms, 0, 40, 0), Ok(S * 10));
        assert_eq!(check(&terms, 0, 50, 0), Err(Reason::LimitSessionLifetime));
        assert_eq!(check(&terms, 0, 49, 20), Err(Reason::LimitSessionIdle));
        assert_eq!(check(&terms, 0, 49, 19), Ok(S));
    }
}
