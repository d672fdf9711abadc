//! Pods as a test drives them: submit, start and restart containers, delete, wait out the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pods::{ContainerKind, ContainerState, Pod};
use super::process::Process;
use super::{Container, FakeKubelet, Phase, PodError, PodSpec, PodUid};

/// Pause between two tries to start a container; a real kubelet backs off from seconds to minutes.
const START_AGAIN: Duration = Duration::from_millis(20);

impl FakeKubelet {
    /// Submits a pod, waits for its admission and starts its containers: init containers run to their
    /// end one after the other, sidecars and app containers stay. A container that does not start is
    /// tried again for a while.
    ///
    /// # Errors
    /// Why the pod does not run. A rejected pod is Failed for good and its UID is lost to the caller;
    /// [`FakeKubelet::submit`] gives it.
    pub async fn run_pod(&self, spec: PodSpec) -> Result<PodUid, PodError> {
        let pod = self.submit(spec);
        self.admit(&pod).await?;
        self.start_containers(&pod).await?;
        Ok(pod)
    }

    /// Puts a pod into the table, not yet admitted. It counts as active from here on.
    pub fn submit(&self, spec: PodSpec) -> PodUid {
        let mut state = self.world.lock();
        let uid = PodUid::from(format!("00000000-0000-4000-8000-{:012}", state.next_uid));
        state.next_uid += 1;
        state.pods.push(Pod::new(uid.clone(), spec));
        uid
    }

    /// Admits a submitted pod: all of `Allocate` happens here.
    ///
    /// # Errors
    /// The rejection, or that the kubelet is down.
    pub async fn admit(&self, pod: &PodUid) -> Result<(), PodError> {
        let process = self.process().ok_or(PodError::KubeletDown)?;
        process.admit(&self.pod(pod)).await
    }

    /// Starts every container of an admitted pod that does not run, with retries.
    ///
    /// # Errors
    /// The last error of a container that did not start in time.
    pub async fn start_containers(&self, pod: &PodUid) -> Result<(), PodError> {
        for container in self.pod(pod).spec.containers {
            let known = self
                .pod(pod)
                .containers
                .get(&container.name)
                .cloned()
                .unwrap_or_default();
            let done = container.kind == ContainerKind::Init && known.starts > 0;
            if known.running || done {
                continue;
            }
            self.start_with_retries(pod, &container.name).await?;
            if container.kind == ContainerKind::Init {
                self.exit_container(pod, &container.name);
            }
        }
        self.update(pod, |pod| pod.phase = Phase::Running);
        Ok(())
    }

    async fn start_with_retries(&self, pod: &PodUid, container: &str) -> Result<(), PodError> {
        let start = Instant::now();
        loop {
            let message = match self.start_container(pod, container).await {
                Ok(_) => return Ok(()),
                Err(PodError::NotStarted { message, .. }) => message,
                Err(other) => return Err(other),
            };
            if start.elapsed() > self.world.settings.start_patience {
                return Err(PodError::NotStarted {
                    container: container.to_owned(),
                    message,
                });
            }
            tokio::time::sleep(START_AGAIN).await;
        }
    }

    /// Starts, or starts again, one container of an admitted pod, once.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn start_container(
        &self,
        pod: &PodUid,
        container: &str,
    ) -> Result<Container, PodError> {
        let process: Arc<Process> = self.process().ok_or(PodError::KubeletDown)?;
        let known = self.pod(pod);
        let spec = known
            .spec
            .containers
            .iter()
            .find(|spec| spec.name == container);
        let spec = spec.expect("the pod has such a container");
        let started = process.start_container(&known, spec).await;
        if process.gone.is_cancelled() {
            return Err(PodError::KubeletDown);
        }
        let started = started.map_err(|message| PodError::NotStarted {
            container: container.to_owned(),
            message,
        })?;
        self.update(pod, |pod| {
            let state = pod.containers.entry(container.to_owned()).or_default();
            state.running = true;
            state.starts += 1;
            state.last = Some(started.clone());
        });
        Ok(started)
    }

    /// Lets a container end. It is not started again by itself.
    pub fn exit_container(&self, pod: &PodUid, container: &str) {
        self.update(pod, |pod| {
            pod.containers
                .entry(container.to_owned())
                .or_default()
                .running = false;
        });
    }

    /// Lets a container end and starts it again, once, with the stored answer.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn restart_container(
        &self,
        pod: &PodUid,
        container: &str,
    ) -> Result<Container, PodError> {
        self.exit_container(pod, container);
        self.start_container(pod, container).await
    }

    /// A container as it was last started.
    #[must_use]
    pub fn container(&self, pod: &PodUid, container: &str) -> Option<Container> {
        self.pod(pod).containers.get(container)?.last.clone()
    }

    /// Whether the runtime has this container running.
    #[must_use]
    pub fn is_running(&self, pod: &PodUid, container: &str) -> bool {
        self.pod(pod)
            .containers
            .get(container)
            .is_some_and(|state| state.running)
    }

    /// How often a container was started.
    #[must_use]
    pub fn starts(&self, pod: &PodUid, container: &str) -> usize {
        self.pod(pod)
            .containers
            .get(container)
            .map_or(0, |state| state.starts)
    }

    /// Asks for a pod's deletion: its containers end, but it stays active, and so do its devices,
    /// until [`FakeKubelet::finish_termination`].
    pub fn delete_pod(&self, pod: &PodUid) {
        self.update(pod, |pod| {
            pod.terminating = true;
            stop_all(pod);
        });
    }

    /// The kubelet knows now that nothing of a deleted pod is left. Its devices are freed at the next
    /// admission or `PodResources` call.
    pub fn finish_termination(&self, pod: &PodUid) {
        self.update(pod, |pod| pod.terminated = true);
    }

    /// Deletes a pod and finishes its termination at once.
    pub fn remove_pod(&self, pod: &PodUid) {
        self.delete_pod(pod);
        self.finish_termination(pod);
    }

    /// All containers end well: the pod is Succeeded, inactive, and still in the table.
    pub fn complete_pod(&self, pod: &PodUid) {
        self.update(pod, |pod| {
            pod.phase = Phase::Succeeded;
            stop_all(pod);
        });
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Pod {
        let state = self.world.lock();
        let pod = state.pods.iter().find(|pod| pod.uid == *uid);
        pod.expect("the pod was submitted to this kubelet").clone()
    }

    fn update(&self, uid: &PodUid, change: impl FnOnce(&mut Pod)) {
        let mut state = self.world.lock();
        let pod = state.pods.iter_mut().find(|pod| pod.uid == *uid);
        change(pod.expect("the pod was submitted to this kubelet"));
    }
}

fn stop_all(pod: &mut Pod) {
    let stop = |state: &mut ContainerState| state.running = false;
    pod.containers.values_mut().for_each(stop);
}
