//! `PodResources` v1 on its own socket: what active pods hold, by name, never by UID.
//!
//! All callers share 100 calls a second with a burst of 10; what is over is refused at once. `List`
//! frees the devices of ended pods as a side effect. Ordinary init containers are left out, and a
//! device has one entry for each of its NUMA nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpushared_proto::deviceplugin::v1beta1::Device;
use gpushared_proto::podresources::v1::pod_resources_lister_server::PodResourcesLister;
use gpushared_proto::podresources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, TopologyInfo,
};
use tonic::{Request, Response, Status};

use super::devices::{Held, NO_NUMA_NODE};
use super::pods::{ContainerKind, Pod};
use super::process::{PodResourcesMode, Process};

const CALLS_PER_SECOND: f64 = 100.0;
const BURST: f64 = 10.0;

/// A token bucket that never waits.
#[derive(Debug)]
struct Limiter(Mutex<(f64, Duration)>);

impl Limiter {
    fn allows(&self, now: Duration) -> bool {
        let mut bucket = self.0.lock().unwrap();
        let (tokens, since) = *bucket;
        let gained = now.saturating_sub(since).as_secs_f64() * CALLS_PER_SECOND;
        let tokens = (tokens + gained).min(BURST);
        let allowed = tokens >= 1.0;
        *bucket = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

/// The service of one kubelet process.
#[derive(Debug)]
pub(crate) struct PodResourcesService {
    process: Arc<Process>,
    limiter: Limiter,
}

impl PodResourcesService {
    pub(crate) fn new(process: Arc<Process>) -> Self {
        let limiter = Limiter(Mutex::new((BURST, process.world.clock.now())));
        Self { process, limiter }
    }

    /// Lets a call pass, or not.
    async fn enter(&self) -> Result<(), Status> {
        let mut mode = self.process.world.pod_resources.subscribe();
        let hanging = |mode: &PodResourcesMode| *mode != PodResourcesMode::Hanging;
        let now = mode.wait_for(hanging).await.map(|mode| mode.clone());
        if now.is_ok_and(|mode| mode == PodResourcesMode::Unavailable) {
            return Err(Status::unavailable(
                "the test made PodResources unavailable",
            ));
        }
        if !self.limiter.allows(self.process.world.clock.now()) {
            return Err(Status::resource_exhausted("rejected by rate limit"));
        }
        Ok(())
    }

    fn resources_of(&self, pod: &Pod) -> PodResources {
        let manager = self.process.manager();
        let held = manager.held.get(&pod.uid);
        let listed = pod
            .spec
            .containers
            .iter()
            .filter(|c| c.kind != ContainerKind::Init);
        let containers = listed.map(|container| {
            let resources = held.and_then(|containers| containers.get(&container.name));
            let devices = resources
                .into_iter()
                .flatten()
                .flat_map(|(r, h)| entries(r, h));
            ContainerResources {
                name: container.name.clone(),
                devices: devices.collect(),
                ..ContainerResources::default()
            }
        });
        PodResources {
            name: pod.spec.name.clone(),
            namespace: pod.spec.namespace.clone(),
            containers: containers.collect(),
        }
    }
}

fn entries(resource: &str, held: &Held) -> Vec<ContainerDevices> {
    let mut entries = Vec::new();
    for (node, ids) in &held.numa {
        entries.extend(ids.iter().map(|id| entry(resource, id, *node)));
    }
    entries
}

fn entry(resource: &str, id: &str, node: i64) -> ContainerDevices {
    let topology = (node != NO_NUMA_NODE).then(|| TopologyInfo {
        nodes: vec![NumaNode { id: node }],
    });
    ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: vec![id.to_owned()],
        topology,
    }
}

fn allocatable_entries(resource: &str, device: &Device) -> Vec<ContainerDevices> {
    match &device.topology {
        None => vec![entry(resource, &device.id, NO_NUMA_NODE)],
        Some(topology) => topology
            .nodes
            .iter()
            .map(|node| entry(resource, &device.id, node.id))
            .collect(),
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResourcesService {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.enter().await?;
        if *self.process.world.pod_resources.borrow() == PodResourcesMode::BeforePods {
            return Ok(Response::new(ListPodResourcesResponse::default()));
        }
        let with_finished = self.process.settings().before_1_34;
        let pods: Vec<Pod> = {
            let state = self.process.world.lock();
            let listed = |pod: &&Pod| pod.is_active() || (with_finished && !pod.terminated);
            state.pods.iter().filter(listed).cloned().collect()
        };
        self.process.update_allocated();
        let pod_resources = pods.iter().map(|pod| self.resources_of(pod)).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.enter().await?;
        let manager = self.process.manager();
        let mut devices = Vec::new();
        for (resource, ids) in &manager.healthy {
            let listed = manager
                .all
                .get(resource)
                .into_iter()
                .flat_map(|all| all.values());
            let healthy = listed.filter(|device| ids.contains(&device.id));
            devices.extend(healthy.flat_map(|device| allocatable_entries(resource, device)));
        }
        let response = AllocatableResourcesResponse {
            devices,
            cpu_ids: vec![],
            memory: vec![],
        };
        Ok(Response::new(response))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.enter().await?;
        if self.process.settings().before_1_34 {
            return Err(Status::unimplemented(
                "unknown method Get for service v1.PodResourcesLister",
            ));
        }
        let GetPodResourcesRequest {
            pod_name,
            pod_namespace,
        } = request.into_inner();
        let found = {
            let state = self.process.world.lock();
            let named =
                |pod: &&Pod| pod.spec.name == pod_name && pod.spec.namespace == pod_namespace;
            state
                .pods
                .iter()
                .filter(|pod| !pod.terminated)
                .find(named)
                .cloned()
        };
        let Some(pod) = found else {
            let message = format!("pod {pod_name} in namespace {pod_namespace} not found");
            return Err(Status::unknown(message));
        };
        let pod_resources = Some(self.resources_of(&pod));
        Ok(Response::new(GetPodResourcesResponse { pod_resources }))
    }
}
