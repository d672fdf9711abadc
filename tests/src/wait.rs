//! Bounded, level-triggered waits: a test says what it waits for and looks at state, never at edges.
//!
//! A wait that runs out panics with the text of what did not come true, so that a failure reads as a
//! sentence. The short pause between two looks is the only sleep in the harness.

use std::time::{Duration, Instant};

/// How long a wait may take before the test fails. Generous: it is only ever used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(3);

/// Waits until `holds` is true.
///
/// # Panics
/// When it is not within [`PATIENCE`]; the text names `what`.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(())).await;
}

/// Waits until `look` finds something and returns it.
///
/// # Panics
/// When it finds nothing within [`PATIENCE`]; the text names `what`.
pub async fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let found = look_within(PATIENCE, look).await;
    found.unwrap_or_else(|| panic!("waited {} s in vain: {what}", PATIENCE.as_secs()))
}

/// Looks again and again for `limit`; `None` when nothing was found. For claims that something does
/// *not* happen, and for callers who judge the failure themselves.
pub async fn look_within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
