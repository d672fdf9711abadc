//! Lives of the kubelet's process: start, graceful stop, SIGKILL, reboot of the node.
//!
//! A graceful stop cancels the streams, closes the connections and removes `kubelet.sock`. A kill
//! does neither: peers read end of file and the stale socket stays until the next start, which wipes
//! every socket of the top-level directory, reads the checkpoint and listens on a socket with another
//! inode. Pods are admitted again by [`FakeKubelet::readmit_pods`], when the test says so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpushared_proto::deviceplugin::v1beta1::registration_server::RegistrationServer;
use gpushared_proto::podresources::v1::pod_resources_lister_server::PodResourcesListerServer;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::checkpoint::CHECKPOINT_FILE;
use super::podresources::PodResourcesService;
use super::process::{Process, World};
use super::registration::{Clients, RegistrationService, disconnect};
use super::transport::{Connections, accept};
use super::{FakeKubelet, Phase, PodUid};
use crate::wait::look_within;

/// What the checkpoint file is like when a kubelet starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// As the kubelet before left it.
    #[default]
    Kept,
    /// Gone: a node that was set up anew.
    Lost,
    /// There, but not readable.
    Corrupt,
}

/// How far the registration socket gets at a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketStart {
    /// Listening and serving.
    #[default]
    Serving,
    /// The file is there, connections are refused. [`FakeKubelet::serve`] goes on from here.
    NotAccepting,
    /// Connections are taken and nothing is said on them. [`FakeKubelet::serve`] goes on from here.
    NotAnswering,
}

/// A start of the kubelet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// The checkpoint that it finds.
    pub checkpoint: Checkpoint,
    /// How far it gets.
    pub socket: SocketStart,
}

impl FakeKubelet {
    /// Ends the kubelet by SIGKILL: connections just end, `kubelet.sock` stays as a stale file.
    pub fn kill9(&self) {
        if let Some(process) = self.take_process() {
            process.die();
        }
    }

    /// Stops the kubelet with a goodbye: streams cancelled, connections closed, sockets removed. That is
    /// what the device manager's own `Stop` does; kubelet 1.36 has no caller for it, so that a kubelet
    /// that gets SIGTERM looks like [`FakeKubelet::kill9`] to a plugin.
    pub async fn stop(&self) {
        let Some(process) = self.take_process() else {
            return;
        };
        for client in process.clients.all() {
            disconnect(&process, &client);
        }
        drop(fs::remove_file(process.settings().registration_socket()));
        drop(fs::remove_file(process.settings().pod_resources_socket()));
        process.gone.cancel();
        let goodbye = Duration::from_millis(500); // time for resets and GOAWAYs to be written
        look_within(goodbye, || process.connections.are_closed().then_some(())).await;
        process.connections.cut();
    }

    /// SIGKILL and an immediate start.
    pub async fn restart_by_kill9(&self) {
        self.kill9();
        self.start(Start::default()).await;
    }

    /// A graceful stop and an immediate start.
    pub async fn restart(&self) {
        self.stop().await;
        self.start(Start::default()).await;
    }

    /// Reboots the node, all but the plugin: no container runs any more, CDI specs are gone (they are
    /// kept in memory), a kubelet starts. A test ends its plugin before and starts it when it likes.
    pub async fn reboot(&self, start: Start) {
        self.kill9();
        {
            let mut state = self.world.lock();
            for pod in &mut state.pods {
                pod.containers
                    .values_mut()
                    .for_each(|container| container.running = false);
                pod.terminated |= pod.terminating; // nothing is left to wait for
            }
            state.cdi_seen.clear();
        }
        for dir in &self.world.settings.cdi_dirs {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                drop(fs::remove_file(entry.path()));
            }
        }
        self.start(start).await;
    }

    /// Starts a kubelet where none runs. Pod sources are not ready when there are pods to admit again.
    ///
    /// # Panics
    /// When one runs already, or its sockets cannot be made.
    pub async fn start(&self, start: Start) {
        let settings = &self.world.settings;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o750);
        builder
            .create(settings.device_plugins())
            .expect("the device-plugins directory can be made");
        let checkpoint = settings.device_plugins().join(CHECKPOINT_FILE);
        match start.checkpoint {
            Checkpoint::Kept => {}
            Checkpoint::Lost => {
                drop(fs::remove_file(&checkpoint));
                let mut state = self.world.lock();
                state.node.values_mut().for_each(|counts| *counts = (0, 0));
            }
            Checkpoint::Corrupt => {
                fs::write(&checkpoint, "{\"Data\":").expect("a file can be written");
            }
        }
        let process = Arc::new(Process::new(&self.world));
        process.read_checkpoint();
        wipe_sockets(&settings.device_plugins());
        let bound = bind_quietly(&settings.registration_socket());
        {
            let mut current = self.process.lock().unwrap();
            assert!(current.is_none(), "a kubelet runs already");
            *current = Some(Arc::clone(&process));
        }
        if start.socket != SocketStart::NotAccepting {
            listen(&bound, Backlog::new(64).unwrap()).expect("a bound socket can listen");
        }
        *self.bound.lock().unwrap() = Some(bound);
        if start.socket == SocketStart::Serving {
            self.serve();
        }
        serve_pod_resources(&process).await;
    }

    /// Goes on with a start that was held at its socket.
    ///
    /// # Panics
    /// When no kubelet is waiting for this.
    pub fn serve(&self) {
        let process = self.process().expect("a kubelet is running");
        let bound = self
            .bound
            .lock()
            .unwrap()
            .take()
            .expect("the socket is held back");
        listen(&bound, Backlog::new(64).unwrap()).expect("a bound socket can listen");
        let listener = std::os::unix::net::UnixListener::from(bound);
        listener
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        let listener = UnixListener::from_std(listener).expect("a listener fits the runtime");
        let incoming = accept(
            listener,
            Arc::clone(&process.connections),
            process.gone.clone(),
        );
        let gone = process.gone.clone();
        let service = RegistrationServer::new(RegistrationService(process));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, gone.cancelled_owned()));
    }

    /// Admits the pods that were there before, in their order, and then declares all sources ready.
    /// Returns the pods that were rejected: those are Failed for good and their containers killed.
    pub async fn readmit_pods(&self) -> Vec<PodUid> {
        let Some(process) = self.process() else {
            return Vec::new();
        };
        let pods: Vec<_> = self.world.lock().pods.clone();
        let mut rejected = Vec::new();
        for pod in pods
            .iter()
            .filter(|pod| !pod.is_finished() && !pod.terminating)
        {
            if process.admit(pod).await.is_err() {
                rejected.push(pod.uid.clone());
            }
        }
        self.set_sources_ready();
        rejected
    }

    /// Declares all pod sources ready without admitting anything: from here on devices of ended pods
    /// are freed, and running containers are waved through no more.
    pub fn set_sources_ready(&self) {
        if let Some(process) = self.process() {
            process.sources_ready.store(true, Ordering::SeqCst);
        }
    }

    fn take_process(&self) -> Option<Arc<Process>> {
        self.bound.lock().unwrap().take();
        self.process.lock().unwrap().take()
    }
}

impl Process {
    fn new(world: &Arc<World>) -> Self {
        let mut running = BTreeSet::new();
        let mut returning = false;
        for pod in &world.lock().pods {
            returning |= !matches!(pod.phase, Phase::Failed | Phase::Succeeded);
            let up = pod
                .containers
                .iter()
                .filter(|(_, container)| container.running);
            running.extend(up.map(|(name, _)| (pod.uid.clone(), name.clone())));
        }
        Self {
            world: Arc::clone(world),
            manager: Mutex::default(),
            clients: Clients::default(),
            admission: tokio::sync::Mutex::new(()),
            connections: Arc::new(Connections::default()),
            gone: CancellationToken::new(),
            sources_ready: AtomicBool::new(!returning),
            initially_running: running,
        }
    }
}

/// Every socket of the directory goes, whoever made it; files and sub-directories stay.
fn wipe_sockets(dir: &Path) {
    for entry in fs::read_dir(dir)
        .expect("the device-plugins directory can be read")
        .flatten()
    {
        if fs::metadata(entry.path()).is_ok_and(|meta| meta.file_type().is_socket()) {
            fs::remove_file(entry.path()).expect("a socket can be removed");
        }
    }
}

/// Makes the socket file without listening, so that a connection is refused.
fn bind_quietly(path: &Path) -> std::os::fd::OwnedFd {
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let address = UnixAddr::new(path).expect("the socket's path is short enough");
    bind(made.as_raw_fd(), &address).expect("kubelet.sock can be bound");
    made
}

async fn serve_pod_resources(process: &Arc<Process>) {
    let path = process.settings().pod_resources_socket();
    fs::create_dir_all(path.parent().unwrap()).expect("the pod-resources directory can be made");
    drop(fs::remove_file(&path));
    let listener = UnixListener::bind(&path).expect("the PodResources socket can be bound");
    let incoming = accept(
        listener,
        Arc::clone(&process.connections),
        process.gone.clone(),
    );
    let service = PodResourcesListerServer::new(PodResourcesService::new(Arc::clone(process)));
    let server = Server::builder().add_service(service);
    let gone = process.gone.clone();
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, gone.cancelled_owned()));
    tokio::task::yield_now().await;
}
