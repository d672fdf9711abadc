//! Leases on a real daemon.
