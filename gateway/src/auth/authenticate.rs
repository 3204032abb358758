//! Who a client is, with what has to be asked outside for the judgement.

use std::time::SystemTime;

use super::issuer::Requirement;
use super::judge::Identity;
use super::token::Token;
use crate::rejection::Rejection;

impl Requirement {
    /// Who `token` is for: [`Self::judge`], by a clock that can be read again after a wait.
    ///
    /// # Errors
    ///
    /// As for [`Self::judge`].
    pub async fn authenticate(
        &self,
        token: &Token,
        now: impl Fn() -> SystemTime,
    ) -> Result<Identity, Box<Rejection>> {
        self.judge(token, now())
    }
}
