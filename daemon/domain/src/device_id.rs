//! The codec between places and the plugin device IDs that the kubelet counts.
//!
//! | place | ID |
//! |---|---|
//! | whole GPU | `GPU-<uuid>` |
//! | MIG device | `GPU-<uuid>/mig/<profile id>@<first memory slice>` |
//!
//! An ID is unique over all resources of the node (the kubelet mixes up health events otherwise) and says where to
//! build the slice again after a reboot. The profile's number stands in it, not its name: names change with the
//! driver, and an ID that vanishes while it is held takes the kubelet down.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{GpuUuid, ParseIdError};
use crate::mig::MigProfileId;
use crate::slice::Place;

const EXPECTED: &str =
    "a plugin device ID of gpushared (GPU-<uuid> or GPU-<uuid>/mig/<profile>@<start>)";
/// More than any ID of ours has; what is longer is not looked at.
const LONGEST: usize = 128;

/// What the kubelet counts: a [`Place`], written down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginDeviceId {
    text: String,
    place: Place,
}

impl PluginDeviceId {
    /// The place that it stands for.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// As the kubelet sees it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<Place> for PluginDeviceId {
    fn from(place: Place) -> Self {
        let text = match &place {
            Place::Gpu(gpu) => gpu.to_string(),
            Place::Mig {
                gpu,
                profile,
                start,
            } => format!("{gpu}/mig/{profile}@{start}"),
        };
        Self { text, place }
    }
}

/// A number as we write it: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    let value: u32 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

impl FromStr for PluginDeviceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.chars().take(LONGEST).collect(),
            expected: EXPECTED,
        };
        if text.len() > LONGEST {
            return Err(error());
        }
        let place = match text.split_once('/') {
            None => Place::Gpu(text.parse().map_err(|_| error())?),
            Some((gpu, rest)) => {
                let gpu: GpuUuid = gpu.parse().map_err(|_| error())?;
                let (profile, start) = rest
                    .strip_prefix("mig/")
                    .and_then(|rest| rest.split_once('@'))
                    .and_then(|(profile, start)| Some((number(profile)?, number(start)?)))
                    .ok_or_else(error)?;
                Place::Mig {
                    gpu,
                    profile: MigProfileId(profile),
                    start,
                }
            }
        };
        Ok(Self {
            text: text.to_owned(),
            place,
        })
    }
}

impl TryFrom<String> for PluginDeviceId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<PluginDeviceId> for String {
    fn from(id: PluginDeviceId) -> String {
        id.text
    }
}

impl fmt::Display for PluginDeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GPU: &str = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    proptest! {
        #[test]
        fn every_place_comes_back_from_its_id(profile in 0_u32..200, start in 0_u32..16) {
            let gpu: GpuUuid = GPU.parse().expect("valid");
            for place in [
                Place::Gpu(gpu.clone()),
                Place::Mig { gpu, profile: MigProfileId(profile), start },
            ] {
                let id = PluginDeviceId::from(place.clone());
                let read: PluginDeviceId = id.as_str().parse().expect("own ID");
                prop_assert_eq!(read.place(), &place);
                prop_assert_eq!(read, id);
            }
        }

        #[test]
        fn no_text_is_read_as_an_id_that_would_be_written_otherwise(text in ".{0,80}") {
            if let Ok(id) = text.parse::<PluginDeviceId>() {
                let written = PluginDeviceId::from(id.place().clone());
                prop_assert_eq!(written.as_str(), text.as_str());
            }
        }
    }

    #[test]
    fn foreign_and_malformed_ids_are_refused() {
        for text in [
            "",
            "0",
            "MIG-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
            &format!("{GPU}::0"),
            &format!("{GPU}/mig/19@03"),
            &format!("{GPU}/mig/+19@3"),
            &format!("{GPU}/mig/19@3/"),
            &format!("{GPU}/"),
            &"x".repeat(5000),
        ] {
            let error = text.parse::<PluginDeviceId>().expect_err(text);
            assert!(error.text.len() <= LONGEST);
        }
    }
}
