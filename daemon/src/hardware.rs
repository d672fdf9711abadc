//! The driver at start: opened, looked at once, or told what to install.

use std::time::{Duration, Instant};

use gpushared_domain::inventory::Inventory;
use gpushared_domain::ports::{DriverFault, GpuDriver, GpuDriverError};
use gpushared_nvml::{NvmlDriver, NvmlEvents, NvmlSettings};

use crate::app::AppError;
use crate::config::Config;
use crate::exit::Exit;
use crate::telemetry::Chain;

/// The driver, opened and looked at once.
pub struct Hardware {
    /// The door.
    pub(crate) driver: NvmlDriver,
    /// Its events, where it has them.
    pub(crate) events: Option<NvmlEvents>,
    /// The first look.
    pub(crate) inventory: Inventory,
}

impl std::fmt::Debug for Hardware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hardware")
            .field("gpus", &self.inventory.gpus.len())
            .finish_non_exhaustive()
    }
}

impl Hardware {
    /// Loads the driver's library and reads the inventory; waits for a driver that is not there yet as long as the
    /// configuration says. Blocks.
    ///
    /// # Errors
    /// With exit code 69 and what to install, when there is no usable driver.
    pub fn open(config: &Config) -> Result<Self, AppError> {
        let settings = NvmlSettings {
            library: config.driver.library.clone(),
            sysroot: config.driver.sysroot.clone(),
        };
        let started = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            match Self::try_open(&settings) {
                Ok(hardware) => return Ok(hardware),
                Err(error) if started.elapsed() < config.driver.wait_at_start => {
                    tracing::warn!(error = error.message, "Waiting for the NVIDIA driver");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_open(settings: &NvmlSettings) -> Result<Self, AppError> {
        let unavailable = |error: &GpuDriverError| {
            let hint = driver_hint(error.fault);
            AppError::new(Exit::DriverUnavailable, format!("{}; {hint}", Chain(error)))
        };
        let mut driver = NvmlDriver::open(settings).map_err(|error| unavailable(&error))?;
        let inventory = driver.observe().map_err(|error| unavailable(&error))?;
        let events = match driver.events() {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "No driver events; probes alone tell health");
                None
            }
        };
        Ok(Self {
            driver,
            events,
            inventory,
        })
    }
}

fn driver_hint(fault: DriverFault) -> &'static str {
    use DriverFault as Fault;
    match fault {
        Fault::LibraryMissing => {
            "install the NVIDIA driver (its package with libnvidia-ml.so.1), or set driver.library"
        }
        Fault::FunctionMissing => "install NVIDIA driver 470 or newer",
        Fault::DriverNotLoaded => "load the kernel module with `modprobe nvidia`",
        Fault::VersionMismatch => {
            "the kernel module is of another version than the library: reload it or reboot the node"
        }
        Fault::NoPermission => "run gpushared as root",
        _ => "see `dmesg` and nvidia-bug-report.sh for what ails the driver",
    }
}

/// Says what was found.
pub(crate) fn log_inventory(inventory: &Inventory) {
    let driver = &inventory.driver;
    tracing::info!(
        driver = driver.driver_version,
        gpus = inventory.gpus.len(),
        instances = inventory
            .gpus
            .iter()
            .map(|gpu| gpu.instances.len())
            .sum::<usize>(),
        "Driver answers"
    );
    if driver.simulated {
        tracing::warn!("The GPUs of this node are SIMULATED");
    }
    for (index, why) in &inventory.unreadable {
        tracing::warn!(gpu_index = index.0, why, "GPU cannot be read");
    }
}
