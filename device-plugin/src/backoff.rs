//! Waits between tries: 10 ms, doubled each time up to 1 s, each with jitter so that resources spread out.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait; also the time that the kubelet needs to settle after it has dropped a plugin.
pub(crate) const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// How long to wait before the next try.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait: between half and all of its step.
    pub(crate) fn next(&mut self) -> Duration {
        let step = FIRST
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        // The standard library's per-instance random keys are all the randomness that a jitter needs.
        let random = RandomState::new().build_hasher().finish() % 512;
        let jitter = u32::try_from(random).unwrap_or_default();
        step / 2 + step / 1024 * jitter
    }

    /// All is well again: the next wait is the first one.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let mut step = FIRST;
        for _ in 0..80 {
            let wait = backoff.next();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
