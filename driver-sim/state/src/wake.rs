//! Waiting for a change: a futex on one word of the mapped file.
//!
//! JUSTIFICATION of the unsafe code: std has no wait across processes, and polling would delay or burn.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Changes the word and wakes every process that waits on it.
pub(crate) fn wake_all(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    // SAFETY: FUTEX_WAKE reads no memory but uses the address as a key; the word lies in a live mapping.
    let _woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            libc::c_int::MAX,
        )
    };
}

/// Waits until the word is no longer `seen`, at most `timeout`; may also return for no reason.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word lies in a live mapping and is aligned; the timespec outlives the call. Not FUTEX_PRIVATE: the
    // waker is another process.
    let _woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            &raw const timeout,
            ptr::null::<u32>(),
            0,
        )
    };
}
