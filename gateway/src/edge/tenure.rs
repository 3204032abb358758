//! What ends a session before either side does: time, and whatever else takes its right to exist.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::rejection::Rejection;
use crate::rejection::close::close;
use crate::session::farewell::Farewell;
use crate::session::life::Terms;
use crate::session::relay::Moved;

/// Going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// What is remembered of an admission, to judge it again.
pub(super) struct Tenure {
    pub(super) gate: Arc<Gate>,
    pub(super) id: HandshakeId,
    pub(super) client: SocketAddr,
    pub(super) path: String,
    pub(super) origin: Option<String>,
    pub(super) identity: Identity,
}

impl Tenure {
    /// Waits until the session has no right to exist any more, or `stopping` says that the gate
    /// goes away.
    pub(super) async fn over(&self, moved: &Moved, stopping: &CancellationToken) -> Farewell {
        let limits = self.gate.limits();
        let terms = Terms {
            accepted_until: self.identity.accepted_until,
            lifetime: limits.session_lifetime,
            idle: limits.idle_timeout,
        };
        let start = Instant::now();
        let (mut last, mut since) = (moved.total(), start);
        let mut swaps = self.gate.swaps();
        // The snapshot that admitted the client may have been replaced since.
        swaps.mark_changed();
        loop {
            let total = moved.total();
            if total != last {
                (last, since) = (total, Instant::now());
            }
            let wait = match terms.check(self.gate.now(), start.elapsed(), since.elapsed()) {
                Ok(wait) => wait,
                Err(rejection) => return self.rejected(rejection),
            };
            tokio::select! {
                () = sleep(wait) => {}
                // The gate outlives its sessions.
                _ = swaps.changed() => {
                    if let Err(rejection) = self.judge_again() {
                        return self.rejected(rejection);
                    }
                }
                () = stopping.cancelled() => return self.stopped().await,
            }
        }
    }

    fn judge_again(&self) -> Result<(), Box<Rejection>> {
        let snapshot = self.gate.snapshot();
        snapshot.admit(self.client.ip())?;
        snapshot
            .route(&self.path, self.origin.as_deref())?
            .requirement
            .admits_still(&self.identity, self.gate.now())
    }

    fn rejected(&self, mut rejection: Box<Rejection>) -> Farewell {
        rejection.issuer.get_or_insert_with(|| self.identity.issuer.clone());
        rejection.subject.get_or_insert_with(|| self.identity.subject.clone());
        let (code, reason) = close(&rejection, self.id);
        Farewell { code, reason, rejection: Some(rejection), mask: self.mask() }
    }

    /// Sessions do not all end at once, or all clients would come back at once: each has its moment
    /// in the first four fifths of the drain timeout; the last is for its farewell.
    async fn stopped(&self) -> Farewell {
        let [high, low, ..] = self.gate.random();
        let place = u32::from(u16::MAX - u16::from_be_bytes([high, low]));
        let window: Duration = self.gate.limits().drain_timeout * 4 / 5;
        sleep(window * place / u32::from(u16::MAX)).await;
        let reason = "the gate is stopping: connect again".to_owned();
        Farewell { code: GOING_AWAY, reason, rejection: None, mask: self.mask() }
    }

    fn mask(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.gate.random();
        [a, b, c, d]
    }
}
