//! A slice: everything that a pod can be given, as a kind on a GPU at a place.

use serde::{Deserialize, Serialize};

use crate::ids::GpuUuid;
use crate::mig::{MigProfileId, Placement};

/// Where a slice sits. The plugin device ID is this, written down ([`crate::device_id`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A whole GPU.
    Gpu(GpuUuid),
    /// A MIG device: profile and first memory slice on a GPU.
    Mig {
        /// The parent.
        gpu: GpuUuid,
        /// The GPU-instance profile.
        profile: MigProfileId,
        /// First memory slice.
        start: u32,
    },
}

impl Place {
    /// The GPU that it lies on.
    #[must_use]
    pub fn gpu(&self) -> &GpuUuid {
        match self {
            Self::Gpu(gpu) | Self::Mig { gpu, .. } => gpu,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SliceKind {
        match self {
            Self::Gpu(_) => SliceKind::Gpu,
            Self::Mig { .. } => SliceKind::Mig,
        }
    }
}

/// What kind of slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SliceKind {
    /// A whole GPU; the device node holds the limit.
    Gpu,
    /// A MIG device; hardware holds the limit.
    Mig,
}

/// A place with its extent, so that overlap can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Where it sits.
    pub place: Place,
    /// Memory slices that it covers; `None` for a whole GPU, which covers all.
    pub placement: Option<Placement>,
}

impl Slice {
    /// Can the two not be given out together?
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.place.gpu() == other.place.gpu()
            && match (self.placement, other.placement) {
                (Some(mine), Some(theirs)) => mine.overlaps(theirs),
                _ => true,
            }
    }
}
