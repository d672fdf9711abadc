//! Component tier: the device plugin and the daemon against the fake kubelet, over real sockets and
//! without a GPU. The fake itself is judged first, on a plugin known to be good and on bad ones.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends by a panic, also in the functions that tests share"
)]

mod fake_kubelet;
mod reference_plugin;
