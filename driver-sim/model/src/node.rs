//! The node: what it holds, how one is made, and how GPUs are found by index, uuid, PCI address or serial.

use std::ops::{Deref, DerefMut};

use crate::calls::CallLog;
use crate::client::Client;
use crate::code::{Code, Result};
use crate::event::EventRing;
use crate::fault::Fault;
use crate::gpu::{GONE, Gpu, LOST, RESET_REQUIRED};
use crate::gpu_model::GpuModel;
use crate::ids::{ComputeInstanceId, GpuInstanceId, GpuSlot, MigDevice};
use crate::memory_limit::{MAX_LIMITS, MemoryLimit};
use crate::plain::{Plain, Text, plain};

/// Most GPUs of a node.
pub const MAX_GPUS: usize = 16;
/// Most client slots of a node.
pub const MAX_CLIENTS: usize = 256;
/// Most faults that can be set at once.
const MAX_FAULTS: usize = 64;

plain! {
    /// What belongs to the node as a whole.
    pub struct Header {
        /// Everything that looks random derives from this.
        pub seed: u64,
        /// Grows with every change of anything but the call log.
        pub generation: u64,
        /// Grows whenever the files under the node directory must follow: instances, GPUs, driver state.
        pub layout_generation: u64,
        /// The `layout_generation` that the files show; written by the state crate.
        pub tree_generation: u64,
        /// Number of reboots.
        pub boots: u64,
        /// The stepped clock, used while `clock_stepped` is not 0.
        pub clock_ns: u64,
        /// 0: callers pass real time; otherwise [`Node::now`] answers `clock_ns`.
        pub clock_stepped: u32,
        /// See [`crate::DriverState`].
        pub driver_state: u32,
        /// Number of GPU slots in use, present or unplugged.
        pub gpu_count: u32,
        /// `cudaDriverVersion` as an integer: 12080.
        pub cuda_version: u32,
        /// What `nvmlSystemGetDriverVersion` answers.
        pub driver_version: Text<32>,
        /// What `nvmlSystemGetNVMLVersion` answers.
        pub nvml_version: Text<32>,
        /// Serial number of the next client registration.
        pub next_client: u64,
        /// Not 0: the kernel has no `dmem` controller, so no cgroup has memory limits.
        pub without_dmem: u32,
        /// Keeps the size a multiple of eight.
        pub reserved: u32,
    }
}

plain! {
    /// A GPU node. Every bit pattern is a valid value; numbers out of range are answered with an error code.
    pub struct Node {
        /// The node as a whole.
        pub header: Header,
        /// GPUs by [`GpuSlot`]; the first `header.gpu_count` are in use.
        pub gpus: [Gpu; MAX_GPUS],
        /// Client slots; free ones have pid 0.
        pub clients: [Client; MAX_CLIENTS],
        /// What happened, for event sets.
        pub events: EventRing,
        /// Faults; free ones have `remaining` 0.
        pub faults: [Fault; MAX_FAULTS],
        /// Memory limits per cgroup; free ones have `in_use` 0.
        pub memory_limits: [MemoryLimit; MAX_LIMITS],
        /// Calls and their counts.
        pub calls: CallLog,
    }
}

static EMPTY: Node = Node::ZERO;

/// A node in ordinary memory. Made without ever lying on the stack, where it would be too large.
#[derive(Clone, Debug)]
pub struct OwnedNode(Vec<Node>);

impl OwnedNode {
    /// A healthy idle node with the driver loaded.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: more than [`MAX_GPUS`] GPUs, an unknown model, or a driver version that does not start
    /// with a branch number.
    pub fn new(spec: &NodeSpec) -> Result<Self> {
        let branch = driver_branch(&spec.driver_version).ok_or(Code::INVALID_ARGUMENT)?;
        if spec.gpus.len() > MAX_GPUS {
            return Err(Code::INVALID_ARGUMENT);
        }
        // Copies from static memory straight to the heap.
        let mut node = Self(std::slice::from_ref(&EMPTY).to_vec());
        let header = &mut node.header;
        header.seed = spec.seed;
        header.driver_version = Text::new(&spec.driver_version);
        header.nvml_version = Text::new(&nvml_version(branch, &spec.driver_version));
        header.cuda_version = cuda_version(branch);
        header.next_client = 1;
        header.generation = 1;
        header.layout_generation = 1;
        for (slot, &model) in (0u32..).zip(&spec.gpus) {
            let gpu = Gpu::new(spec.seed, slot, model)?;
            node.gpus[slot as usize] = gpu;
            node.header.gpu_count = slot + 1;
        }
        Ok(node)
    }
}

impl Deref for OwnedNode {
    type Target = Node;
    fn deref(&self) -> &Node {
        self.0.first().unwrap_or(&EMPTY)
    }
}

impl DerefMut for OwnedNode {
    fn deref_mut(&mut self) -> &mut Node {
        // Never empty: `OwnedNode::new` is the only constructor.
        &mut self.0[0]
    }
}

/// What a node is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Positions of the models in [`GpuModel::all`], in PCI order; at most [`MAX_GPUS`].
    pub gpus: Vec<u32>,
    /// Driver version: `570.124.06`.
    pub driver_version: String,
    /// Seed of uuids, serial numbers and of the map from placements to GPU-instance ids.
    pub seed: u64,
}

impl NodeSpec {
    /// Driver version of a node when nothing else is asked for.
    pub const DEFAULT_DRIVER: &'static str = "570.124.06";

    /// A node of these models (`"h100-80gb"`), with the default driver.
    ///
    /// # Errors
    /// NOT_FOUND if a key names no model or several.
    pub fn of(keys: &[&str], seed: u64) -> Result<Self> {
        let gpus = keys
            .iter()
            .map(|key| GpuModel::find(key).ok_or(Code::NOT_FOUND))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            gpus,
            driver_version: Self::DEFAULT_DRIVER.to_owned(),
            seed,
        })
    }
}

impl Node {
    /// Notes a change: [`Header::generation`] grows.
    pub fn touch(&mut self) {
        self.header.generation = self.header.generation.wrapping_add(1);
    }

    /// Notes a change that the files under the node directory must follow.
    pub(crate) fn touch_layout(&mut self) {
        self.header.layout_generation = self.header.layout_generation.wrapping_add(1);
        self.touch();
    }

    /// The node's time: `real_ns`, or the stepped clock if there is one.
    pub fn now(&self, real_ns: u64) -> u64 {
        if self.header.clock_stepped == 0 {
            real_ns
        } else {
            self.header.clock_ns
        }
    }

    /// Slots in use, unplugged GPUs included.
    pub fn slots(&self) -> impl Iterator<Item = GpuSlot> + use<> {
        let used = self.header.gpu_count.min(16);
        (0..used).map(GpuSlot::new)
    }

    /// Slots of GPUs that are present, in NVML index order. Lost GPUs are present.
    pub fn present(&self) -> impl Iterator<Item = GpuSlot> + '_ {
        self.slots()
            .filter(|&slot| self.gpus[slot.get() as usize].health & GONE == 0)
    }

    /// `nvmlDeviceGetCount_v2`: the number of GPUs that are present.
    pub fn gpu_count(&self) -> u32 {
        self.present()
            .zip(1u32..)
            .last()
            .map_or(0, |(_, count)| count)
    }

    /// The GPU in `slot` whatever its health, for showing and injecting.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn gpu_any(&self, slot: GpuSlot) -> Result<&Gpu> {
        if slot.get() >= self.header.gpu_count {
            return Err(Code::INVALID_ARGUMENT);
        }
        self.gpus
            .get(slot.get() as usize)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// As [`Self::gpu_any`], to change it; the caller calls [`Self::touch`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn gpu_any_mut(&mut self, slot: GpuSlot) -> Result<&mut Gpu> {
        if slot.get() >= self.header.gpu_count {
            return Err(Code::INVALID_ARGUMENT);
        }
        self.gpus
            .get_mut(slot.get() as usize)
            .ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU in `slot`, for every query of a device handle.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot. NOT_FOUND: unplugged. GPU_IS_LOST: lost.
    pub fn gpu(&self, slot: GpuSlot) -> Result<&Gpu> {
        let gpu = self.gpu_any(slot)?;
        gpu.reachable()?;
        Ok(gpu)
    }

    /// The GPU in `slot`, for an operation that changes something.
    ///
    /// # Errors
    /// As [`Self::gpu`], and RESET_REQUIRED.
    pub fn gpu_usable(&self, slot: GpuSlot) -> Result<&Gpu> {
        let gpu = self.gpu(slot)?;
        if gpu.health & RESET_REQUIRED != 0 {
            return Err(Code::RESET_REQUIRED);
        }
        Ok(gpu)
    }

    pub(crate) fn gpu_usable_mut(&mut self, slot: GpuSlot) -> Result<&mut Gpu> {
        self.gpu_usable(slot)?;
        self.gpu_any_mut(slot)
    }

    /// `nvmlDeviceGetHandleByIndex_v2`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: index ≥ count. GPU_IS_LOST: that GPU is lost.
    pub fn slot_by_index(&self, index: u32) -> Result<GpuSlot> {
        let slot = self
            .present()
            .nth(index as usize)
            .ok_or(Code::INVALID_ARGUMENT)?;
        self.gpu(slot).map(|_| slot)
    }

    /// `nvmlDeviceGetIndex`: the position among the GPUs that are present.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn index_of(&self, slot: GpuSlot) -> Result<u32> {
        self.gpu(slot)?;
        let mut indices = self.present().zip(0u32..);
        indices
            .find(|(s, _)| *s == slot)
            .map(|(_, index)| index)
            .ok_or(Code::NOT_FOUND)
    }

    /// `nvmlDeviceGetHandleByUUID` for whole GPUs; see [`Self::mig_device_by_uuid`] for MIG devices.
    ///
    /// # Errors
    /// NOT_FOUND; GPU_IS_LOST.
    pub fn slot_by_uuid(&self, uuid: &str) -> Result<GpuSlot> {
        self.find_gpu(|gpu| gpu.uuid().eq_ignore_ascii_case(uuid))
    }

    /// `nvmlDeviceGetHandleByPciBusId_v2`: `domain:bus:device.function` with four or eight digits of domain, or
    /// `bus:device.function`.
    ///
    /// # Errors
    /// NOT_FOUND; GPU_IS_LOST.
    pub fn slot_by_pci_bus_id(&self, id: &str) -> Result<GpuSlot> {
        let wanted = parse_pci_bus_id(id).ok_or(Code::NOT_FOUND)?;
        self.find_gpu(|gpu| (gpu.pci_domain, gpu.pci_bus, gpu.pci_device) == wanted)
    }

    /// `nvmlDeviceGetHandleBySerial`.
    ///
    /// # Errors
    /// NOT_FOUND; GPU_IS_LOST.
    pub fn slot_by_serial(&self, serial: &str) -> Result<GpuSlot> {
        self.find_gpu(|gpu| gpu.serial() == serial)
    }

    fn find_gpu(&self, matches: impl Fn(&Gpu) -> bool) -> Result<GpuSlot> {
        let slot = self
            .present()
            .find(|slot| matches(&self.gpus[slot.get() as usize]))
            .ok_or(Code::NOT_FOUND)?;
        self.gpu(slot).map(|_| slot)
    }

    /// `nvmlDeviceGetHandleByUUID` for MIG devices: `MIG-<uuid>` or the old `MIG-GPU-<uuid>/<gi>/<ci>`.
    ///
    /// # Errors
    /// NOT_FOUND; GPU_IS_LOST.
    pub fn mig_device_by_uuid(&self, uuid: &str) -> Result<MigDevice> {
        if let Some(old) = uuid
            .strip_prefix("MIG-")
            .filter(|rest| rest.starts_with("GPU-"))
        {
            let mut parts = old.split('/');
            let gpu = self.slot_by_uuid(parts.next().ok_or(Code::NOT_FOUND)?)?;
            let mut number = || {
                parts
                    .next()
                    .and_then(|part| part.parse().ok())
                    .ok_or(Code::NOT_FOUND)
            };
            let gi = GpuInstanceId::new(number()?);
            let ci = ComputeInstanceId::new(number()?);
            self.ci(gpu, gi, ci)?;
            return Ok(MigDevice { gpu, gi, ci });
        }
        for slot in self.present() {
            for device in self.gpus[slot.get() as usize].mig_devices(slot) {
                if self.gpus[slot.get() as usize]
                    .mig_uuid(device)?
                    .eq_ignore_ascii_case(uuid)
                {
                    return self.gpu(slot).map(|_| device);
                }
            }
        }
        Err(Code::NOT_FOUND)
    }

    /// Whether a GPU is present but lost.
    pub fn is_lost(&self, slot: GpuSlot) -> bool {
        self.gpu_any(slot).is_ok_and(|gpu| gpu.health & LOST != 0)
    }
}

fn driver_branch(version: &str) -> Option<u32> {
    version
        .split('.')
        .next()?
        .parse()
        .ok()
        .filter(|branch| (450..1000).contains(branch))
}

/// The NVML version that a driver of this branch reports: CUDA major dot driver version.
fn nvml_version(branch: u32, driver: &str) -> String {
    format!("{}.{driver}", cuda_version(branch) / 1000)
}

/// The newest CUDA version that a driver of this branch supports (CUDA toolkit release notes).
fn cuda_version(branch: u32) -> u32 {
    match branch {
        ..460 => 11000,
        460..470 => 11020,
        470..510 => 11040,
        510..515 => 11060,
        515..520 => 11070,
        520..525 => 11080,
        525..530 => 12000,
        530..535 => 12010,
        535..545 => 12020,
        545..550 => 12030,
        550..555 => 12040,
        555..560 => 12050,
        560..565 => 12060,
        565..570 => 12070,
        570..575 => 12080,
        575..580 => 12090,
        580..590 => 13000,
        590..595 => 13010,
        595..610 => 13020,
        610..615 => 13030,
        _ => 13040,
    }
}

fn parse_pci_bus_id(id: &str) -> Option<(u32, u32, u32)> {
    let (address, function) = id.split_once('.').unwrap_or((id, "0"));
    if function != "0" {
        return None;
    }
    let mut parts = address.rsplit(':');
    let number = |part: Option<&str>| u32::from_str_radix(part?, 16).ok();
    let device = number(parts.next())?;
    let bus = number(parts.next())?;
    let domain = match parts.next() {
        None => 0,
        part => number(part)?,
    };
    parts.next().is_none().then_some((domain, bus, device))
}
