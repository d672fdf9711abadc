//! The kubelet's own view of who has what, read from its PodResources socket.

use std::collections::BTreeSet;
use std::time::Duration;

use gpushared_proto::podresources::v1::ListPodResourcesRequest;
use gpushared_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use tonic::transport::Endpoint;

use crate::machine::Machine;
use crate::wait::{Look, until};

const SOCKET: &str = "unix:///var/lib/kubelet/pod-resources/kubelet.sock";

impl Machine {
    /// The device IDs that the kubelet has given to a pod; empty if it knows no such pod.
    ///
    /// # Panics
    /// If the kubelet does not answer for a while.
    #[track_caller]
    pub(crate) fn assigned(&self, pod: &str) -> BTreeSet<String> {
        until(
            "PodResources List",
            Duration::from_secs(20),
            || match list() {
                Ok(all) => Look::Found(all),
                Err(status) => Look::NotYet(status),
            },
        )
        .into_iter()
        .filter(|(name, _)| name == pod)
        .map(|(_, device)| device)
        .collect()
    }
}

/// Pairs of pod and device ID.
fn list() -> Result<Vec<(String, String)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let answer = runtime.block_on(async {
        let channel = Endpoint::from_static(SOCKET)
            .timeout(Duration::from_secs(5))
            .connect()
            .await
            .map_err(|e| format!("{e:?}"))?;
        PodResourcesListerClient::new(channel)
            .list(ListPodResourcesRequest {})
            .await
            .map_err(|status| status.to_string())
    })?;
    let pods = answer.into_inner().pod_resources.into_iter();
    let pairs = pods.flat_map(|pod| {
        let containers = pod.containers.into_iter();
        let devices = containers.flat_map(|container| container.devices);
        let ids = devices.flat_map(|device| device.device_ids);
        ids.map(move |id| (pod.name.clone(), id))
            .collect::<Vec<_>>()
    });
    Ok(pairs.collect())
}
