//! What ends a session before either side does: time, and whatever else takes its right to exist.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::time::sleep;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::open::Open;
use super::renewal;
use crate::auth::Token;
use crate::rejection::close::close;
use crate::rejection::http::RETRY;
use crate::rejection::{Reason, Rejection};
use crate::session::control::{self, Desk};
use crate::session::farewell::Farewell;
use crate::session::relay::Moved;

/// Going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// The right of a session to exist.
pub(super) struct Tenure {
    pub(super) gate: Arc<Gate>,
    pub(super) open: Arc<Open>,
    /// Where its client is told and heard, and how long before its end it is told so.
    pub(super) desk: Option<(Desk, Duration)>,
}

/// What is to be told about a message of the client.
type Judging = Pin<Box<dyn Future<Output = serde_json::Value> + Send>>;

impl Tenure {
    /// Waits until the session has no right to exist any more, or `stopping` says that the gate
    /// goes away.
    pub(super) async fn over(&mut self, moved: &Moved, stopping: &CancellationToken) -> Farewell {
        let start = Instant::now();
        let (mut last, mut since) = (moved.total(), start);
        let mut swaps = self.gate.swaps();
        // The snapshot that admitted the client may have been replaced since.
        swaps.mark_changed();
        let mut warned = None;
        let mut judging: Option<Judging> = None;
        loop {
            let total = moved.total();
            if total != last {
                (last, since) = (total, Instant::now());
            }
            let wait = match self.left(start.elapsed(), since.elapsed()) {
                Ok(wait) => wait.min(self.warn(&mut warned)),
                Err(rejection) => return self.rejected(rejection),
            };
            let desk = self.desk.as_mut().filter(|_| judging.is_none()).map(|(desk, _)| desk);
            tokio::select! {
                () = sleep(wait) => {}
                // The gate outlives its sessions.
                _ = swaps.changed() => {
                    if let Err(rejection) = self.judge_again() {
                        return self.rejected(rejection);
                    }
                }
                () = moved.noticed() => {
                    if self.open.is_closed() {
                        return self.closed();
                    }
                    if let Some(reason) = moved.excess() {
                        return self.rejected(Box::new(Rejection::new(reason).retry_after(RETRY)));
                    }
                }
                message = hear(desk) => judging = Some(self.judge(message)),
                answer = answer(&mut judging) => {
                    judging = None;
                    self.say(&answer);
                }
                () = stopping.cancelled() => return Box::pin(self.stopped()).await,
            }
        }
    }

    /// How long a session of this `age`, in which nothing has moved for `quiet`, may go on.
    fn left(&self, age: Duration, quiet: Duration) -> Result<Duration, Box<Rejection>> {
        // Both can have changed since the last time.
        let accepted_until = self.open.identity().accepted_until;
        self.gate.terms(accepted_until, self.open.certificate_until()).check(self.gate.now(), age, quiet)
    }

    /// Tells the client that its time is almost over, once for each token; how long until then.
    fn warn(&self, warned: &mut Option<u64>) -> Duration {
        let Some((_, warning)) = &self.desk else { return Duration::MAX };
        let expires = self.open.identity().expires;
        if *warned == Some(expires) {
            return Duration::MAX;
        }
        let left = Duration::from_secs(expires)
            .saturating_sub(self.gate.now().duration_since(UNIX_EPOCH).unwrap_or_default());
        if let Some(wait) = left.checked_sub(*warning).filter(|wait| !wait.is_zero()) {
            return wait;
        }
        *warned = Some(expires);
        self.say(&control::expiring(self.open.id, left.as_secs()));
        Duration::MAX
    }

    fn say(&self, message: &serde_json::Value) {
        if let Some((desk, _)) = &self.desk {
            desk.say(message);
        }
    }

    /// Judges a message of the client, beside everything else.
    fn judge(&self, message: String) -> Judging {
        let (gate, open) = (Arc::clone(&self.gate), Arc::clone(&self.open));
        Box::pin(async move {
            match renew(&gate, &open, &message).await {
                Ok(left) => control::renewed(left),
                Err(rejection) => control::refused(&rejection),
            }
        })
    }

    fn judge_again(&self) -> Result<(), Box<Rejection>> {
        let snapshot = self.gate.snapshot();
        snapshot.admit(self.open.client.ip())?;
        if let Some(vouched) = &self.open.certificate
            && let Some(tls) = snapshot.listener(&vouched.listener).and_then(|rules| rules.tls.as_ref())
        {
            let now = self.gate.now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tls.vouches_still(vouched, UnixTime::since_unix_epoch(now))?;
        }
        snapshot
            .route(&self.open.path, self.open.origin.as_deref())?
            .requirement
            .admits_still(&self.open.identity(), self.gate.now())
    }

    fn rejected(&self, mut rejection: Box<Rejection>) -> Farewell {
        let identity = self.open.identity();
        rejection.issuer.get_or_insert_with(|| identity.issuer.clone());
        rejection.subject.get_or_insert_with(|| identity.subject.clone());
        let (code, reason) = close(&rejection, self.open.id);
        Farewell { code, reason, rejection: Some(rejection), mask: self.mask() }
    }

    fn closed(&self) -> Farewell {
        let reason = "an operator closed the session: connect again".to_owned();
        Farewell { code: GOING_AWAY, reason, rejection: None, mask: self.mask() }
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

/// The next message for the gate; never one where there is no desk for it.
async fn hear(desk: Option<&mut Desk>) -> String {
    match desk {
        Some(desk) => match desk.hear().await {
            Some(message) => message,
            // The relay is over, and so is the session in a moment.
            None => pending().await,
        },
        None => pending().await,
    }
}

async fn answer(judging: &mut Option<Judging>) -> serde_json::Value {
    match judging {
        Some(judging) => judging.await,
        None => pending().await,
    }
}

/// Renews `open` by a message of its client; the seconds that it goes on for.
async fn renew(gate: &Gate, open: &Open, message: &str) -> Result<u64, Box<Rejection>> {
    let renewed = async {
        let route = renewal::route(gate, open)?;
        gate.counts().again(open.client.ip()).map_err(|excess| Box::new(excess.rejection()))?;
        let token = control::token(message).ok_or_else(|| {
            let detail = "The message has no token: {\"type\":\"gatehouse.renew\",\"token\":\"…\"}.";
            Box::new(Rejection::new(Reason::CredentialsMalformed).detail(detail))
        })?;
        let token = Token::parse(token.as_bytes())?
            .shown_with(open.certificate.as_ref().map(|vouched| Arc::clone(&vouched.certificate)));
        renewal::renew(gate, open, &route, &token).await
    };
    renewed.await.inspect_err(|rejection| renewal::record_refusal(gate, open, rejection))
}
