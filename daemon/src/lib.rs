//! The daemon: wiring of the hardware door, the machine, the domain and the front end.
//!
//! Decisions are the domain's; this crate moves what was seen to it and what it decided from it. [`app`] lists the
//! tasks and channels, [`reconciler`] says in which order things happen, [`run`] how the process starts and stops.
#![forbid(unsafe_code)]

pub mod admin;
pub mod allocator;
pub mod app;
pub mod config;
mod containers;
pub mod driver_thread;
pub mod durable;
pub mod exit;
pub mod grants;
pub mod hardware;
pub mod message;
pub mod reconciler;
mod recovery;
pub mod run;
pub mod telemetry;
pub mod watches;
