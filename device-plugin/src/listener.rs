//! The server behind the socket of one resource, and its successor when the file goes away.
//!
//! A server that is replaced accepts no more and ends with its last connection; the kubelet closes that one when its
//! stream has ended.

use std::path::PathBuf;
use std::sync::Arc;

use gpushared_proto::deviceplugin::v1beta1::device_plugin_server::DevicePluginServer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::warn;

use crate::allocator::SliceAllocator;
use crate::register::chain;
use crate::service::ResourceService;
use crate::socket::{SocketError, SocketFile};

/// Where one resource is served.
#[derive(Debug)]
pub(crate) struct Listener {
    path: PathBuf,
    current: Option<Current>,
    servers: JoinSet<()>,
}

#[derive(Debug)]
struct Current {
    file: SocketFile,
    stop: CancellationToken,
}

impl Listener {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            current: None,
            servers: JoinSet::new(),
        }
    }

    /// The file that is served is there.
    pub(crate) fn is_there(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.file.is_there())
    }

    /// Serves, unless it does already.
    pub(crate) fn listen<A: SliceAllocator>(
        &mut self,
        service: &Arc<ResourceService<A>>,
    ) -> Result<(), SocketError> {
        if self.is_there() {
            return Ok(());
        }
        if let Some(current) = self.current.take() {
            current.stop.cancel();
        }
        while self.servers.try_join_next().is_some() {}
        let path = self.path.clone();
        let (file, accepted) = SocketFile::listen(&service.settings.socket_dir(), &path)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let service = DevicePluginServer::from_arc(Arc::clone(service));
        self.servers.spawn(async move {
            let served = Server::builder().serve_with_incoming_shutdown(service, accepted, stopped);
            if let Err(error) = served.await {
                warn!(path = %path.display(), error = chain(&error), "Stopped serving");
            }
        });
        self.current = Some(Current { file, stop });
        Ok(())
    }

    /// Accepts no more, and waits for the calls in flight.
    pub(crate) async fn end(mut self) {
        if let Some(current) = self.current.take() {
            current.stop.cancel();
        }
        while self.servers.join_next().await.is_some() {}
    }
}
