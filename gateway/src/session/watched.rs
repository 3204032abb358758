//! A future that is left alone until something wakes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future beside another one that is polled much more often, in the same task. It is polled only
/// when it was woken itself: a session looks at each of its bytes, and not each time at everything
/// that could end it.
#[derive(Debug)]
pub(super) struct Watched<F> {
    future: F,
    signal: Arc<Signal>,
    /// Of the signal; made once.
    waker: Waker,
}

#[derive(Debug)]
struct Signal {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> Watched<F> {
    /// Watches `future`, which is polled once in any case.
    pub(super) fn new(future: F) -> Self {
        let signal = Arc::new(Signal { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: Waker::from(Arc::clone(&signal)), signal }
    }
}

impl<F: Future + Unpin> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, signal, waker } = self.get_mut();
        // Before the look, so that nobody wakes it unseen in between.
        signal.task.register(context.waker());
        if !signal.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(future).poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn a_future_that_nobody_woke_is_not_polled_again() {
        let mut polls = 0;
        let mut watched = Watched::new(poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        }));
        for _ in 0..3 {
            assert!((&mut watched).now_or_never().is_none());
        }
        drop(watched);
        assert_eq!(polls, 1);
    }

    #[tokio::test]
    async fn whatever_wakes_it_wakes_its_task_and_it_ends() {
        let notify = Arc::new(Notify::new());
        let notified = pin!(notify.notified());
        let mut watched = Watched::new(notified);
        assert!((&mut watched).now_or_never().is_none());
        let waking = Arc::clone(&notify);
        tokio::spawn(async move { waking.notify_one() });
        watched.await;
    }
}
