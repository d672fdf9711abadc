//! This process: the node, the devices it sees, its primary contexts and its allocations.
//!
//! ```text
//! absent ──cuInit──▶ here(pid) ──fork──▶ (in the child: another pid, so not initialised)
//! context: absent ──retain──▶ 1 ──retain──▶ 2 … ──release──▶ 0 = absent; 0→1 registers a client, 1→0 removes it
//! ```

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpushared_driver_sim::{ClientId, ClientKind, ClientSpec, MemoryInfo, Node, Process};
use gpushared_driver_sim_state::{SharedNode, own_cgroup, pid_namespace, process_start_time};

use crate::status::{Result, Status};
use crate::visible::{Device, visible};

/// What a context costs before the first allocation; published figures for Hopper and Ampere lie around it.
const CONTEXT_BYTES: u64 = 416 << 20;
/// Granularity of an allocation.
const GRANULE: u64 = 512;
/// Where device pointers start: high enough to be no host address by accident.
const FIRST_ADDRESS: u64 = 0x3000_0000_0000;

static HERE: Mutex<Option<Here>> = Mutex::new(None);

/// An initialised process.
#[derive(Debug)]
pub(crate) struct Here {
    pid: u32,
    node: Arc<SharedNode>,
    devices: Vec<Seat>,
    allocations: BTreeMap<u64, Allocation>,
    next_address: u64,
}

/// A device and what this process has on it.
#[derive(Debug)]
struct Seat {
    device: Device,
    /// Retains of the primary context.
    retained: u32,
    client: Option<ClientId>,
}

#[derive(Debug)]
struct Allocation {
    ordinal: u32,
    bytes: u64,
}

/// The state of this process; `None` before `cuInit`.
pub(crate) fn here() -> MutexGuard<'static, Option<Here>> {
    HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node of this process, initialised or not.
///
/// # Errors
/// NO_DEVICE: there is none.
pub(crate) fn node() -> Result<Arc<SharedNode>> {
    if let Some(here) = here()
        .as_ref()
        .filter(|here| here.pid == std::process::id())
    {
        return Ok(Arc::clone(&here.node));
    }
    let dir = SharedNode::locate(own_path().as_deref()).ok_or(Status::NO_DEVICE)?;
    SharedNode::open(&dir)
        .map(Arc::new)
        .map_err(|_| Status::NO_DEVICE)
}

/// `cuInit`: takes the devices that this process sees; a second time changes nothing.
///
/// # Errors
/// NO_DEVICE; SYSTEM_DRIVER_MISMATCH; NOT_INITIALIZED: this is a child after `fork` of an initialised process.
pub(crate) fn initialise(shared: &Arc<SharedNode>, node: &Node) -> Result<()> {
    let mut here = here();
    if here.is_some() {
        return initialised(&mut here).map(|_| ());
    }
    node.init()?;
    let variable = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let devices = visible(node, variable.as_deref());
    if devices.is_empty() {
        return Err(Status::NO_DEVICE);
    }
    let seat = |device| Seat {
        device,
        retained: 0,
        client: None,
    };
    *here = Some(Here {
        pid: std::process::id(),
        node: Arc::clone(shared),
        devices: devices.into_iter().map(seat).collect(),
        allocations: BTreeMap::new(),
        next_address: FIRST_ADDRESS,
    });
    Ok(())
}

/// The initialised process.
///
/// # Errors
/// NOT_INITIALIZED: no `cuInit`, or this is a child after `fork`.
pub(crate) fn initialised(here: &mut Option<Here>) -> Result<&mut Here> {
    let pid = std::process::id();
    here.as_mut()
        .filter(|here| here.pid == pid)
        .ok_or(Status::NOT_INITIALIZED)
}

impl Here {
    /// Number of devices.
    pub(crate) fn count(&self) -> usize {
        self.devices.len()
    }

    /// The device with this ordinal.
    ///
    /// # Errors
    /// INVALID_DEVICE.
    pub(crate) fn device(&self, ordinal: i32) -> Result<Device> {
        let seat = usize::try_from(ordinal)
            .ok()
            .and_then(|at| self.devices.get(at));
        seat.map(|seat| seat.device).ok_or(Status::INVALID_DEVICE)
    }

    fn seat(&mut self, ordinal: u32) -> Result<&mut Seat> {
        self.devices
            .get_mut(ordinal as usize)
            .ok_or(Status::INVALID_DEVICE)
    }

    /// Whether the primary context of a device exists.
    pub(crate) fn has_context(&self, ordinal: u32) -> bool {
        self.devices
            .get(ordinal as usize)
            .is_some_and(|seat| seat.retained > 0)
    }

    /// Retains the primary context; the first time this process becomes a client of the device.
    ///
    /// # Errors
    /// OUT_OF_MEMORY; DEVICE_UNAVAILABLE: the compute mode forbids it.
    pub(crate) fn retain(&mut self, node: &mut Node, ordinal: u32, now_ns: u64) -> Result<()> {
        let pid = self.pid;
        let seat = self.seat(ordinal)?;
        if seat.client.is_none() {
            let start_time = process_start_time(pid).ok_or(Status::UNKNOWN)?;
            let name = process_name();
            let spec = ClientSpec {
                process: Process { pid, start_time },
                kind: ClientKind::Compute,
                gpu: seat.device.slot(),
                mig: match seat.device {
                    Device::Gpu(_) => None,
                    Device::Mig(device) => Some((device.gi, device.ci)),
                },
                memory: CONTEXT_BYTES,
                busy_permille: 0,
                name: &name,
            };
            let client = node.register_client(&spec, now_ns)?;
            node.set_client_namespace(client, pid_namespace())?;
            node.set_client_cgroup(client, &own_cgroup().unwrap_or_default())?;
            seat.client = Some(client);
        }
        seat.retained += 1;
        Ok(())
    }

    /// Releases the primary context; the last time it is destroyed with its allocations.
    ///
    /// # Errors
    /// INVALID_CONTEXT: it was not retained.
    pub(crate) fn release(&mut self, node: &mut Node, ordinal: u32) -> Result<()> {
        let seat = self.seat(ordinal)?;
        seat.retained = seat
            .retained
            .checked_sub(1)
            .ok_or(Status::INVALID_CONTEXT)?;
        if seat.retained == 0 {
            self.destroy_context(node, ordinal)?;
        }
        Ok(())
    }

    /// Destroys the primary context whatever its count.
    ///
    /// # Errors
    /// INVALID_DEVICE.
    pub(crate) fn destroy_context(&mut self, node: &mut Node, ordinal: u32) -> Result<()> {
        let seat = self.seat(ordinal)?;
        seat.retained = 0;
        if let Some(client) = seat.client.take() {
            node.unregister_client(client);
        }
        self.allocations
            .retain(|_, allocation| allocation.ordinal != ordinal);
        Ok(())
    }

    /// Allocates device memory.
    ///
    /// # Errors
    /// INVALID_VALUE: nothing asked for; OUT_OF_MEMORY; UNKNOWN: the GPU is lost.
    pub(crate) fn allocate(&mut self, node: &mut Node, ordinal: u32, bytes: u64) -> Result<u64> {
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let rounded = bytes
            .checked_next_multiple_of(GRANULE)
            .ok_or(Status::OUT_OF_MEMORY)?;
        let client = self.seat(ordinal)?.client.ok_or(Status::INVALID_CONTEXT)?;
        node.reserve_memory(client, rounded)?;
        let address = self.next_address;
        self.next_address = address.saturating_add(rounded);
        self.allocations.insert(
            address,
            Allocation {
                ordinal,
                bytes: rounded,
            },
        );
        Ok(address)
    }

    /// Memory of the device of a context as this process may have it: a limit of its cgroup is its total.
    ///
    /// # Errors
    /// INVALID_CONTEXT; UNKNOWN: the GPU is lost.
    pub(crate) fn memory(&self, node: &Node, ordinal: u32) -> Result<MemoryInfo> {
        let seat = self.devices.get(ordinal as usize);
        let client = seat
            .and_then(|seat| seat.client)
            .ok_or(Status::INVALID_CONTEXT)?;
        Ok(node.client_memory(client)?)
    }

    /// Frees device memory.
    ///
    /// # Errors
    /// INVALID_VALUE: no allocation starts there.
    pub(crate) fn free(&mut self, node: &mut Node, address: u64) -> Result<()> {
        let Allocation { ordinal, bytes } = self
            .allocations
            .remove(&address)
            .ok_or(Status::INVALID_VALUE)?;
        let client = self.seat(ordinal)?.client.ok_or(Status::INVALID_CONTEXT)?;
        Ok(node.release_memory(client, bytes)?)
    }
}

/// Memory of a device as NVML sees it.
///
/// # Errors
/// As the model.
pub(crate) fn memory_of(node: &Node, device: Device) -> Result<MemoryInfo> {
    Ok(match device {
        Device::Gpu(slot) => node.memory(slot)?,
        Device::Mig(device) => node.mig_memory(device)?,
    })
}

fn process_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The file that this library was loaded from, as the loader names it.
fn own_path() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: fn() -> Option<PathBuf> = own_path;
    // SAFETY: the address lies in this library, and `info` is valid for writes.
    let found = unsafe { libc::dladdr(inside as *const libc::c_void, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr succeeded, so the name is a string that lives as long as this library is loaded, which it
    // stays (`-z nodelete`).
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
