//! The lock of a node: a pthread mutex that is process-shared, robust (a dead owner is noticed) and error-checking
//! (locking it twice in one thread is an error and not a deadlock).
//!
//! JUSTIFICATION of the unsafe code: std's locks know neither other processes nor dead owners; a file lock costs
//! thirty times as much and does not tell that its owner died in the middle.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::{fmt, io};

use crate::error::StateError;
use crate::mapping::Mapping;

/// What the lock's owner before us left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It unlocked.
    Left,
    /// It died while it held the lock.
    Died,
}

/// The lock, held until drop, in the thread that took it.
pub(crate) struct Guard<'a> {
    mapping: &'a Mapping,
    /// A raw pointer keeps it from being sent to another thread, which could not unlock.
    stays_here: PhantomData<*mut ()>,
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Initialises the mutex of a file that nobody else has mapped yet.
pub(crate) fn initialise(mutex: *mut libc::pthread_mutex_t) -> Result<(), StateError> {
    let mut storage = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let attributes = storage.as_mut_ptr();
    // SAFETY: the pointer is valid for writes of an attribute object.
    check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
    // SAFETY: initialised by the call above.
    check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
    // SAFETY: initialised by the first call.
    check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
    // SAFETY: initialised by the first call.
    check(unsafe { libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_ERRORCHECK) })?;
    // SAFETY: `mutex` points into a mapping that only this process has; the attributes are initialised.
    check(unsafe { libc::pthread_mutex_init(mutex, attributes) })?;
    // SAFETY: initialised by the first call and not used after this one.
    check(unsafe { libc::pthread_mutexattr_destroy(attributes) })
}

/// Takes the lock; waits for as long as its owner lives.
pub(crate) fn acquire(mapping: &Mapping) -> Result<(Guard<'_>, Before), StateError> {
    let guard = || Guard {
        mapping,
        stays_here: PhantomData,
    };
    // SAFETY: the mutex lies in a live mapping, was initialised before the file got its name (`Mapping::create`), and
    // the processes that share it keep to the rules (crate documentation, Trust).
    match unsafe { libc::pthread_mutex_lock(mapping.mutex()) } {
        0 => Ok((guard(), Before::Left)),
        libc::EOWNERDEAD => {
            let guard = guard();
            // SAFETY: EOWNERDEAD means that this thread holds the lock and may mark it consistent.
            check(unsafe { libc::pthread_mutex_consistent(mapping.mutex()) })?;
            Ok((guard, Before::Died))
        }
        error => Err(StateError::Lock {
            source: io::Error::from_raw_os_error(error),
        }),
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: a Guard exists only in the thread that took the lock (it is not Send), so this thread owns the mutex;
        // unlocking cannot fail for the owner.
        let _ignored = unsafe { libc::pthread_mutex_unlock(self.mapping.mutex()) };
    }
}

fn check(result: libc::c_int) -> Result<(), StateError> {
    match result {
        0 => Ok(()),
        error => Err(StateError::Lock {
            source: io::Error::from_raw_os_error(error),
        }),
    }
}
