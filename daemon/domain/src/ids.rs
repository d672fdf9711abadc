//! Identifiers that must not be mixed up, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    /// What was read.
    pub text: String,
    /// What it should have been, with its form.
    pub expected: &'static str,
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = [8, 4, 4, 4, 12];
    groups.len() == lengths.len()
        && groups.iter().zip(lengths).all(|(group, length)| {
            group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as NVML writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let valid = text.strip_prefix($prefix).is_some_and(is_uuid);
                if valid {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseIdError { text: text.to_owned(), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uuid_id!(
    /// A physical GPU, for its life: `GPU-` and a UUID.
    GpuUuid, "GPU-", "a GPU UUID (GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx)"
);
uuid_id!(
    /// A MIG device as CUDA names it: `MIG-` and a UUID.
    ///
    /// The driver derives it from the GPU and the GPU instance id, so a later instance can carry it again: never
    /// a key for anything that outlives the instance.
    MigUuid, "MIG-", "a MIG UUID (MIG-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx)"
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// Position of a GPU in NVML's enumeration (PCI bus order); changes when a GPU is lost or added.
    GpuIndex
);
number_id!(
    /// `N` of `/dev/nvidiaN`. Read it again after a reset.
    GpuMinor
);
number_id!(
    /// A GPU instance within its GPU. Differs between boards for one placement and is used again after a destroy.
    GpuInstanceId
);
number_id!(
    /// A compute instance within its GPU instance.
    ComputeInstanceId
);
number_id!(
    /// A process id in the host's PID namespace.
    HostPid
);

/// PCI address in the form `00000000:1b:00.0` is written by NVML; this is the kernel's `0000:1b:00.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PciAddress(String);

impl PciAddress {
    /// From NVML's `busId` (domain of 4 or 8 hexadecimal digits, either case) to the kernel's form.
    ///
    /// # Errors
    /// When the text is not `domain:bus:device.function`.
    pub fn from_nvml(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.to_owned(),
            expected: "a PCI address (domain:bus:device.function)",
        };
        let mut parts = text.splitn(3, ':');
        let (Some(domain), Some(bus), Some(slot)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        let domain = u32::from_str_radix(domain, 16).map_err(|_| error())?;
        let bus = u8::from_str_radix(bus, 16).map_err(|_| error())?;
        let (device, function) = slot.split_once('.').ok_or_else(error)?;
        let device = u8::from_str_radix(device, 16).map_err(|_| error())?;
        let function = u8::from_str_radix(function, 16).map_err(|_| error())?;
        Ok(Self(format!(
            "{domain:04x}:{bus:02x}:{device:02x}.{function:x}"
        )))
    }

    /// As a folder name of `/sys/bus/pci/devices`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container of a pod, as PodResources names it (there is no UID there).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_uuid_is_taken_only_in_its_own_form() {
        let good = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert_eq!(good.parse::<GpuUuid>().expect("valid").to_string(), good);
        for bad in [
            "",
            "GPU-",
            "MIG-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
            "GPU-0f1e",
            "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1fg",
        ] {
            let error = bad.parse::<GpuUuid>().expect_err("refused");
            assert_eq!(error.text, bad);
        }
    }

    #[test]
    fn pci_address_is_the_kernels_whatever_the_width_nvml_used() {
        for text in ["00000000:1B:00.0", "0000:1b:00.0"] {
            assert_eq!(
                PciAddress::from_nvml(text).expect("valid").as_str(),
                "0000:1b:00.0"
            );
        }
        PciAddress::from_nvml("1b:00.0").expect_err("too short");
    }
}
