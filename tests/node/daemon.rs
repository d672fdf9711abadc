//! The daemon under test on a node: its configuration and its process.

use std::path::Path;
use std::time::Duration;

use crate::case::Setting;
use crate::component::Component;
use crate::gpus::{GPU, GPU_COUNT, Gpus, MIG, MIG_COUNT};
use crate::machine::Machine;

/// How long nothing may happen before a suspect device is healthy again: long enough that the
/// kubelet publishes the time in between.
const QUIET_SECONDS: u32 = 6;

/// How the daemon tells the runtime of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// By the names of CDI devices.
    Cdi,
    /// By the names of CDI devices in annotations of the container.
    CdiAnnotations,
    /// By device nodes in the answer to Allocate.
    DeviceNodes,
    /// By `NVIDIA_VISIBLE_DEVICES`, which is for NVIDIA's own runtime to read.
    Env,
}

/// A node with GPUs and the daemon on it. The fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Node {
    /// The daemon.
    pub(crate) daemon: Component,
    /// The machine.
    pub(crate) machine: Machine,
    /// Its GPUs.
    pub(crate) gpus: Gpus,
}

impl Node {
    /// Boots a node with the usual GPUs and waits until it offers all of them.
    pub(crate) fn boot(setting: &Setting, strategy: Strategy) -> Self {
        let machine = Machine::boot(setting);
        let gpus = Gpus::usual(setting, &machine.dir);
        let mut daemon = daemon(setting, &machine.dir, &gpus, strategy, "gpushared");
        daemon.start();
        let mut node = Self {
            daemon,
            machine,
            gpus,
        };
        node.until_all_offered();
        node
    }

    /// Waits until the node offers every device that it has.
    #[track_caller]
    pub(crate) fn until_all_offered(&mut self) {
        self.daemon.check_alive();
        self.machine.until_allocatable(MIG, MIG_COUNT);
        self.machine.until_allocatable(GPU, GPU_COUNT);
    }

    /// Waits until the daemon has registered every resource with the kubelet that was started last.
    #[track_caller]
    pub(crate) fn until_registered(&mut self) -> Duration {
        let machine = &self.machine;
        crate::wait::until(
            "both resources to be registered",
            Duration::from_secs(20),
            || {
                let delays = crate::kubelet::registration_delays(&machine.kubelet_log());
                let of = |resource| {
                    let mut found = delays.iter().filter(|(name, _)| name == resource);
                    found.next().map(|(_, delay)| *delay)
                };
                match (of(MIG), of(GPU)) {
                    (Some(mig), Some(gpu)) => crate::wait::Look::Found(mig.max(gpu)),
                    _ => crate::wait::Look::NotYet(format!("{delays:?}")),
                }
            },
        )
    }
}

/// Describes a daemon; `name` is that of its log.
pub(crate) fn daemon(
    setting: &Setting,
    dir: &Path,
    gpus: &Gpus,
    strategy: Strategy,
    name: &str,
) -> Component {
    let config = dir.join("gpushared.yaml");
    std::fs::write(&config, config_text(dir, gpus, strategy)).expect("the daemon's configuration");
    Component::new(name, &setting.gpushared, dir)
        .args(["run", "--config"])
        .args([config.display().to_string()])
}

fn config_text(dir: &Path, gpus: &Gpus, strategy: Strategy) -> String {
    let strategy = match strategy {
        Strategy::Cdi => "cdi",
        Strategy::CdiAnnotations => "cdi-annotations",
        Strategy::Env => "env",
        Strategy::DeviceNodes => "device-nodes",
    };
    // What is not named is at its default: the kubelet's places, /var/run/cdi, /run/gpushared. The
    // periods are short where a case waits for them.
    format!(
        "version: v1
driver:
  library: {driver}/lib/libnvidia-ml.so.1
  root: {driver}
  sysroot: {driver}
  rescanInterval: 1s
containers:
  deviceListStrategy: {strategy}
paths:
  state: {state}
health:
  probeInterval: 500ms
  quietPeriod: {QUIET_SECONDS}s
leases:
  grace: 5s
log:
  level: debug
",
        driver = gpus.dir().display(),
        state = dir.join("state").display(),
    )
}
