//! Clients: processes that hold a GPU, memory and work. What NVML reports follows from them.

use crate::code::{Code, Result};
use crate::gpu::MemoryInfo;
use crate::ids::{ComputeInstanceId, GpuInstanceId, GpuSlot, NO_INSTANCE, Process};
use crate::node::Node;
use crate::plain::{Plain, Text, plain};

/// Utilisation is taken over windows of this length.
const WINDOW_NS: u64 = 1_000_000_000;

plain! {
    /// One client: a process on one GPU (or MIG device). A process on two GPUs is two clients.
    pub struct Client {
        /// Process id; 0: this slot is free.
        pub pid: u32,
        /// See [`ClientKind`].
        pub kind: u32,
        /// Start time of the process.
        pub start_time: u64,
        /// Serial number of the registration.
        pub serial: u64,
        /// [`GpuSlot`].
        pub gpu: u32,
        /// GPU instance, or [`NO_INSTANCE`].
        pub gi: u32,
        /// Compute instance, or [`NO_INSTANCE`].
        pub ci: u32,
        /// Declared work in permille of the device it runs on.
        pub busy_permille: u32,
        /// Memory held, in bytes.
        pub used_bytes: u64,
        /// Start of the work window.
        pub window_ns: u64,
        /// Work given since the start of the window and left over from before, in ns of device time.
        pub work_ns: u64,
        /// Work done in the window before.
        pub done_ns: u64,
        /// All work ever given, in ns of device time.
        pub total_work_ns: u64,
        /// Most memory that this client may hold (MPS pinned device memory limit), in bytes; 0 = no limit.
        pub limit_bytes: u64,
        /// Inode of the PID namespace that `pid` belongs to; 0 = that of whoever reads.
        pub pid_namespace: u64,
        /// MPS active thread percentage; 0 = none set.
        pub thread_percentage: u32,
        /// Keeps the size a multiple of eight.
        pub reserved: u32,
        /// Process name.
        pub name: Text<64>,
        /// Path of its cgroup; empty = not known.
        pub cgroup: Text<256>,
    }
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ClientKind {
    /// A CUDA process.
    Compute = 1,
    /// A graphics process.
    Graphics = 2,
    /// A CUDA process under MPS.
    Mps = 3,
    /// Something that keeps the device open without a context: a monitor, a profiler, the persistence daemon. It is
    /// in no process list, but it blocks a MIG mode change and a reset.
    Holder = 4,
}

impl ClientKind {
    /// The kind with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Compute),
            2 => Some(Self::Graphics),
            3 => Some(Self::Mps),
            4 => Some(Self::Holder),
            _ => None,
        }
    }
}

/// What is registered.
#[derive(Clone, Debug)]
pub struct ClientSpec<'a> {
    /// The process.
    pub process: Process,
    /// What it is.
    pub kind: ClientKind,
    /// Its GPU.
    pub gpu: GpuSlot,
    /// Its MIG device, or `None` for the whole GPU.
    pub mig: Option<(GpuInstanceId, ComputeInstanceId)>,
    /// Memory held from the start, in bytes.
    pub memory: u64,
    /// Declared work, permille.
    pub busy_permille: u32,
    /// Process name.
    pub name: &'a str,
}

/// Names one registration; a reused slot has another serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    position: u32,
    serial: u64,
}

impl Client {
    /// The process.
    pub fn process(&self) -> Process {
        Process {
            pid: self.pid,
            start_time: self.start_time,
        }
    }

    /// The kind, or `None` for a damaged or free slot.
    pub fn kind(&self) -> Option<ClientKind> {
        ClientKind::from_number(self.kind)
    }

    /// Busy permille at `now_ns`: what was declared plus the work of the last whole window. Work that did not fit
    /// into its window runs on in the following ones.
    pub fn busy_at(&self, now_ns: u64) -> u32 {
        let done = self.done_before(self.windows_at(now_ns));
        let permille = u32::try_from(done / (WINDOW_NS / 1000)).unwrap_or(1000);
        self.busy_permille.saturating_add(permille).min(1000)
    }

    /// Whole windows since the start of the current one.
    fn windows_at(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.window_ns) / WINDOW_NS
    }

    /// Work done in the last whole window, `windows` after the start of the current one.
    fn done_before(&self, windows: u64) -> u64 {
        match windows {
            0 => self.done_ns.min(WINDOW_NS),
            _ => self
                .work_ns
                .saturating_sub((windows - 1).saturating_mul(WINDOW_NS))
                .min(WINDOW_NS),
        }
    }

    fn add_work(&mut self, work_ns: u64, now_ns: u64) {
        let windows = self.windows_at(now_ns);
        let passed = windows.saturating_mul(WINDOW_NS);
        self.done_ns = self.done_before(windows);
        self.window_ns = self.window_ns.saturating_add(passed);
        self.work_ns = self.work_ns.saturating_sub(passed).saturating_add(work_ns);
        self.total_work_ns = self.total_work_ns.saturating_add(work_ns);
    }
}

impl Node {
    /// Clients of a GPU, with and without GPU instance.
    pub fn clients_on(&self, slot: GpuSlot) -> impl Iterator<Item = &Client> {
        self.clients
            .iter()
            .filter(move |client| client.pid != 0 && client.gpu == slot.get())
    }

    /// Registers a client.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; INVALID_ARGUMENT: pid 0; NOT_FOUND: no such MIG device; NOT_SUPPORTED: work on the
    /// whole GPU while MIG mode is in effect; IN_USE: the compute mode forbids another process; MEMORY: it does
    /// not fit; INSUFFICIENT_RESOURCES: no free slot.
    pub fn register_client(&mut self, spec: &ClientSpec<'_>, now_ns: u64) -> Result<ClientId> {
        let gpu = self.gpu_usable(spec.gpu)?;
        if spec.process.pid == 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        match spec.mig {
            Some((gi, ci)) => {
                self.ci(spec.gpu, gi, ci)?;
            }
            None if gpu.mig_enabled() && spec.kind != ClientKind::Holder => {
                return Err(Code::NOT_SUPPORTED);
            }
            None => {}
        }
        self.compute_mode_admits(spec)?;
        let position = self.clients.iter().position(|client| client.pid == 0);
        let position = position.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let gi = spec.mig.map(|(gi, _)| gi);
        if spec.memory > self.free_memory(spec.gpu, gi)? {
            return Err(Code::MEMORY);
        }
        let serial = self.header.next_client;
        self.header.next_client = serial.wrapping_add(1);
        self.clients[position] = Client {
            pid: spec.process.pid,
            start_time: spec.process.start_time,
            kind: spec.kind as u32,
            serial,
            gpu: spec.gpu.get(),
            gi: gi.map_or(NO_INSTANCE, GpuInstanceId::get),
            ci: spec.mig.map_or(NO_INSTANCE, |(_, ci)| ci.get()),
            busy_permille: spec.busy_permille.min(1000),
            used_bytes: spec.memory,
            window_ns: now_ns,
            name: Text::new(spec.name),
            ..Plain::ZERO
        };
        self.touch();
        Ok(ClientId {
            position: u32::try_from(position).unwrap_or(u32::MAX),
            serial,
        })
    }

    /// Compute mode 2 admits no CUDA process, mode 3 one process.
    fn compute_mode_admits(&self, spec: &ClientSpec<'_>) -> Result<()> {
        let cuda = |kind| matches!(kind, Some(ClientKind::Compute | ClientKind::Mps));
        if !cuda(Some(spec.kind)) {
            return Ok(());
        }
        let other = |client: &Client| cuda(client.kind()) && client.pid != spec.process.pid;
        let refused = match self.gpu(spec.gpu)?.compute_mode {
            2 => true,
            // The MPS server is the one process; its clients come and go.
            3 => spec.kind != ClientKind::Mps && self.clients_on(spec.gpu).any(other),
            _ => false,
        };
        if refused { Err(Code::IN_USE) } else { Ok(()) }
    }

    /// Bytes that one more allocation could have.
    fn free_memory(&self, slot: GpuSlot, gi: Option<GpuInstanceId>) -> Result<u64> {
        Ok(match gi {
            Some(gi) => self.gi_memory(slot, gi)?.free,
            None => self.memory(slot)?.free,
        })
    }

    /// The client of this registration.
    ///
    /// # Errors
    /// NOT_FOUND: unregistered or reaped.
    pub fn client(&self, id: ClientId) -> Result<&Client> {
        let client = self.clients.get(id.position as usize);
        client
            .filter(|c| c.pid != 0 && c.serial == id.serial)
            .ok_or(Code::NOT_FOUND)
    }

    pub(crate) fn client_mut(&mut self, id: ClientId) -> Result<&mut Client> {
        let client = self.clients.get_mut(id.position as usize);
        client
            .filter(|c| c.pid != 0 && c.serial == id.serial)
            .ok_or(Code::NOT_FOUND)
    }

    /// The registration of a process on a GPU (and MIG device), if there is one.
    pub fn find_client(
        &self,
        process: Process,
        gpu: GpuSlot,
        mig: Option<(GpuInstanceId, ComputeInstanceId)>,
    ) -> Option<ClientId> {
        let gi = mig.map_or(NO_INSTANCE, |(gi, _)| gi.get());
        let ci = mig.map_or(NO_INSTANCE, |(_, ci)| ci.get());
        let place = (gpu.get(), gi, ci);
        let mut clients = (0u32..).zip(&self.clients);
        clients
            .find(|(_, c)| c.pid != 0 && c.process() == process && (c.gpu, c.gi, c.ci) == place)
            .map(|(position, client)| ClientId {
                position,
                serial: client.serial,
            })
    }

    /// MPS limits of a client: most memory in bytes, active thread percentage; 0 = none.
    ///
    /// # Errors
    /// NOT_FOUND: no such client; INVALID_ARGUMENT: more than 100 percent.
    pub fn set_mps_limits(
        &mut self,
        id: ClientId,
        bytes: u64,
        thread_percentage: u32,
    ) -> Result<()> {
        if thread_percentage > 100 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let client = self.client_mut(id)?;
        client.limit_bytes = bytes;
        client.thread_percentage = thread_percentage;
        self.touch();
        Ok(())
    }

    /// The PID namespace (inode number) that the client's process id belongs to.
    ///
    /// # Errors
    /// NOT_FOUND: no such client.
    pub fn set_client_namespace(&mut self, id: ClientId, inode: u64) -> Result<()> {
        self.client_mut(id)?.pid_namespace = inode;
        self.touch();
        Ok(())
    }

    /// Memory as one client may see it: that of its GPU or GPU instance, or what its limits leave of it.
    ///
    /// # Errors
    /// NOT_FOUND: no such client; as [`Self::memory`] and [`Self::gi_memory`].
    pub fn client_memory(&self, id: ClientId) -> Result<MemoryInfo> {
        let client = self.client(id)?;
        let slot = GpuSlot::new(client.gpu);
        let device = match client.gi {
            NO_INSTANCE => self.memory(slot)?,
            gi => self.gi_memory(slot, GpuInstanceId::new(gi))?,
        };
        let device = self.limited_by_cgroups(client, device);
        if client.limit_bytes == 0 || client.limit_bytes >= device.total {
            return Ok(device);
        }
        let own = MemoryInfo::new(client.limit_bytes, 0, client.used_bytes);
        Ok(MemoryInfo {
            free: own.free.min(device.free),
            ..own
        })
    }

    /// A client takes memory.
    ///
    /// # Errors
    /// NOT_FOUND: no such client; as [`Self::gpu_usable`]; MEMORY: it does not fit, or is over the client's limit.
    pub fn reserve_memory(&mut self, id: ClientId, bytes: u64) -> Result<()> {
        self.gpu_usable(GpuSlot::new(self.client(id)?.gpu))?;
        if bytes > self.client_memory(id)?.free {
            return Err(Code::MEMORY);
        }
        let client = self.client_mut(id)?;
        client.used_bytes = client.used_bytes.saturating_add(bytes);
        self.touch();
        Ok(())
    }

    /// A client gives memory back; more than it holds is all it holds.
    ///
    /// # Errors
    /// NOT_FOUND: no such client.
    pub fn release_memory(&mut self, id: ClientId, bytes: u64) -> Result<()> {
        let client = self.client_mut(id)?;
        client.used_bytes = client.used_bytes.saturating_sub(bytes);
        self.touch();
        Ok(())
    }

    /// A client declares how busy it keeps its device.
    ///
    /// # Errors
    /// NOT_FOUND: no such client.
    pub fn set_busy(&mut self, id: ClientId, permille: u32) -> Result<()> {
        self.client_mut(id)?.busy_permille = permille.min(1000);
        self.touch();
        Ok(())
    }

    /// A client gives its device `work_ns` of work, for example by a kernel launch.
    ///
    /// # Errors
    /// NOT_FOUND: no such client; GPU_IS_LOST and the like.
    pub fn add_work(&mut self, id: ClientId, work_ns: u64, now_ns: u64) -> Result<()> {
        self.gpu_usable(GpuSlot::new(self.client(id)?.gpu))?;
        self.client_mut(id)?.add_work(work_ns, now_ns);
        self.touch();
        Ok(())
    }

    /// Removes a client. A client that is gone already is no error.
    pub fn unregister_client(&mut self, id: ClientId) {
        if let Ok(client) = self.client_mut(id) {
            *client = Plain::ZERO;
            self.touch();
        }
    }

    /// Removes the clients that `alive` denies; answers how many.
    pub fn reap_clients(&mut self, mut alive: impl FnMut(&Client) -> bool) -> u32 {
        let mut reaped = 0;
        for client in self.clients.iter_mut().filter(|client| client.pid != 0) {
            if !alive(client) {
                *client = Plain::ZERO;
                reaped += 1;
            }
        }
        if reaped > 0 {
            self.touch();
        }
        reaped
    }

    /// Removes every client of a GPU, as a crash of the GPU or of the node does.
    pub(crate) fn drop_clients(&mut self, slot: GpuSlot) {
        for client in self
            .clients
            .iter_mut()
            .filter(|c| c.pid != 0 && c.gpu == slot.get())
        {
            *client = Plain::ZERO;
        }
    }

    /// Process list of a GPU or of a MIG device, by kind: clients by registration order.
    ///
    /// # Errors
    /// As [`Self::gpu`] and [`Self::ci`].
    pub fn processes(
        &self,
        slot: GpuSlot,
        mig: Option<(GpuInstanceId, ComputeInstanceId)>,
        kind: ClientKind,
    ) -> Result<Vec<&Client>> {
        match mig {
            Some((gi, ci)) => self.ci(slot, gi, ci).map(|_| ())?,
            None => self.gpu(slot).map(|_| ())?,
        }
        let wanted = |client: &&Client| {
            client.kind == kind as u32
                && mig.is_none_or(|(gi, ci)| (client.gi, client.ci) == (gi.get(), ci.get()))
        };
        let mut list: Vec<_> = self.clients_on(slot).filter(wanted).collect();
        list.sort_by_key(|client| client.serial);
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
