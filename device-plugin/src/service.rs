//! The five RPCs of one resource.
//!
//! Every call into the daemon runs in the call's own task under our deadline. Nothing here keeps state but the count
//! of streams: who has what is the daemon's business.

use std::sync::Arc;

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::v1beta1::device_plugin_server::DevicePlugin;
use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse, DevicePluginOptions,
    Empty, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::{Instrument, debug, debug_span, warn};

use crate::allocator::{Refusal, RefusalKind, SliceAllocator};
use crate::bounded::bounded;
use crate::list_and_watch::{ListFeed, ListStream};
use crate::lists::DeviceListsRx;
use crate::preference::Wish;
use crate::response::container_response;
use crate::roster::Roster;
use crate::settings::PluginSettings;
use crate::status::status;
use crate::streams::Streams;

/// The device plugin of one resource, as the kubelet talks to it.
pub(crate) struct ResourceService<A> {
    pub(crate) resource: ResourceName,
    pub(crate) settings: Arc<PluginSettings>,
    pub(crate) allocator: Arc<A>,
    pub(crate) lists: DeviceListsRx,
    pub(crate) roster: Arc<Roster>,
    pub(crate) streams: Arc<Streams>,
    /// from --Allocate--> to every stream of every resource.
    pub(crate) hurry: Arc<watch::Sender<()>>,
}

impl<A: SliceAllocator> ResourceService<A> {
    /// The options, in Register and on request.
    pub(crate) fn options(&self) -> DevicePluginOptions {
        DevicePluginOptions {
            pre_start_required: self.settings.pre_start_required,
            get_preferred_allocation_available: true,
        }
    }

    /// Reads the IDs of a request: sorted, each once, all of them of this resource.
    fn listed(&self, texts: &[String]) -> Result<Vec<PluginDeviceId>, Refusal> {
        let unknown = |message| Refusal::new(RefusalKind::UnknownDevice, message);
        let lists = self.lists.borrow();
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            let id: PluginDeviceId = text.parse().map_err(|error| unknown(format!("{error}")))?;
            let owner = |name: &ResourceName| {
                lists
                    .resources
                    .get(name)
                    .is_some_and(|devices| devices.iter().any(|device| device.id == id))
            };
            if !owner(&self.resource) {
                let message = match lists.resources.keys().find(|name| owner(name)) {
                    Some(other) => format!("{id} is a device of {other}, not of {}", self.resource),
                    None => format!("{id} is not a device of {} on this node", self.resource),
                };
                return Err(unknown(message));
            }
            ids.push(id);
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    async fn grant(
        &self,
        containers: Vec<Vec<PluginDeviceId>>,
    ) -> Result<Vec<ContainerAllocateResponse>, Refusal> {
        let mut responses = Vec::with_capacity(containers.len());
        for ids in containers {
            responses.push(if ids.is_empty() {
                ContainerAllocateResponse::default()
            } else {
                container_response(self.allocator.allocate(&self.resource, ids).await?)?
            });
        }
        Ok(responses)
    }

    async fn prefer(
        &self,
        request: ContainerPreferredAllocationRequest,
    ) -> ContainerPreferredAllocationResponse {
        let wish = Wish::new(
            &request.available_device_i_ds,
            &request.must_include_device_i_ds,
            request.allocation_size,
        );
        let mut chosen = Vec::new();
        if !wish.is_settled() {
            let answer = bounded(self.settings.prefer_deadline, "choosing devices", async {
                let Wish {
                    available,
                    must_include,
                    size,
                } = wish.clone();
                self.allocator
                    .prefer(&self.resource, available, must_include, size)
                    .await
            })
            .await;
            match answer {
                Ok(ids) => chosen = ids,
                Err(refusal) => {
                    debug!(resource = %self.resource, error = %refusal, "Chose in the order of the IDs");
                }
            }
        }
        ContainerPreferredAllocationResponse {
            device_i_ds: wish.answer(&chosen),
        }
    }

    fn refuse(&self, call: &'static str, refusal: Refusal) -> Status {
        warn!(resource = %self.resource, call, kind = ?refusal.kind, error = %refusal, "Refused a call of the kubelet");
        status(refusal)
    }
}

#[tonic::async_trait]
impl<A: SliceAllocator> DevicePlugin for ResourceService<A> {
    type ListAndWatchStream = ListStream;

    async fn get_device_plugin_options(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(self.options()))
    }

    async fn list_and_watch(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<ListStream>, Status> {
        Ok(Response::new(ListStream::new(ListFeed {
            resource: self.resource.clone(),
            lists: self.lists.clone(),
            roster: Arc::clone(&self.roster),
            hurry: self.hurry.subscribe(),
            coalesce: self.settings.coalesce,
            open: self.streams.open(),
            sent: None,
        })))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let mut container_responses = Vec::new();
        for container in request.into_inner().container_requests {
            let span = debug_span!("GetPreferredAllocation", resource = %self.resource);
            container_responses.push(self.prefer(container).instrument(span).await);
        }
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let containers = request.into_inner().container_requests;
        let span = debug_span!("Allocate", resource = %self.resource);
        // Everything is read before anything is taken: a request with one bad ID has no effect at all.
        let parsed: Result<Vec<_>, Refusal> = containers
            .iter()
            .map(|container| self.listed(&container.devices_ids))
            .collect();
        let granted = match parsed {
            Ok(containers) => {
                let what = format!("allocating {}", self.resource);
                bounded(
                    self.settings.allocate_deadline,
                    &what,
                    self.grant(containers),
                )
                .instrument(span)
                .await
            }
            Err(refusal) => Err(refusal),
        };
        // The daemon publishes what is taken before it answers, so the lists that must go out are there.
        self.hurry.send_replace(());
        let container_responses = granted.map_err(|refusal| self.refuse("Allocate", refusal))?;
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let span = debug_span!("PreStartContainer", resource = %self.resource);
        let ready = match self.listed(&request.into_inner().devices_ids) {
            Ok(ids) => {
                let what = format!("preparing {}", self.resource);
                bounded(self.settings.pre_start_deadline, &what, async {
                    self.allocator.pre_start(&self.resource, ids).await
                })
                .instrument(span)
                .await
            }
            Err(refusal) => Err(refusal),
        };
        ready.map_err(|refusal| self.refuse("PreStartContainer", refusal))?;
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
