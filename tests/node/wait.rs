//! Bounded, level-triggered waits: look, and look again, until a thing is so.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time between two looks. Short against everything measured here, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look found.
pub(crate) enum Look<T> {
    /// The thing is so.
    Found(T),
    /// Not yet; the text says what was seen instead, for the message at the end of the wait.
    NotYet(String),
}

/// Looks until the thing is found.
///
/// # Panics
/// After `limit`, with the subject and what the last look saw.
#[track_caller]
pub(crate) fn until<T>(
    subject: impl Display,
    limit: Duration,
    mut look: impl FnMut() -> Look<T>,
) -> T {
    let start = Instant::now();
    loop {
        let seen = match look() {
            Look::Found(value) => return value,
            Look::NotYet(seen) => seen,
        };
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} for {subject}; last seen: {seen}"
        );
        sleep(PAUSE);
    }
}

/// Waits until `value()` equals `wanted`.
#[track_caller]
pub(crate) fn until_eq<T: PartialEq + std::fmt::Debug>(
    subject: impl Display,
    limit: Duration,
    wanted: &T,
    mut value: impl FnMut() -> T,
) {
    until(format!("{subject} = {wanted:?}"), limit, || {
        let seen = value();
        if seen == *wanted {
            Look::Found(())
        } else {
            Look::NotYet(format!("{seen:?}"))
        }
    });
}

/// Checks for the whole of `span` that `look` finds nothing wrong. For claims of the form "it stays so".
#[track_caller]
pub(crate) fn throughout(
    subject: impl Display,
    span: Duration,
    mut wrong: impl FnMut() -> Option<String>,
) {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Some(seen) = wrong() {
            panic!("{subject} did not hold after {:?}: {seen}", start.elapsed());
        }
        sleep(PAUSE);
    }
}
