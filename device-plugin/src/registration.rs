//! One resource and the kubelet: listen, register, and register again whenever the kubelet has lost us.
//!
//! ```text
//!   wait for the directory ─▶ listen ─▶ wait for kubelet.sock ─▶ Register ──ok──▶ hold
//!        ▲     ▲                                │   ▲ └─ failed: backoff, cut short   │
//!        │     └────────────────────────────────┘   └───── by another kubelet.sock    │
//!        └────── our socket is gone · kubelet.sock was created again · the newest ◀───┘
//!                stream ended · no stream came
//! ```
//!
//! - The socket is served before Register is called: the kubelet dials back and asks for the options inside it.
//! - While the newest stream is open and `kubelet.sock` is the same, nothing is registered.
//! - Before a registration every stream that is left over is ended, and the kubelet is given [`FIRST`] to forget the
//!   plugin that it belonged to. It closes the connection a moment *before* it marks the resource as stopped, and a
//!   registration in between would be stopped with it.
//! - After the end of a stream the first registration follows at once, further ones with backoff until a stream has
//!   lasted [`LASTING`]: two plugins that poison each other do not make a storm.

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gpushared_proto::deviceplugin::VERSION;
use gpushared_proto::deviceplugin::v1beta1::RegisterRequest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::allocator::SliceAllocator;
use crate::backoff::{Backoff, FIRST};
use crate::kubelet_dir::{KubeletDir, KubeletSocket};
use crate::listener::Listener;
use crate::register::{RegisterError, chain, register};
use crate::report::{RegistrationState, Report};
use crate::service::ResourceService;
use crate::socket::SocketError;
use crate::streams::OpenStreams;

/// A stream that lasted so long was a good one.
const LASTING: Duration = Duration::from_secs(10);
/// The kubelet opens the stream right after Register; one that has not by then never will.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);
/// A kubelet's socket appears before the kubelet accepts on it: for so long after that ...
const FRESH: Duration = Duration::from_secs(10);
/// ... no wait is longer than this.
const FRESH_WAIT: Duration = Duration::from_millis(50);
/// Streams that were told to end are gone by then, unless the kubelet no longer reads.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Why a registration is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    KubeletSocketCreated,
    OwnSocketGone,
    StreamEnded { lasted: Duration },
    NoStream,
}

/// One resource, from its first listing to the end of the process.
pub(crate) struct Registration<A> {
    service: Arc<ResourceService<A>>,
    listener: Listener,
    report: Report,
    dir_rx: watch::Receiver<KubeletDir>,
    open_rx: watch::Receiver<OpenStreams>,
    shutdown: CancellationToken,
    own_changes: u64,
    /// Generation of the `kubelet.sock` that the last try went to.
    tried: u64,
}

impl<A: SliceAllocator> Registration<A> {
    pub(crate) fn new(
        service: ResourceService<A>,
        socket_path: PathBuf,
        report: Report,
        dir_rx: watch::Receiver<KubeletDir>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            open_rx: service.streams.subscribe(),
            service: Arc::new(service),
            listener: Listener::new(socket_path),
            report,
            dir_rx,
            shutdown,
            own_changes: 0,
            tried: 0,
        }
    }

    /// Lives until shutdown, then ends the streams and waits for the calls in flight.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            never = self.live() => match never {},
        }
        self.service.streams.end_for_good();
        self.listener.end().await;
    }

    async fn live(&mut self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut cause = Instant::now();
        let mut failing = false;
        loop {
            match self.try_once(cause).await {
                Ok(over) => {
                    debug!(resource = %self.service.resource, ?over, "Registration is over");
                    failing = false;
                    self.state(RegistrationState::Registering);
                    match over {
                        // What follows counts from the sight of the new socket.
                        Over::KubeletSocketCreated => {
                            backoff.reset();
                            continue;
                        }
                        Over::StreamEnded { lasted } if lasted >= LASTING => backoff.reset(),
                        Over::StreamEnded { .. } | Over::NoStream | Over::OwnSocketGone => {}
                    }
                    cause = Instant::now();
                    if over == Over::OwnSocketGone {
                        continue;
                    }
                }
                Err(error) => {
                    let text = chain(&error);
                    if error.wants_attention() && !failing {
                        failing = true;
                        warn!(resource = %self.service.resource, error = text, "Could not register, trying on");
                    } else {
                        debug!(resource = %self.service.resource, error = text, "Could not register");
                    }
                    self.state(RegistrationState::Failed { error: text });
                }
            }
            if self.pause(backoff.next()).await {
                backoff.reset();
            }
        }
    }

    /// One way through the diagram, up to the end of the registration.
    async fn try_once(&mut self, cause: Instant) -> Result<Over, RegisterError> {
        self.directory().await;
        self.tried = self.generation();
        self.listen().map_err(RegisterError::Listen)?;
        let kubelet = self.kubelet().await;
        self.tried = kubelet.generation;
        self.state(RegistrationState::Registering);
        self.end_left_over_streams().await;
        let before = self.open_rx.borrow().opened;
        self.register(&kubelet).await?;
        let took = cause.max(kubelet.seen).elapsed();
        let resource = &self.service.resource;
        self.report.registered(resource, took);
        let devices = self
            .service
            .lists
            .borrow()
            .resources
            .get(resource)
            .map_or(0, Vec::len);
        info!(
            %resource,
            devices,
            took_ms = (took.as_secs_f64() * 10_000.0).round() / 10.0,
            "Registered resource"
        );
        Ok(self.hold(kubelet.generation, before).await)
    }

    /// Waits for the kubelet's directory.
    async fn directory(&mut self) {
        loop {
            let missing = self.dir_rx.borrow_and_update().missing.clone();
            let Some(why) = missing else { return };
            self.state(RegistrationState::WaitingForKubelet { why });
            changed(&mut self.dir_rx).await;
        }
    }

    /// Listens, unless the socket is still there.
    fn listen(&mut self) -> Result<(), SocketError> {
        self.own_changes = self.dir_rx.borrow().own_changes;
        self.listener.listen(&self.service)
    }

    /// Waits for `kubelet.sock`.
    async fn kubelet(&mut self) -> KubeletSocket {
        loop {
            let kubelet = self.dir_rx.borrow_and_update().kubelet.clone();
            if let Some(kubelet) = kubelet {
                return kubelet;
            }
            let path = self.service.settings.kubelet_socket();
            self.state(RegistrationState::WaitingForKubelet {
                why: format!("{} is missing", path.display()),
            });
            changed(&mut self.dir_rx).await;
        }
    }

    async fn end_left_over_streams(&mut self) {
        if self.open_rx.borrow_and_update().live == 0 {
            return;
        }
        self.service.streams.end_all();
        let ended = self.open_rx.wait_for(|open| open.live == 0);
        if timeout(END_PATIENCE, ended).await.is_err() {
            debug!(resource = %self.service.resource, "The kubelet does not read the end of its stream");
        }
        sleep(FIRST).await;
    }

    /// Asks this kubelet, until another takes its place.
    async fn register(&mut self, kubelet: &KubeletSocket) -> Result<(), RegisterError> {
        let settings = &self.service.settings;
        let resource = &self.service.resource;
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: settings.endpoint(resource),
            resource_name: resource.to_string(),
            options: Some(self.service.options()),
        };
        let replaced = self
            .dir_rx
            .wait_for(|dir| is_another(dir, kubelet.generation));
        tokio::select! {
            answer = register(kubelet, request, settings.register_timeout) => answer,
            Ok(_) = replaced => Err(RegisterError::Replaced),
        }
    }

    /// Returns when the registration is over.
    async fn hold(&mut self, generation: u64, before: u64) -> Over {
        let begun = Instant::now();
        let mut patience = std::pin::pin!(sleep(STREAM_PATIENCE));
        loop {
            let open = *self.open_rx.borrow_and_update();
            let (own_changes, replaced) = {
                let dir = self.dir_rx.borrow_and_update();
                let current = dir.kubelet.as_ref().map(|kubelet| kubelet.generation);
                (
                    dir.own_changes,
                    current.is_some_and(|current| current != generation),
                )
            };
            if replaced {
                return Over::KubeletSocketCreated;
            }
            if own_changes != self.own_changes {
                self.own_changes = own_changes;
                if !self.listener.is_there() {
                    return Over::OwnSocketGone;
                }
            }
            let opened = open.opened > before;
            if opened && !open.newest_live {
                let lasted = begun.elapsed();
                return Over::StreamEnded { lasted };
            }
            tokio::select! {
                _ = self.open_rx.changed() => {}
                () = changed(&mut self.dir_rx) => {}
                () = &mut patience, if !opened => return Over::NoStream,
            }
        }
    }

    /// Waits before the next try; `true` when another `kubelet.sock` cut it short.
    async fn pause(&mut self, wait: Duration) -> bool {
        let tried = self.tried;
        let is_fresh = self
            .dir_rx
            .borrow()
            .kubelet
            .as_ref()
            .is_some_and(|kubelet| kubelet.seen.elapsed() < FRESH);
        let wait = if is_fresh { wait.min(FRESH_WAIT) } else { wait };
        let replaced = self.dir_rx.wait_for(|dir| is_another(dir, tried));
        tokio::select! {
            Ok(_) = replaced => true,
            () = sleep(wait) => false,
        }
    }

    fn generation(&self) -> u64 {
        let dir = self.dir_rx.borrow();
        dir.kubelet.as_ref().map_or(0, |kubelet| kubelet.generation)
    }

    fn state(&self, state: RegistrationState) {
        self.report.state(&self.service.resource, state);
    }
}

/// Waits for a change; for ever when the sender is gone, since the supervisor then ends everything.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// There is a `kubelet.sock`, and not the one of `generation`.
fn is_another(dir: &KubeletDir, generation: u64) -> bool {
    let current = dir.kubelet.as_ref().map(|kubelet| kubelet.generation);
    current.is_some_and(|current| current != generation)
}
