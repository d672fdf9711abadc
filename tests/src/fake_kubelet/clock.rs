//! The fake kubelet's clock and its source of chance: real time plus what the test adds, and a
//! seeded generator in place of Go's random map order.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Real time since the start, plus what [`Clock::advance`] added: five minutes pass at once.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    added: Mutex<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            added: Mutex::new(Duration::ZERO),
        }
    }

    /// Lets `by` pass without waiting.
    pub fn advance(&self, by: Duration) {
        *self.added.lock().unwrap() += by;
    }

    /// Time since the fake kubelet was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed() + *self.added.lock().unwrap()
    }
}

/// `SplitMix64`: enough for orders that only have to differ from run to run by the seed.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Puts `items` into an order of this seed's choosing.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u64::try_from(last + 1).unwrap();
            let other = usize::try_from(self.next() % bound).unwrap();
            items.swap(last, other);
        }
    }
}
