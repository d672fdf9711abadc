//! Things that belong to this process and not to the node: event sets and GPM samples, by number.
//!
//! Numbers are never used again, so a freed handle stays invalid. A thing that is in use by a call (a wait on an
//! event set) outlives its own removal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpushared_driver_sim::{Code, EventSet, Result};

use crate::handle::{Kind, local_from_raw, local_to_raw};

/// Objects of one kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    kind: Kind,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    last: u32,
    by_number: BTreeMap<u32, Arc<Mutex<T>>>,
}

/// What a GPM sample buffer holds; empty until the first sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GpmSample {
    pub(crate) taken: Option<Activity>,
}

/// The state of a GPU or GPU instance at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// When.
    pub(crate) at_ns: u64,
    /// What it was taken of, for refusing pairs of different things: slot and GPU instance.
    pub(crate) of: (u32, u32),
    /// Declared work of the clients, permille.
    pub(crate) declared_permille: u32,
    /// All work that the present clients have ever done, ns.
    pub(crate) total_work_ns: u64,
    /// Memory in use, permille of all.
    pub(crate) memory_permille: u32,
}

/// Event sets of this process.
pub(crate) static EVENT_SETS: Table<EventSet> = Table::new(Kind::EventSet);
/// GPM sample buffers of this process.
pub(crate) static SAMPLES: Table<GpmSample> = Table::new(Kind::GpmSample);

/// What the last shutdown does.
pub(crate) fn forget_all() {
    EVENT_SETS.lock().by_number.clear();
    SAMPLES.lock().by_number.clear();
}

impl<T> Table<T> {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            entries: Mutex::new(Entries {
                last: 0,
                by_number: BTreeMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a thing and answers its handle.
    pub(crate) fn insert(&self, thing: T) -> usize {
        let mut entries = self.lock();
        entries.last += 1;
        let number = entries.last;
        entries
            .by_number
            .insert(number, Arc::new(Mutex::new(thing)));
        local_to_raw(self.kind, number)
    }

    /// The thing of a handle.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: not a handle of this kind, or freed.
    pub(crate) fn get(&self, raw: usize) -> Result<Arc<Mutex<T>>> {
        let number = local_from_raw(self.kind, raw)?;
        self.lock()
            .by_number
            .get(&number)
            .cloned()
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// Frees a handle.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn remove(&self, raw: usize) -> Result<()> {
        let number = local_from_raw(self.kind, raw)?;
        self.lock()
            .by_number
            .remove(&number)
            .map(|_| ())
            .ok_or(Code::INVALID_ARGUMENT)
    }
}

/// The thing itself; a panic while it was held left it usable, since it holds plain numbers.
pub(crate) fn hold<T>(thing: &Mutex<T>) -> MutexGuard<'_, T> {
    thing.lock().unwrap_or_else(PoisonError::into_inner)
}
