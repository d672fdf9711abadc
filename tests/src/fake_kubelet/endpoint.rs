//! One plugin endpoint: active, stopped since some time, or expired five minutes after that; and the
//! calls that go through it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest,
    ContainerPreferredAllocationRequest, DevicePluginOptions, PreStartContainerRequest,
    PreferredAllocationRequest, PreferredAllocationResponse,
};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::event::{Event, Rpc, Violation};
use super::process::Process;
use super::registration::Client;
use super::transport::go_error;

/// After this time a stopped endpoint and its devices are forgotten; the node shows 0.
pub(crate) const STOP_GRACE_PERIOD: Duration = Duration::from_secs(5 * 60);

/// What the device manager knows of a plugin.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) resource: String,
    /// `None` after a kubelet restart, until the plugin registers.
    pub(crate) client: Option<Arc<Client>>,
    /// `None` after a kubelet restart: then no optional call is made.
    pub(crate) options: Option<DevicePluginOptions>,
    pub(crate) stopped_at: Option<Duration>,
}

impl Endpoint {
    /// The endpoint of a resource that only the checkpoint knows.
    pub(crate) fn stopped(resource: &str, now: Duration) -> Self {
        Self {
            resource: resource.to_owned(),
            client: None,
            options: None,
            stopped_at: Some(now),
        }
    }

    pub(crate) fn is_expired(&self, now: Duration) -> bool {
        self.stopped_at
            .is_some_and(|since| now.saturating_sub(since) > STOP_GRACE_PERIOD)
    }

    /// `GetPreferredAllocation`, without a deadline.
    pub(crate) async fn preferred(
        &self,
        process: &Process,
        available: Vec<String>,
        must_include: Vec<String>,
        size: usize,
    ) -> Result<PreferredAllocationResponse, String> {
        let devices = available.clone();
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: available,
                must_include_device_i_ds: must_include,
                allocation_size: i32::try_from(size).unwrap(),
            }],
        };
        let call = |mut api: DevicePluginClient<Channel>| async move {
            api.get_preferred_allocation(request).await
        };
        self.call(process, Rpc::GetPreferredAllocation, devices, None, call)
            .await
    }

    /// `Allocate` for one container, without a deadline.
    pub(crate) async fn allocate(
        &self,
        process: &Process,
        devices: Vec<String>,
    ) -> Result<AllocateResponse, String> {
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: devices.clone(),
            }],
        };
        let call =
            |mut api: DevicePluginClient<Channel>| async move { api.allocate(request).await };
        self.call(process, Rpc::Allocate, devices, None, call).await
    }

    /// `PreStartContainer`, within the kubelet's 30 s.
    pub(crate) async fn pre_start(
        &self,
        process: &Process,
        devices: Vec<String>,
    ) -> Result<(), String> {
        let request = PreStartContainerRequest {
            devices_ids: devices.clone(),
        };
        let limit = Some(process.settings().pre_start_timeout);
        let call = |mut api: DevicePluginClient<Channel>| async move {
            api.pre_start_container(request).await
        };
        self.call(process, Rpc::PreStartContainer, devices, limit, call)
            .await
            .map(drop)
    }

    /// Makes a call and writes it down. Without a `limit` a watchdog of the test ends it, and that it
    /// had to is a violation.
    async fn call<T, F>(
        &self,
        process: &Process,
        rpc: Rpc,
        devices: Vec<String>,
        limit: Option<Duration>,
        call: impl FnOnce(DevicePluginClient<Channel>) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let resource = &self.resource;
        let active = self.client.as_ref().filter(|_| self.stopped_at.is_none());
        let (Some(client), Some(api)) = (active, active.and_then(|client| client.api())) else {
            return Err(format!("endpoint &{{{resource}}} has been stopped"));
        };
        let outcome = tokio::select! {
            outcome = call(api) => {
                outcome.map(Response::into_inner).map_err(|status| go_error(&status))
            }
            () = process.gone.cancelled() => Err("the kubelet is gone".to_owned()),
            () = client.cancel.cancelled() => {
                Err("rpc error: code = Canceled desc = grpc: the client connection is closing".to_owned())
            }
            () = tokio::time::sleep(limit.unwrap_or(process.settings().hung_after)) => {
                if limit.is_none() {
                    process.world.violate(Violation::Hung { resource: resource.clone(), rpc });
                }
                Err("rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned())
            }
        };
        process.world.note(Event::Called {
            rpc,
            resource: resource.clone(),
            devices,
            error: outcome.as_ref().err().cloned(),
        });
        outcome
    }
}
