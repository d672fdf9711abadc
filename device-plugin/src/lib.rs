//! The kubelet's device-plugin protocol, v1beta1: one socket per resource, registration, the five RPCs.
//!
//! A front end: it translates and decides nothing. What is listed comes from the daemon through a `watch`
//! ([`DeviceListsRx`]), what a pod gets comes from the daemon's [`SliceAllocator`]. No NVML, no procfs, no
//! knowledge of slices beyond the text of their IDs.
//!
//! ```text
//!                  ┌─ dir watch ──────── what is in the kubelet's directory ──┐ watch
//!  DevicePlugin ───┤                                                         ▼
//!  (supervisor)    ├─ resource "gpu" ─── socket, server, registration ◀── lists (watch)
//!                  ├─ resource "mig-…" ─ socket, server, registration ◀── lists (watch)
//!                  └─ …                        │
//!                                              └──▶ status (watch)
//! ```
//!
//! | task | reads | ends |
//! |---|---|---|
//! | supervisor ([`DevicePlugin::run`]) | lists, its own tasks | at shutdown, or when a task ended by itself |
//! | dir watch (`kubelet_dir.rs`) | inotify, `stat` | at shutdown |
//! | one per resource (`registration.rs`) | dir watch, stream ends | at shutdown |
//! | one server per socket (`listener.rs`) | the kubelet | when the socket is replaced, at shutdown |
//!
//! Not covered: the plugin-watcher way of registering, and two daemons on one node (the daemon holds a lock).
#![forbid(unsafe_code)]

mod allocator;
mod backoff;
mod bounded;
mod dir_events;
mod error;
mod file_identity;
mod kubelet_dir;
mod list_and_watch;
mod listener;
mod lists;
mod plugin;
mod preference;
mod register;
mod registration;
mod report;
mod response;
mod roster;
mod service;
mod settings;
mod socket;
mod status;
mod streams;

pub use allocator::{Refusal, RefusalKind, SliceAllocator};
pub use error::PluginError;
pub use lists::{DeviceLists, DeviceListsRx, ListedDevice, MAX_DEVICES_PER_RESOURCE};
pub use plugin::DevicePlugin;
pub use report::{RegistrationState, RegistrationStatus, ResourceRegistration};
pub use settings::PluginSettings;
