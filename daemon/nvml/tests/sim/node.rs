//! A simulated node of its own for each test, with its own copy of the library.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gpushared_domain::ids::GpuUuid;
use gpushared_domain::inventory::GpuState;
use gpushared_domain::mig::{GpuInstance, MigProfileId, Placement};
use gpushared_domain::ports::{GpuDriver as _, GpuDriverError};
use gpushared_driver_sim::{Code, GpuSlot, Node, NodeSpec, OwnedNode, Process};
use gpushared_driver_sim_state::{SharedNode, process_start_time};
use gpushared_nvml::{NvmlDriver, NvmlSettings};

pub(crate) const ONE_SLICE: MigProfileId = MigProfileId(19);

/// The node.
pub(crate) struct Sim {
    dir: tempfile::TempDir,
    shared: SharedNode,
}

impl Sim {
    /// With GPUs of these models.
    pub(crate) fn new(models: &[&str]) -> Self {
        let spec = NodeSpec::of(models, 7).expect("known models");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let node = OwnedNode::new(&spec).expect("a node");
        let shared = SharedNode::create(dir.path(), &node).expect("a node directory");
        let lib = dir.path().join("lib");
        fs::create_dir_all(&lib).expect("a directory for libraries");
        fs::copy(built_library(), lib.join("libnvidia-ml.so.1")).expect("the library copied");
        Self { dir, shared }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.dir.path().join("lib/libnvidia-ml.so.1")
    }

    /// Takes functions out of the library, as in an older driver: their names in the symbol table become others, so
    /// that the loader does not find them.
    pub(crate) fn without(self, functions: &[&str]) -> Self {
        let mut image = fs::read(self.library()).expect("the library");
        for function in functions {
            let name = format!("\0{function}\0");
            // The names lie near the beginning; debug information, megabytes of it, at the end.
            let beginning = &image[..image.len().min(1 << 20)];
            let positions: Vec<usize> = beginning
                .windows(name.len())
                .enumerate()
                .filter(|(_, window)| *window == name.as_bytes())
                .map(|(position, _)| position)
                .collect();
            assert!(!positions.is_empty(), "{function} is not exported");
            for position in positions {
                image[position + 1] = b'X';
            }
        }
        fs::write(self.library(), image).expect("the library written");
        self
    }

    pub(crate) fn settings(&self) -> NvmlSettings {
        NvmlSettings {
            library: Some(self.library()),
            sysroot: self.path().to_owned(),
        }
    }

    pub(crate) fn try_open(&self) -> Result<NvmlDriver, GpuDriverError> {
        NvmlDriver::open(&self.settings())
    }

    pub(crate) fn open(&self) -> NvmlDriver {
        self.try_open().expect("the library opens")
    }

    /// Changes or reads the node from outside.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Node) -> T) -> T {
        self.shared.with_unreaped(f).expect("the node's lock")
    }

    /// MIG mode on, in force, on every GPU that has MIG.
    pub(crate) fn mig_on(self) -> Self {
        self.with(|node| {
            let slots: Vec<GpuSlot> = node.slots().collect();
            for slot in slots {
                // Ampere takes the mode with the next reset, Hopper at once and loses it with a reset.
                match node.set_mig_mode(slot, 1, 0) {
                    Ok(Code::SUCCESS)
                        if node.mig_mode(slot).is_ok_and(|mode| mode.current == 1) => {}
                    Ok(_) => node.reset_gpu(slot, 0).expect("an idle GPU"),
                    Err(_) => {}
                }
            }
        });
        self
    }

    /// `function` answers `code`: the next `count` calls, or all.
    pub(crate) fn fault(&self, function: &str, code: u32, count: Option<u32>) {
        self.with(|node| {
            let mut fault = gpushared_driver_sim::FaultSpec::new(function, Code::new(code));
            fault.count = count;
            node.set_fault(&fault).expect("a free fault");
        });
    }
}

pub(crate) fn slot(number: u32) -> GpuSlot {
    GpuSlot::new(number)
}

/// The only GPU, or the first.
pub(crate) fn first_gpu(driver: &mut NvmlDriver) -> GpuState {
    let mut inventory = driver.observe().expect("the driver answers");
    assert!(!inventory.gpus.is_empty(), "{inventory:?}");
    inventory.gpus.remove(0)
}

/// Creates an instance of a profile at a start, with its compute instance.
pub(crate) fn create(
    driver: &mut NvmlDriver,
    gpu: &GpuState,
    profile: MigProfileId,
    start: u32,
) -> GpuInstance {
    let uuid = &gpu.facts.uuid;
    let placement = placement(gpu, profile, start);
    let mut instance = driver
        .create_gpu_instance(uuid, profile, placement)
        .expect("a free place");
    let compute = driver
        .create_compute_instance(uuid, instance.id)
        .expect("a compute instance");
    instance.compute_instances.push(compute);
    instance
}

pub(crate) fn placement(gpu: &GpuState, profile: MigProfileId, start: u32) -> Placement {
    let profile = gpu.profile(profile).expect("a profile of the GPU");
    let found = profile
        .placements
        .iter()
        .find(|placement| placement.start == start);
    *found.expect("a placement of the profile")
}

pub(crate) fn uuid_of(driver: &mut NvmlDriver) -> GpuUuid {
    first_gpu(driver).facts.uuid
}

/// A process as the simulator knows it.
pub(crate) fn process(pid: u32) -> Process {
    Process {
        pid,
        start_time: process_start_time(pid).expect("a living process"),
    }
}

/// Whether this process may change MIG through the library; says so when it may not.
pub(crate) fn may_change() -> bool {
    let anybody = std::env::var_os("GPUSIM_ANY_UID").is_some_and(|value| value == "1");
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !anybody && !root {
        println!("skipped: needs root or GPUSIM_ANY_UID=1");
    }
    anybody || root
}

/// The library that Cargo built for these tests: beside the test program.
fn built_library() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test program's path");
    path.pop();
    path.push("libnvidia_ml.so");
    assert!(path.is_file(), "{} is not built", path.display());
    path
}
