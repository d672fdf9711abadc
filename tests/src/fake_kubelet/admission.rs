//! Admission: one pod at a time, its containers in order; a rejection is for good and uses the
//! kubelet's words.

use super::event::Event;
use super::pods::{Phase, Pod};
use super::process::Process;

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// Rejected at admission: the pod is Failed for good, with this text in its status.
    #[error("{reason}: {message}")]
    Rejected {
        /// One word.
        reason: String,
        /// The kubelet's message.
        message: String,
    },
    /// Admitted, but a container did not start in the time that the test gave it.
    #[error("container {container} does not start: {message}")]
    NotStarted {
        /// Which container.
        container: String,
        /// The last error.
        message: String,
    },
    /// The kubelet died or was stopped meanwhile.
    #[error("the kubelet is down")]
    KubeletDown,
}

impl Process {
    /// Admits a pod, or rejects it for good.
    pub(crate) async fn admit(&self, pod: &Pod) -> Result<(), PodError> {
        let _turn = self.admission.lock().await;
        if self.gone.is_cancelled() {
            return Err(PodError::KubeletDown);
        }
        for container in &pod.spec.containers {
            match self.align(&pod.uid, container) {
                Ok(true) => {}
                Ok(false) => {
                    let message = "Resources cannot be allocated with Topology locality";
                    return Err(self.reject(pod, "TopologyAffinityError", message));
                }
                Err(violation) => {
                    self.crash(violation);
                    return Err(PodError::KubeletDown);
                }
            }
            if let Err(message) = self.allocate(pod, container).await {
                if self.gone.is_cancelled() {
                    return Err(PodError::KubeletDown);
                }
                let message = format!("Allocate failed due to {message}, which is unexpected");
                return Err(self.reject(pod, "UnexpectedAdmissionError", &message));
            }
        }
        match &pod.spec.rejected_after_allocate {
            Some((reason, message)) => Err(self.reject(pod, reason, message)),
            None => Ok(()),
        }
    }

    fn reject(&self, pod: &Pod, reason: &str, message: &str) -> PodError {
        let rejected = Event::PodRejected {
            pod: pod.full_name(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let mut state = self.world.lock();
        state.events.push(rejected);
        for known in state.pods.iter_mut().filter(|known| known.uid == pod.uid) {
            known.phase = Phase::Failed;
            reason.clone_into(&mut known.reason);
            known.message = format!("Pod was rejected: {message}");
            known
                .containers
                .values_mut()
                .for_each(|container| container.running = false);
        }
        PodError::Rejected {
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}
