//! The front end against a small kubelet: real sockets, both sides of the protocol, no sleeping.
//!
//! Every wait is for a state, bounded by [`PATIENCE`]. "Nothing happened" is shown by something later that did.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of a test fail it like the test itself"
)]

mod calls;
mod fixture;
mod kubelet;
mod lists;
mod registration;

use std::time::Duration;

use tokio::sync::watch;

/// How long a state may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, and answers with what then is.
async fn until<T: Clone + std::fmt::Debug>(
    states: &mut watch::Receiver<T>,
    what: &str,
    holds: impl FnMut(&T) -> bool,
) -> T {
    let reached = tokio::time::timeout(PATIENCE, states.wait_for(holds)).await;
    let reached = reached.ok().and_then(Result::ok).map(|state| state.clone());
    reached.unwrap_or_else(|| panic!("{what}, but: {:?}", states.borrow().clone()))
}
