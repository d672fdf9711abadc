//! The reconciler, as the front end asks it.

use gpushared_device_plugin::{Refusal, RefusalKind, SliceAllocator};
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::resource::ResourceName;
use tokio::sync::{mpsc, oneshot};

use crate::message::Message;

/// Sends the front end's questions to the reconciler.
#[derive(Debug, Clone)]
pub struct ReconcilerHandle {
    /// front end --questions--> reconciler
    messages_tx: mpsc::Sender<Message>,
}

impl ReconcilerHandle {
    /// With the reconciler's mailbox.
    #[must_use]
    pub fn new(messages_tx: mpsc::Sender<Message>) -> Self {
        Self { messages_tx }
    }

    /// Sends a message with a reply and waits for that.
    ///
    /// # Errors
    /// When the reconciler has ended.
    pub async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Refusal> {
        let stopping = || Refusal::new(RefusalKind::NotReady, "gpushared is stopping on this node");
        let (reply, answer) = oneshot::channel();
        self.messages_tx
            .send(message(reply))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

impl SliceAllocator for ReconcilerHandle {
    async fn allocate(
        &self,
        resource: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> Result<ContainerEdits, Refusal> {
        let resource = resource.clone();
        self.ask(|reply| Message::Allocate {
            resource,
            ids,
            reply,
        })
        .await?
    }

    async fn prefer(
        &self,
        _resource: &ResourceName,
        available: Vec<PluginDeviceId>,
        must_include: Vec<PluginDeviceId>,
        size: usize,
    ) -> Result<Vec<PluginDeviceId>, Refusal> {
        self.ask(|reply| Message::Prefer {
            available,
            must_include,
            size,
            reply,
        })
        .await
    }

    async fn pre_start(
        &self,
        _resource: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> Result<(), Refusal> {
        self.ask(|reply| Message::PreStart { ids, reply }).await?
    }
}
