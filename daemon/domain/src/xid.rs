//! What an Xid means for the slices that it names.
//!
//! Sources: NVIDIA's Xid catalogue (meaning and resolution of each number) and the lists of NVIDIA's device plugin
//! 0.20, with the two corrections that its users ask for (94 is contained to one process, 109 is not).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Caused by the program that ran, which gets the error itself; the GPU is fine.
const OF_THE_APPLICATION: [u64; 7] = [
    13, // graphics engine exception
    31, // MMU fault
    43, // GPU stopped processing: the channel of the faulting program
    45, // pre-emptive clean-up after another error or a killed program
    63, // row remapping or page retirement recorded; takes effect at the next reset, nothing is broken now
    68, // video decoder exception
    94, // contained ECC error: the process that hit it is told
];

/// Nothing short of a reset of the GPU, a new driver or a reboot cures these.
const NEEDS_RESET: [u64; 12] = [
    48,  // double-bit ECC error
    62,  // internal micro-controller halt
    64,  // row remapping failed
    74,  // NVLink error
    79,  // fallen off the bus
    95,  // uncontained ECC error
    119, // GSP did not answer
    120, // GSP error
    136, // link training failed
    140, // unrecovered ECC error
    143, // GPU initialisation failed
    155, // NVLink software-defined error
];

/// What is done about an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XidClass {
    /// Counted only.
    Ignored,
    /// Unhealthy until the GPU has answered its probes for the quiet period with no further Xid.
    Suspect,
    /// Unhealthy until a reset was seen or an operator says so.
    NeedsReset,
}

/// The table, with the node's own changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XidTable {
    /// Counted only, whatever the built-in table says.
    pub ignored: BTreeSet<u64>,
    /// Suspect, whatever the built-in table says.
    pub suspect: BTreeSet<u64>,
    /// Needs a reset, whatever the built-in table says.
    pub needs_reset: BTreeSet<u64>,
}

impl XidTable {
    /// The class of an Xid; the node's lists first (`needs_reset`, `suspect`, `ignored`), then the built-in
    /// table; an Xid that nobody knows is suspect.
    #[must_use]
    pub fn class(&self, xid: u64) -> XidClass {
        if self.needs_reset.contains(&xid) {
            XidClass::NeedsReset
        } else if self.suspect.contains(&xid) {
            XidClass::Suspect
        } else if self.ignored.contains(&xid) || OF_THE_APPLICATION.contains(&xid) {
            XidClass::Ignored
        } else if NEEDS_RESET.contains(&xid) {
            XidClass::NeedsReset
        } else {
            XidClass::Suspect
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_errors_are_the_applications_and_timeouts_are_not() {
        let table = XidTable::default();
        assert_eq!(table.class(94), XidClass::Ignored);
        assert_eq!(table.class(109), XidClass::Suspect);
        assert_eq!(table.class(79), XidClass::NeedsReset);
        assert_eq!(table.class(4711), XidClass::Suspect);
    }

    #[test]
    fn the_nodes_lists_win_and_the_stricter_of_them_first() {
        let table = XidTable {
            ignored: [79, 74].into(),
            suspect: [74, 13].into(),
            needs_reset: [31].into(),
        };
        assert_eq!(table.class(79), XidClass::Ignored);
        assert_eq!(table.class(74), XidClass::Suspect);
        assert_eq!(table.class(13), XidClass::Suspect);
        assert_eq!(table.class(31), XidClass::NeedsReset);
    }
}
