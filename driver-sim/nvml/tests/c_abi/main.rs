//! The built C library as its clients see it: loaded from a node directory, called through foreign bindings.
//!
//! The bindings are those of nvml-wrapper-sys, so a mistake in our own C types cannot hide behind itself. Tests
//! that change the node need root, or `GPUSIM_ANY_UID=1` in the environment; without either they say so and
//! stop.

#[cfg(test)]
mod events;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod mig;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod two_processes;
#[cfg(test)]
mod wrapper;
