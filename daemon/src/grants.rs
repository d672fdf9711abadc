//! What a grant puts into a container, by device-list strategy.
//!
//! | strategy | in the kubelet's answer |
//! |---|---|
//! | `cdi` | one CDI device, unique to the grant, whose file is on disk before the answer goes out |
//! | `cdi-annotations` | the same name as an annotation |
//! | `device-nodes` | device nodes, driver files as mounts, `NVIDIA_VISIBLE_DEVICES=void` |
//! | `env` | `NVIDIA_VISIBLE_DEVICES` with the UUIDs |
//!
//! `void` keeps an NVIDIA runtime from adding every GPU because an image says `NVIDIA_VISIBLE_DEVICES=all`.
//! No `CUDA_VISIBLE_DEVICES`: CUDA finds what the device nodes open, and a container that asks for two resources would get
//! two values, of which kubelet and runtime keep one. With `env` that cannot be helped: there a container must ask for one
//! resource only.
//! The kubelet stores the answer and replays it for ever, so a CDI name never stands for other places: it is made
//! from the grant's id, and [`Grants::restore`] writes its file again after a reboot or a change of the driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gpushared_domain::edits::{BindMount, ContainerEdits};
use gpushared_domain::lease::GrantId;
use gpushared_domain::offer::Handles;
use gpushared_host::cdi::{CdiError, CdiWriter};
use gpushared_host::device_nodes::{DeviceNodeError, DeviceNodeRoots};
use gpushared_host::driver_files::DriverFiles;

use crate::config::DeviceListStrategy;
use crate::telemetry::Chain;

const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// Vendor of our CDI devices.
pub(crate) const CDI_VENDOR: &str = "gpushared.io";
/// Class of our CDI devices.
pub(crate) const CDI_CLASS: &str = "slice";
const CDI_ANNOTATION: &str = "cdi.k8s.io/gpushared_";

/// Why a grant could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// A device node is missing.
    #[error("finding the device nodes")]
    DeviceNodes(#[from] DeviceNodeError),
    /// The CDI file could not be written.
    #[error("writing the CDI specification")]
    Cdi(#[from] CdiError),
}

/// The driver's files of this node, looked for when they are first needed and again until they are found.
#[derive(Debug)]
pub struct DriverMounts {
    root: PathBuf,
    version: String,
    found: Option<Vec<BindMount>>,
    told: bool,
}

impl DriverMounts {
    /// Of this version, under this root. Does not look yet.
    #[must_use]
    pub fn new(root: &Path, version: &str) -> Self {
        Self {
            root: root.to_owned(),
            version: version.to_owned(),
            found: None,
            told: false,
        }
    }

    fn look(&mut self) -> Option<&[BindMount]> {
        if self.found.is_none() {
            match DriverFiles::find(&self.root, &self.version) {
                Ok(files) => {
                    if self.told {
                        tracing::info!("Driver libraries found");
                    }
                    self.found = Some(files.mounts);
                }
                Err(error) if !self.told => {
                    self.told = true;
                    tracing::warn!(
                        error = %Chain(&error),
                        "Driver libraries not found: containers get device nodes only, and CDI files stay as they are; \
                         set driver.root"
                    );
                }
                Err(_) => {}
            }
        }
        self.found.as_deref()
    }
}

/// Makes, restores and removes what containers get.
#[derive(Debug)]
pub struct Grants {
    strategy: DeviceListStrategy,
    roots: DeviceNodeRoots,
    driver_files: DriverMounts,
    cdi: CdiWriter,
    /// What the files say that this process wrote.
    written: BTreeMap<GrantId, ContainerEdits>,
}

impl Grants {
    /// With the driver's files of this node.
    #[must_use]
    pub fn new(
        strategy: DeviceListStrategy,
        roots: DeviceNodeRoots,
        cdi: CdiWriter,
        driver_files: DriverMounts,
    ) -> Self {
        Self {
            strategy,
            roots,
            driver_files,
            cdi,
            written: BTreeMap::new(),
        }
    }

    /// How answers are given from here on; earlier ones stand.
    pub fn set_strategy(&mut self, strategy: DeviceListStrategy) {
        self.strategy = strategy;
    }

    /// Looks for the driver's files unless they are known. Call it before [`Self::restore`].
    pub fn look_for_driver_files(&mut self) {
        self.driver_files.look();
    }

    /// What stands before a grant's id in its CDI name.
    pub(crate) fn name_prefix() -> String {
        format!("{CDI_VENDOR}/{CDI_CLASS}=")
    }

    /// The answer to an Allocate. With CDI, the file is in place when this returns.
    ///
    /// # Errors
    /// When a device node is missing or the CDI file cannot be written; nothing is left behind.
    pub fn make(
        &mut self,
        grant: &GrantId,
        handles: &[&Handles],
    ) -> Result<ContainerEdits, GrantError> {
        let mut answer = ContainerEdits::default();
        match self.strategy {
            DeviceListStrategy::Env => {
                answer
                    .env
                    .insert(VISIBLE_DEVICES.to_owned(), visible_devices(handles));
            }
            // `auto` is resolved at start; what works with any runtime is its safe reading
            DeviceListStrategy::Auto | DeviceListStrategy::DeviceNodes => {
                answer = self.new_edits(handles)?;
            }
            DeviceListStrategy::Cdi => {
                let edits = self.new_edits(handles)?;
                let name = self.write(grant, edits)?;
                answer.cdi_devices.push(name);
            }
            DeviceListStrategy::CdiAnnotations => {
                let edits = self.new_edits(handles)?;
                let name = self.write(grant, edits)?;
                answer
                    .annotations
                    .insert(format!("{CDI_ANNOTATION}{grant}"), name);
            }
        }
        Ok(answer)
    }

    fn write(&mut self, grant: &GrantId, edits: ContainerEdits) -> Result<String, GrantError> {
        let name = self.cdi.write(grant, &edits)?;
        self.written.insert(grant.clone(), edits);
        Ok(name)
    }

    /// Writes the CDI file of a grant that was answered by CDI, whatever the strategy is now, where this process did
    /// not write it, somebody removed it, or it would say something else now. Says whether it did.
    ///
    /// Without the driver's files nothing is written: a file of an earlier life has them, and a container that cannot
    /// start is tried again, one that starts without its libraries is not.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn restore(&mut self, grant: &GrantId, handles: &[&Handles]) -> Result<bool, GrantError> {
        let Some(mounts) = self.driver_files.found.clone() else {
            return Ok(false);
        };
        let edits = self.container_edits(handles, mounts)?;
        if self.written.get(grant) == Some(&edits) && self.cdi.exists(grant) {
            return Ok(false);
        }
        self.write(grant, edits)?;
        Ok(true)
    }

    /// Removes a grant's CDI file; one that is gone already is fine.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&mut self, grant: &GrantId) -> Result<(), GrantError> {
        self.cdi.remove(grant)?;
        self.written.remove(grant);
        Ok(())
    }

    /// Removes CDI files of grants that do not stand; says how many.
    ///
    /// # Errors
    /// When the directory cannot be read or a file cannot be removed.
    pub fn remove_all_but(&self, stands: impl Fn(&GrantId) -> bool) -> Result<usize, GrantError> {
        let over: Vec<GrantId> = self
            .cdi
            .list()?
            .into_iter()
            .filter(|grant| !stands(grant))
            .collect();
        for grant in &over {
            self.cdi.remove(grant)?;
        }
        Ok(over.len())
    }

    fn new_edits(&mut self, handles: &[&Handles]) -> Result<ContainerEdits, GrantError> {
        let mounts = self.driver_files.look().unwrap_or_default().to_vec();
        self.container_edits(handles, mounts)
    }

    fn container_edits(
        &self,
        handles: &[&Handles],
        mounts: Vec<BindMount>,
    ) -> Result<ContainerEdits, GrantError> {
        let mut edits = ContainerEdits {
            device_nodes: self.roots.nodes(handles.iter().copied())?,
            mounts,
            ..ContainerEdits::default()
        };
        edits
            .env
            .insert(VISIBLE_DEVICES.to_owned(), "void".to_owned());
        Ok(edits)
    }
}

/// UUIDs of MIG devices, and of whole GPUs.
fn visible_devices(handles: &[&Handles]) -> String {
    let names: Vec<&str> = handles
        .iter()
        .map(|handles| {
            handles
                .mig
                .as_ref()
                .map_or(handles.gpu.as_str(), |mig| mig.uuid.as_str())
        })
        .collect();
    names.join(",")
}
