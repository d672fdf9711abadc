//! How this node's containers get their devices: strategy, device nodes, driver files.

use std::path::PathBuf;
use std::time::Duration;

use gpushared_domain::inventory::DriverInfo;
use gpushared_host::cdi::{CdiWriter, PlainFiles};
use gpushared_host::container_runtime::{CdiSupport, cdi_support};
use gpushared_host::device_nodes::DeviceNodeRoots;

use crate::app::AppError;
use crate::config::{Config, DeviceListStrategy};
use crate::durable::Durable;
use crate::exit::Exit;
use crate::grants::{CDI_CLASS, CDI_VENDOR, DriverMounts, Grants};
use crate::telemetry::Chain;

const RUNTIME_DEADLINE: Duration = Duration::from_millis(500);
/// Between questions to a runtime that did not answer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The strategy that is meant by `auto`: CDI only where the runtime itself says so, since a runtime without it
/// starts the container without its GPU and without a word; device nodes work with any. A runtime that does not
/// answer is taken at its last word; [`ask_until_known`] asks it again.
pub(crate) async fn resolve_strategy(
    config: &Config,
    durable: &mut Durable,
) -> (DeviceListStrategy, Known) {
    if config.strategy != DeviceListStrategy::Auto {
        return (config.strategy, Known::Yes);
    }
    match runtime_has_cdi(config).await {
        Ok(has_cdi) => {
            durable.runtime_has_cdi = Some(has_cdi);
            (of_runtime(has_cdi), Known::Yes)
        }
        Err(why) => {
            let strategy = of_runtime(durable.runtime_has_cdi.unwrap_or(false));
            tracing::warn!(
                why,
                %strategy,
                last_known = durable.runtime_has_cdi.is_some(),
                "The container runtime does not say whether it has CDI; it is asked again"
            );
            (strategy, Known::NotYet)
        }
    }
}

/// Has the container runtime said what it takes?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has, or the configuration does not leave it to the runtime.
    Yes,
    /// It is to be asked again.
    NotYet,
}

/// What `auto` means with a runtime that has CDI, or has not.
pub(crate) fn of_runtime(has_cdi: bool) -> DeviceListStrategy {
    if has_cdi {
        DeviceListStrategy::Cdi
    } else {
        DeviceListStrategy::DeviceNodes
    }
}

/// Asks the runtime, ever more seldom, until it says whether it has CDI.
pub(crate) async fn ask_until_known(config: &Config) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        match runtime_has_cdi(config).await {
            Ok(has_cdi) => return has_cdi,
            Err(why) => tracing::debug!(why, "The container runtime still does not say"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Or why that is not known.
async fn runtime_has_cdi(config: &Config) -> Result<bool, String> {
    match cdi_support(&config.runtime_sockets, RUNTIME_DEADLINE).await {
        CdiSupport::Yes { runtime, spec_dirs } => {
            if spec_dirs.is_empty() || reads(&spec_dirs, &config.cdi_dir) {
                tracing::info!(runtime, "Containers get their devices through CDI");
                return Ok(true);
            }
            tracing::warn!(
                runtime,
                cdi_dir = %config.cdi_dir.display(),
                ?spec_dirs,
                "The runtime does not read containers.cdiDir; containers get device nodes instead"
            );
        }
        CdiSupport::No { runtime, why } => {
            tracing::info!(runtime, why, "Containers get device nodes: no CDI");
        }
        CdiSupport::Unknown { why } => return Err(why),
    }
    Ok(false)
}

/// `/var/run` and `/run` are one directory on every current system.
fn reads(spec_dirs: &[PathBuf], dir: &std::path::Path) -> bool {
    let real = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    spec_dirs
        .iter()
        .any(|spec_dir| spec_dir == dir || real(spec_dir) == real(dir))
}

/// With the driver's files of this node.
pub(crate) fn build_grants(config: &Config, driver: &DriverInfo) -> Result<Grants, AppError> {
    let plain_files = if driver.simulated {
        PlainFiles::Mounted
    } else {
        PlainFiles::Refused
    };
    let cdi = CdiWriter::new(config.cdi_dir.clone(), CDI_VENDOR, CDI_CLASS, plain_files)
        .map_err(|error| AppError::new(Exit::Internal, Chain(&error).to_string()))?;
    let roots = DeviceNodeRoots {
        sysroot: config.driver.sysroot.clone(),
        dev: config.driver.sysroot.join("dev"),
    };
    let mut grants = Grants::new(
        config.strategy,
        roots,
        cdi,
        DriverMounts::new(&config.driver.root, &driver.driver_version),
    );
    if config.strategy != DeviceListStrategy::Env {
        grants.look_for_driver_files();
    }
    Ok(grants)
}
