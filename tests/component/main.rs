//! Component tier: the device plugin and the daemon against the fake kubelet, over real sockets and
//! without a GPU. The fake itself is judged first, on a plugin known to be good and on bad ones.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends by a panic, also in the functions that tests share"
)]

mod edge_cases;
mod fake_kubelet;
mod plugin_under_test;
mod reference_plugin;
