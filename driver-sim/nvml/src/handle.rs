//! Handles: numbers in pointer clothing, checked on every use and never followed.
//!
//! ```text
//! bits 47..40  kind (see `Kind`): no handle is small, null, or a pointer of ours
//! bits 39..32  GPU slot
//! bits 31..24  GPU instance id      (0xFF none)
//! bits 23..16  compute instance id  (0xFF none)
//! bits 15..0   low half of the instance's serial, so that a handle of a destroyed instance is stale even
//!              when its ids have been given out again
//! ```
//! The same instance has the same handle in every process, as long as it lives. Go requires foreign pointers
//! of at least 4096; these are far above.

use gpushared_driver_sim::{Code, Result};

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A GPU.
    Gpu = 0x61,
    /// A MIG device.
    MigDevice = 0x62,
    /// A GPU instance.
    GpuInstance = 0x63,
    /// A compute instance.
    ComputeInstance = 0x64,
    /// An event set of this process.
    EventSet = 0x65,
    /// A GPM sample buffer of this process.
    GpmSample = 0x66,
}

const NONE: u8 = 0xFF;

/// A decoded handle; nothing is known yet about what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) kind: Kind,
    pub(crate) slot: u8,
    pub(crate) gi: u8,
    pub(crate) ci: u8,
    pub(crate) serial: u16,
}

impl Handle {
    /// The handle of a GPU.
    pub(crate) fn gpu(slot: u32) -> Self {
        Self {
            kind: Kind::Gpu,
            slot: byte(slot),
            gi: NONE,
            ci: NONE,
            serial: 0,
        }
    }

    /// The handle of a GPU instance.
    pub(crate) fn gpu_instance(slot: u32, gi: u32, serial: u64) -> Self {
        Self {
            kind: Kind::GpuInstance,
            slot: byte(slot),
            gi: byte(gi),
            ci: NONE,
            serial: half(serial),
        }
    }

    /// The handle of a compute instance (`kind` says in which of its two roles).
    pub(crate) fn compute_instance(kind: Kind, slot: u32, gi: u32, ci: u32, serial: u64) -> Self {
        Self {
            kind,
            slot: byte(slot),
            gi: byte(gi),
            ci: byte(ci),
            serial: half(serial),
        }
    }

    /// The number that the C caller sees.
    pub(crate) fn to_raw(self) -> usize {
        let Self {
            kind,
            slot,
            gi,
            ci,
            serial,
        } = self;
        (kind as usize) << 40
            | usize::from(slot) << 32
            | usize::from(gi) << 24
            | usize::from(ci) << 16
            | usize::from(serial)
    }

    /// The handle behind a number.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a number that no kind of handle has.
    pub(crate) fn from_raw(raw: usize) -> Result<Self> {
        let [0, 0, kind, slot, gi, ci, high, low] = raw.to_be_bytes() else {
            return Err(Code::INVALID_ARGUMENT);
        };
        let kind = match kind {
            0x61 => Kind::Gpu,
            0x62 => Kind::MigDevice,
            0x63 => Kind::GpuInstance,
            0x64 => Kind::ComputeInstance,
            0x65 => Kind::EventSet,
            0x66 => Kind::GpmSample,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        Ok(Self {
            kind,
            slot,
            gi,
            ci,
            serial: u16::from_be_bytes([high, low]),
        })
    }

    /// Whether `serial` is the one that the handle was made with.
    pub(crate) fn is_of(self, serial: u64) -> bool {
        self.serial == half(serial)
    }
}

/// The number of a thing that only this process knows (event set, sample buffer).
pub(crate) fn local_to_raw(kind: Kind, number: u32) -> usize {
    (kind as usize) << 40 | number as usize
}

/// Back from [`local_to_raw`].
///
/// # Errors
/// `INVALID_ARGUMENT` for any other number.
pub(crate) fn local_from_raw(kind: Kind, raw: usize) -> Result<u32> {
    if raw >> 40 != kind as usize {
        return Err(Code::INVALID_ARGUMENT);
    }
    u32::try_from(raw & 0xFF_FFFF_FFFF).map_err(|_| Code::INVALID_ARGUMENT)
}

fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(NONE)
}

fn half(serial: u64) -> u16 {
    let [.., high, low] = serial.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use gpushared_driver_sim::Code;

    use super::{Handle, Kind, local_from_raw, local_to_raw};

    #[test]
    fn a_handle_survives_the_trip_through_c() {
        for handle in [
            Handle::gpu(15),
            Handle::gpu_instance(3, 14, 0x1_2345_6789),
            Handle::compute_instance(Kind::MigDevice, 0, 7, 6, u64::MAX),
        ] {
            assert_eq!(Handle::from_raw(handle.to_raw()), Ok(handle));
            assert!(handle.to_raw() >= 4096);
        }
    }

    #[test]
    fn numbers_that_are_no_handles_are_refused() {
        for raw in [0, 1, 4096, usize::MAX, 0x67 << 40, 1 << 56] {
            assert_eq!(
                Handle::from_raw(raw),
                Err(Code::INVALID_ARGUMENT),
                "{raw:#x}"
            );
        }
        let other = local_from_raw(Kind::EventSet, local_to_raw(Kind::GpmSample, 1));
        assert_eq!(other, Err(Code::INVALID_ARGUMENT));
        assert_eq!(
            local_from_raw(Kind::EventSet, local_to_raw(Kind::EventSet, 7)),
            Ok(7)
        );
    }
}
