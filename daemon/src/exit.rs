//! Exit codes, an interface: the unit file's restart rules and the README name them (numbers of sysexits.h).

use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop, and stopped.
    Ok = 0,
    /// Command line or configuration is wrong; starting again does not help.
    Usage = 64,
    /// The NVIDIA driver is absent, not loaded or too old.
    DriverUnavailable = 69,
    /// A broken invariant or a task that ended by itself.
    Internal = 70,
    /// The machine refuses what the daemon needs: a directory, a socket, a lock.
    System = 71,
    /// Something is on its way that a new start cures, such as a driver that was replaced under us.
    Temporary = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
