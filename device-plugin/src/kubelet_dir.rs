//! What is in the kubelet's directory: its socket, and whether ours are still there.
//!
//! One task looks, everyone else follows a [`watch`]. A look is level-triggered: read events, point the watches at
//! what exists, `stat`, and again until no event came in between. So every event that is read at a later look is
//! younger than what this one saw, which is what makes "created again" certain.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::{info, warn};

use crate::dir_events::DirEvents;
use crate::file_identity::FileIdentity;
use crate::settings::PluginSettings;

/// Looks at one wake-up; a directory that never stops changing is looked at again at the next.
const LOOKS: usize = 16;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct KubeletDir {
    /// Why nothing can be created in it.
    pub(crate) missing: Option<String>,
    /// The kubelet's socket, or why there is none.
    pub(crate) kubelet: Option<KubeletSocket>,
    /// Grows whenever one of our sockets may have gone.
    pub(crate) own_changes: u64,
}

/// One `kubelet.sock`.
#[derive(Debug, Clone)]
pub(crate) struct KubeletSocket {
    /// Differs for every socket that is created.
    pub(crate) generation: u64,
    /// When it was first seen.
    pub(crate) seen: Instant,
    /// Connects on first use, and again after a failure: one connection for all resources.
    pub(crate) channel: Channel,
}

/// The task that looks.
#[derive(Debug)]
pub(crate) struct DirWatch {
    settings: Arc<PluginSettings>,
    events: DirEvents,
    /// from --dir watch--> to every resource
    dir_tx: watch::Sender<KubeletDir>,
    generation: u64,
    kubelet: Option<FileIdentity>,
    own: Option<FileIdentity>,
}

impl DirWatch {
    /// Looks for the first time.
    pub(crate) fn new(settings: Arc<PluginSettings>) -> (Self, watch::Receiver<KubeletDir>) {
        let events = DirEvents::new(settings.kubelet_dir.clone(), settings.socket_dir());
        let (dir_tx, dir_rx) = watch::channel(KubeletDir::default());
        let mut this = Self {
            settings,
            events,
            dir_tx,
            generation: 0,
            kubelet: None,
            own: None,
        };
        this.look();
        let dir = dir_rx.borrow();
        if dir.missing.is_none() && dir.kubelet.is_none() {
            info!(path = %this.settings.kubelet_socket().display(), "Waiting for the kubelet");
        }
        drop(dir);
        (this, dir_rx)
    }

    /// Looks until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let awaited = self.kubelet.is_none();
            self.events.worth_a_look(awaited).await;
            self.look();
        }
    }

    fn look(&mut self) {
        let mut told = self.events.read();
        let mut missing = None;
        let mut kubelet = None;
        let mut own = None;
        for _ in 0..LOOKS {
            self.events.rearm();
            missing = self.why_missing();
            kubelet = FileIdentity::of_socket(&self.settings.kubelet_socket()).ok();
            own = FileIdentity::of_directory_entries(&self.settings.socket_dir());
            let more = self.events.read();
            told.kubelet_socket_created |= more.kubelet_socket_created;
            told.own_entry_gone |= more.own_entry_gone;
            if !more.anything {
                break;
            }
        }
        let own_changed = told.own_entry_gone || own != self.own;
        self.own = own;
        let is_new = kubelet.is_some() && (kubelet != self.kubelet || told.kubelet_socket_created);
        self.kubelet = kubelet;
        let fresh = is_new.then(|| {
            self.generation += 1;
            KubeletSocket {
                generation: self.generation,
                seen: Instant::now(),
                channel: channel(self.settings.kubelet_socket()),
            }
        });
        self.publish(missing, fresh, own_changed);
    }

    fn publish(&self, missing: Option<String>, fresh: Option<KubeletSocket>, own_changed: bool) {
        let is_there = self.kubelet.is_some();
        self.dir_tx.send_if_modified(|dir| {
            let mut modified = own_changed || fresh.is_some();
            dir.own_changes += u64::from(own_changed);
            if let Some(fresh) = fresh {
                info!(
                    generation = fresh.generation,
                    "The kubelet's socket is there"
                );
                dir.kubelet = Some(fresh);
            } else if !is_there && dir.kubelet.is_some() {
                dir.kubelet = None;
                modified = true;
            }
            if dir.missing != missing {
                match &missing {
                    Some(why) => warn!(why, "Waiting for the kubelet's directory"),
                    None => info!("The kubelet's directory is there"),
                }
                dir.missing = missing;
                modified = true;
            }
            modified
        });
    }

    fn why_missing(&self) -> Option<String> {
        let path = self.settings.kubelet_dir.display();
        match self.settings.kubelet_dir.metadata() {
            Ok(metadata) if metadata.is_dir() => None,
            Ok(_) => Some(format!("{path} is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("the directory {path} is missing"))
            }
            Err(error) => Some(format!("the directory {path} cannot be read: {error}")),
        }
    }
}

/// A channel to the kubelet. `http://localhost` only gives the `:authority`; what is dialled is the socket.
fn channel(path: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn watch(root: &Path) -> (DirWatch, watch::Receiver<KubeletDir>) {
        let settings = PluginSettings::new(root.join("lib/kubelet"));
        DirWatch::new(Arc::new(settings))
    }

    fn generation(dir_rx: &watch::Receiver<KubeletDir>) -> Option<u64> {
        let dir = dir_rx.borrow();
        dir.kubelet.as_ref().map(|kubelet| kubelet.generation)
    }

    #[tokio::test]
    async fn each_kubelet_socket_is_one_generation_with_and_without_inotify() {
        for poll in [false, true] {
            let root = tempfile::tempdir().expect("a directory");
            let (mut watch, dir_rx) = watch(root.path());
            if poll {
                watch.events = DirEvents::polling();
            }
            assert!(dir_rx.borrow().missing.is_some());
            let dir = root.path().join("lib/kubelet");
            std::fs::create_dir_all(&dir).expect("the kubelet's directory");
            watch.look();
            assert!(dir_rx.borrow().missing.is_none());
            assert_eq!(generation(&dir_rx), None);
            let socket = dir.join("kubelet.sock");
            let _first = UnixListener::bind(&socket).expect("kubelet.sock");
            watch.look();
            std::fs::write(dir.join("checkpoint"), "text").expect("a file");
            watch.look();
            assert_eq!(generation(&dir_rx), Some(1));
            let _second = UnixListener::bind(dir.join("other")).expect("another socket");
            std::fs::rename(dir.join("other"), &socket).expect("in its place");
            watch.look();
            watch.look();
            assert_eq!(generation(&dir_rx), Some(2));
            std::fs::remove_file(&socket).expect("kubelet.sock");
            watch.look();
            assert_eq!(generation(&dir_rx), None);
        }
    }

    /// The file system may use the inode again within the same tick of its clock.
    #[tokio::test]
    async fn a_socket_that_is_removed_and_created_at_once_is_another_one() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("lib/kubelet");
        std::fs::create_dir_all(&dir).expect("the kubelet's directory");
        let socket = dir.join("kubelet.sock");
        drop(UnixListener::bind(&socket).expect("kubelet.sock"));
        let (mut watch, dir_rx) = watch(root.path());
        for expected in 2..50 {
            std::fs::remove_file(&socket).expect("kubelet.sock");
            drop(UnixListener::bind(&socket).expect("kubelet.sock"));
            watch.look();
            assert_eq!(generation(&dir_rx), Some(expected));
        }
    }

    #[tokio::test]
    async fn the_loss_of_one_of_our_sockets_is_told() {
        for poll in [false, true] {
            let root = tempfile::tempdir().expect("a directory");
            let ours = root.path().join("lib/kubelet/gpushared");
            std::fs::create_dir_all(&ours).expect("our directory");
            std::fs::write(ours.join("gpu.sock"), "").expect("a file");
            let (mut watch, dir_rx) = watch(root.path());
            if poll {
                watch.events = DirEvents::polling();
            }
            let before = dir_rx.borrow().own_changes;
            watch.look();
            assert_eq!(dir_rx.borrow().own_changes, before);
            std::fs::remove_dir_all(&ours).expect("our directory");
            watch.look();
            assert_eq!(dir_rx.borrow().own_changes, before + 1);
        }
    }
}
