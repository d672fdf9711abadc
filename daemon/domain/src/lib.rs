//! What gpushared decides, without the machine: slices and their places, what is offered, leases, health.
//!
//! No I/O, no clock, no async, no unsafe: time is an argument, hardware is the trait in [`ports`]. The domain
//! knows no kubelet types; a front end (the device plugin today) only translates.
//!
//! The one idea: a plugin device ID **is** a place ([`device_id`]), never a name that the driver makes up at run
//! time, so IDs are the same after a restart of the daemon, of the kubelet and of the node.
#![forbid(unsafe_code)]

pub mod device_id;
pub mod edits;
pub mod foreign_id;
pub mod health;
pub mod ids;
pub mod inventory;
pub mod lease;
pub mod mig;
pub mod node;
pub mod offer;
pub mod ports;
pub mod prefer;
pub mod resource;
pub mod slice;
pub mod status;
pub mod xid;
