//! The in-process face: [`SimDriver`] is the domain's hardware port over a node in ordinary memory.
//!
//! Faults are asked for under the NVML names that the C face exports, so that a fault test in process and the same
//! test through the C ABI agree. Time is the node's stepped clock: it moves by [`SimDriver::advance`] and by the
//! delays of faults, which also block the calling thread, as a slow driver would. Processes end when the test says so
//! ([`Node::unregister_client`], [`Node::reap_clients`]).

mod convert;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use gpushared_domain::health::Probe;
use gpushared_domain::ids::{ComputeInstanceId, GpuIndex, GpuInstanceId, GpuUuid};
use gpushared_domain::inventory::{DriverInfo, GpuState, Inventory};
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigModeActivation, MigProfileId, Placement,
};
use gpushared_domain::ports::{
    DeviceMemory, DriverFault, GpuDriver, GpuDriverError, GpuEvent, GpuEvents, GpuProcess,
    MigSwitch,
};

use crate::calls::Function;
use crate::client::ClientKind;
use crate::code::{Code, Result as Answer};
use crate::event::EventSet;
use crate::ids::{self, GpuSlot, MigDevice};
use crate::lifecycle::DriverState;
use crate::node::{Node, OwnedNode};

const VERSION: Function = Function::new("nvmlSystemGetDriverVersion");
const COUNT: Function = Function::new("nvmlDeviceGetCount_v2");
const BY_INDEX: Function = Function::new("nvmlDeviceGetHandleByIndex_v2");
const INSTANCES: Function = Function::new("nvmlDeviceGetGpuInstances");
const REMAPPED_ROWS: Function = Function::new("nvmlDeviceGetRemappedRows");
const SET_MIG_MODE: Function = Function::new("nvmlDeviceSetMigMode");
const CREATE_GI: Function = Function::new("nvmlDeviceCreateGpuInstanceWithPlacement");
const CREATE_CI: Function = Function::new("nvmlGpuInstanceCreateComputeInstance");
const DESTROY_CI: Function = Function::new("nvmlComputeInstanceDestroy");
const DESTROY_GI: Function = Function::new("nvmlGpuInstanceDestroy");
const MEMORY: Function = Function::new("nvmlDeviceGetMemoryInfo_v2");
const PROCESSES: Function = Function::new("nvmlDeviceGetComputeRunningProcesses_v3");
const WAIT: Function = Function::new("nvmlEventSetWait_v2");

/// The pid that the call log shows for calls in process.
const IN_PROCESS: u32 = 0;

#[derive(Debug)]
struct Shared {
    node: Mutex<OwnedNode>,
    changed: Condvar,
}

/// The hardware port over a simulated node. Clones are doors to the same node: a test keeps one and gives the other
/// to what it tests.
#[derive(Clone, Debug)]
pub struct SimDriver {
    shared: Arc<Shared>,
}

/// The event port over the node of a [`SimDriver`].
#[derive(Debug)]
pub struct SimEvents {
    driver: SimDriver,
    set: EventSet,
}

impl SimDriver {
    /// A door to this node, whose clock is stepped from now on.
    pub fn new(mut node: OwnedNode) -> Self {
        node.header.clock_stepped = 1;
        Self {
            shared: Arc::new(Shared {
                node: Mutex::new(node),
                changed: Condvar::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, OwnedNode> {
        // Plain data: a panic of another thread leaves valid values.
        self.shared
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the node or changes it; waiting event ports see a change at once.
    pub fn with<T>(&self, f: impl FnOnce(&mut Node) -> T) -> T {
        let mut node = self.lock();
        let generation = node.header.generation;
        let answer = f(&mut node);
        if node.header.generation != generation {
            self.shared.changed.notify_all();
        }
        answer
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.with(|node| {
            node.header.clock_ns = node.header.clock_ns.saturating_add(by);
            node.touch();
        });
    }

    /// An event port that is registered for everything that each GPU supports, from this moment on.
    pub fn events(&self) -> SimEvents {
        let set = self.with(|node| registered(node));
        SimEvents {
            driver: self.clone(),
            set,
        }
    }

    /// One driver call: faults, delay, work, log.
    fn call<T>(
        &self,
        function: Function,
        gpu: Option<GpuSlot>,
        doing: impl FnOnce() -> String,
        work: impl FnOnce(&mut Node, u64) -> Answer<T>,
    ) -> Result<T, GpuDriverError> {
        let entered = self.with(|node| node.enter(function, gpu));
        if entered.delay_ms > 0 {
            let delay = Duration::from_millis(entered.delay_ms.into());
            thread::sleep(delay);
            self.advance(delay);
        }
        let answer = self.with(|node| {
            let now = node.now(0);
            let answer = match (entered.verdict, node.driver_state()) {
                (Err(code), _) => Err(code),
                (Ok(()), DriverState::Unloaded) => Err(Code::DRIVER_NOT_LOADED),
                (Ok(()), _) => work(node, now),
            };
            let code = answer.as_ref().err().copied().unwrap_or(Code::SUCCESS);
            node.leave(function, gpu, IN_PROCESS, code, now);
            answer
        });
        answer.map_err(|code| GpuDriverError::new(doing(), convert::fault(code)))
    }

    fn slot(&self, uuid: &GpuUuid) -> Result<GpuSlot, GpuDriverError> {
        let found = self.with(|node| node.slot_by_uuid(uuid.as_str()));
        found.map_err(|code| GpuDriverError::new(format!("finding {uuid}"), convert::fault(code)))
    }

    /// A destroy of what is gone already is done; with MIG mode off there is nothing left to destroy.
    fn gone_is_done(
        &self,
        slot: GpuSlot,
        answer: Result<(), GpuDriverError>,
    ) -> Result<(), GpuDriverError> {
        let off = || {
            let mode = self.with(|node| node.mig_mode(slot));
            mode.is_ok_and(|mode| (mode.current, mode.pending) == (0, 0))
        };
        match answer {
            Err(error) if error.fault == DriverFault::NotFound => Ok(()),
            Err(error) if error.fault == DriverFault::NotSupported && off() => Ok(()),
            other => other,
        }
    }

    fn state(&self, slot: GpuSlot) -> Result<GpuState, GpuDriverError> {
        let doing = || format!("describing the GPU in slot {slot}");
        self.call(INSTANCES, Some(slot), doing, |node, _| {
            convert::gpu_state(node, slot)
        })
    }
}

impl GpuDriver for SimDriver {
    fn info(&mut self) -> Result<DriverInfo, GpuDriverError> {
        let doing = || "reading the driver's version".to_owned();
        // The port is initialised: a driver of another version concerns who comes later.
        self.call(VERSION, None, doing, |node, _| {
            Ok(convert::driver_info(node))
        })
    }

    fn observe(&mut self) -> Result<Inventory, GpuDriverError> {
        let driver = self.info()?;
        let counting = || "counting the GPUs".to_owned();
        let present = self.call(COUNT, None, counting, |node, _| {
            Ok(node.present().collect::<Vec<_>>())
        })?;
        let mut inventory = Inventory {
            driver,
            gpus: Vec::new(),
            unreadable: Vec::new(),
        };
        for (slot, index) in present.into_iter().zip(0u32..) {
            let opening = || format!("opening GPU {index}");
            let opened = self.call(BY_INDEX, Some(slot), opening, |node, _| {
                node.slot_by_index(index)
            });
            match opened.and_then(|slot| self.state(slot)) {
                Ok(gpu) => inventory.gpus.push(gpu),
                Err(error) => {
                    let why = error.fault.to_string();
                    inventory.unreadable.push((GpuIndex(index), why));
                }
            }
        }
        Ok(inventory)
    }

    fn probe(&mut self, gpu: &GpuUuid) -> Probe {
        let doing = || format!("probing {gpu}");
        let answer = self.slot(gpu).and_then(|slot| {
            self.call(REMAPPED_ROWS, Some(slot), doing, |node, _| {
                let gpu = node.gpu_usable(slot)?;
                let volatile_uncorrected =
                    (gpu.ecc_current != 0).then_some(gpu.ecc_volatile.uncorrected);
                Ok(Probe::Answers {
                    volatile_uncorrected,
                    remap_failed: gpu.remap_failed != 0,
                })
            })
        });
        answer.unwrap_or_else(|error| convert::probe_of(&error))
    }

    fn set_mig_mode(
        &mut self,
        gpu: &GpuUuid,
        enabled: MigSwitch,
    ) -> Result<MigModeActivation, GpuDriverError> {
        let slot = self.slot(gpu)?;
        let mode = u32::from(enabled == MigSwitch::On);
        let doing = || format!("setting MIG mode {mode} on {gpu}");
        self.call(SET_MIG_MODE, Some(slot), doing, |node, now| {
            node.set_mig_mode(slot, mode, now)
        })
        .map(convert::activation)
    }

    fn create_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        profile: MigProfileId,
        placement: Placement,
    ) -> Result<GpuInstance, GpuDriverError> {
        let slot = self.slot(gpu)?;
        let place = crate::Placement {
            start: placement.start,
            size: placement.size,
        };
        let doing = || format!("creating {profile}@{} on {gpu}", placement.start);
        self.call(CREATE_GI, Some(slot), doing, |node, now| {
            let id = node.create_gi(slot, profile.0, Some(place), now)?;
            convert::gpu_instance(node, slot, node.gi(slot, id)?)
        })
    }

    fn create_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError> {
        let slot = self.slot(gpu)?;
        let gi = ids::GpuInstanceId::new(instance.0);
        let doing = || format!("creating a compute instance in {instance} of {gpu}");
        let profiles = self.with(|node| convert::full_ci_profiles(node, slot, gi));
        let profiles =
            profiles.map_err(|code| GpuDriverError::new(doing(), convert::fault(code)))?;
        let mut last = GpuDriverError::new(doing(), convert::fault(Code::NOT_SUPPORTED));
        for profile in profiles {
            let made = self.call(CREATE_CI, Some(slot), doing, |node, now| {
                let id = node.create_ci(slot, gi, profile, None, now)?;
                convert::compute_instance(
                    node,
                    MigDevice {
                        gpu: slot,
                        gi,
                        ci: id,
                    },
                )
            });
            match made {
                Ok(made) => return Ok(made),
                Err(error) if convert::next_profile_may_do(error.fault) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn destroy_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
        compute: ComputeInstanceId,
    ) -> Result<(), GpuDriverError> {
        let slot = self.slot(gpu)?;
        let gi = ids::GpuInstanceId::new(instance.0);
        let device = MigDevice {
            gpu: slot,
            gi,
            ci: ids::ComputeInstanceId::new(compute.0),
        };
        let doing = || format!("destroying compute instance {instance}/{compute} of {gpu}");
        let answer = self.call(DESTROY_CI, Some(slot), doing, |node, now| {
            node.destroy_ci(device, now)
        });
        self.gone_is_done(slot, answer)
    }

    fn destroy_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<(), GpuDriverError> {
        let slot = self.slot(gpu)?;
        let gi = ids::GpuInstanceId::new(instance.0);
        let doing = || format!("destroying GPU instance {instance} of {gpu}");
        let answer = self.call(DESTROY_GI, Some(slot), doing, |node, now| {
            node.destroy_gi(slot, gi, now)
        });
        self.gone_is_done(slot, answer)
    }

    fn memory(
        &mut self,
        gpu: &GpuUuid,
        instance: Option<GpuInstanceId>,
    ) -> Result<DeviceMemory, GpuDriverError> {
        let slot = self.slot(gpu)?;
        let doing = || format!("reading the memory of {gpu}");
        let memory = self.call(MEMORY, Some(slot), doing, |node, _| match instance {
            Some(gi) => {
                // It is told by a MIG device of the instance.
                let gi = ids::GpuInstanceId::new(gi.0);
                let mut computes = node.gi(slot, gi)?.compute_instances();
                computes.next().ok_or(Code::NOT_FOUND)?;
                node.gi_memory(slot, gi)
            }
            None => node.memory(slot),
        })?;
        let reserved = Some(memory.reserved);
        Ok(DeviceMemory {
            total: memory.total,
            used: memory.used,
            reserved,
        })
    }

    fn processes(&mut self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, GpuDriverError> {
        let slot = self.slot(gpu)?;
        let doing = || format!("listing the processes of {gpu}");
        self.call(PROCESSES, Some(slot), doing, |node, _| {
            let mut list = node.processes(slot, None, ClientKind::Compute)?;
            list.extend(node.processes(slot, None, ClientKind::Mps)?);
            // Each process once for each place.
            list.sort_by_key(|client| (convert::place(client), client.used_bytes));
            list.dedup_by_key(|client| convert::place(client));
            Ok(list.into_iter().map(convert::process).collect())
        })
    }
}

/// A set that every GPU is registered with for all that it supports; lost GPUs raise no events and are left out.
fn registered(node: &Node) -> EventSet {
    let mut set = EventSet::new(node);
    for slot in node.present() {
        let supported = node.supported_events(slot).unwrap_or(0);
        let _lost = set.register(node, slot, supported);
    }
    set
}

impl SimEvents {
    /// Makes the set anew with the GPUs that are there, as `NvmlEvents` does after a failed wait: a lost GPU fails one
    /// wait and is left out from then on. Events that wait in the old set are lost. Without a driver there is no new
    /// set, and the old one stays.
    pub fn renew(&mut self) {
        let made = self.driver.with(|node| {
            let loaded = node.driver_state() != DriverState::Unloaded;
            loaded.then(|| registered(node))
        });
        if let Some(set) = made {
            self.set = set;
        }
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<GpuEvent>, GpuDriverError> {
        let doing = || "waiting for events".to_owned();
        self.driver.call(WAIT, None, doing, |_, _| Ok(()))?;
        let node = self.driver.lock();
        let mut found = None;
        let mut lost = false;
        let set = &mut self.set;
        let waiting = |node: &mut OwnedNode| {
            // Kinds that the port does not have are passed over.
            while found.is_none()
                && let Some(event) = set.poll(node)
            {
                found = convert::event(node, &event);
            }
            lost = set.waits_for_lost(node);
            found.is_none() && !lost
        };
        let waited = self
            .driver
            .shared
            .changed
            .wait_timeout_while(node, timeout, waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        if found.is_none() && lost {
            return Err(GpuDriverError::new(
                doing(),
                convert::fault(Code::GPU_IS_LOST),
            ));
        }
        Ok(found)
    }
}

impl GpuEvents for SimEvents {
    fn wait(&mut self, timeout: Duration) -> Result<Option<GpuEvent>, GpuDriverError> {
        let answer = self.next(timeout);
        if answer.is_err() {
            self.renew();
        }
        answer
    }
}

#[cfg(test)]
mod tests;
