//! A call into the daemon that is answered whatever the daemon does: in time, and also when it panics.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::allocator::{Refusal, RefusalKind};

/// Runs `call` for at most `deadline`; `what` says in the refusal what did not happen.
///
/// It runs in the caller's task: no spawn, one timer. A call that blocks its thread is not helped by that; the
/// trait forbids it. With `panic = "abort"` a panic ends the process before anything here can answer.
pub(crate) async fn bounded<T>(
    deadline: Duration,
    what: &str,
    call: impl Future<Output = Result<T, Refusal>> + Send,
) -> Result<T, Refusal> {
    let mut call = pin!(call);
    // After an unwind the future is not polled again, so nobody sees what the panic left half done in it.
    let answered = poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
            Poll::Ready(Err(Refusal::new(
                RefusalKind::Internal,
                format!("{what} failed inside gpushared, see its log on the node"),
            )))
        })
    });
    tokio::time::timeout(deadline, answered)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(
                RefusalKind::Timeout,
                format!("{what} took gpushared longer than {deadline:?}, see its log on the node"),
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_refused_at_its_deadline() {
        let begun = tokio::time::Instant::now();
        let answer =
            bounded::<()>(Duration::from_secs(3), "allocating", std::future::pending()).await;
        assert_eq!(answer.expect_err("hung").kind, RefusalKind::Timeout);
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_is_refused() {
        let answer = bounded::<()>(Duration::from_secs(3), "allocating", async {
            panic!("broken")
        })
        .await;
        assert_eq!(answer.expect_err("panicked").kind, RefusalKind::Internal);
    }
}
