//! Wake-ups for the kubelet's directory and ours, from inotify where there is one to be had.
//!
//! Events only say *when to look*, with one exception: the creation of `kubelet.sock` is remembered, because a file
//! that is removed and made again within one tick of the clock can have the same inode and the same time of birth.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gpushared_proto::deviceplugin::KUBELET_SOCKET;
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use tracing::{debug, warn};

/// With inotify a look without an event is a second belt only.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);
/// Without it: while the kubelet is awaited.
const POLL_FAST: Duration = Duration::from_millis(10);
/// Without it: while the kubelet is there.
const POLL_SLOW: Duration = Duration::from_millis(250);

/// What events have told since they were last read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// There were events.
    pub(crate) anything: bool,
    /// `kubelet.sock` was created in the directory that was watched.
    pub(crate) kubelet_socket_created: bool,
    /// Something left our directory, or events were lost.
    pub(crate) own_entry_gone: bool,
}

/// The event source.
#[derive(Debug)]
pub(crate) struct DirEvents {
    inotify: Option<AsyncFd<Inotify>>,
    kubelet_dir: PathBuf,
    socket_dir: PathBuf,
    /// Of the kubelet's directory, or of the deepest of its ancestors that exists.
    outer: Option<WatchDescriptor>,
    outer_is_kubelet_dir: bool,
    own: Option<WatchDescriptor>,
    buffer: Vec<u8>,
}

impl DirEvents {
    pub(crate) fn new(kubelet_dir: PathBuf, socket_dir: PathBuf) -> Self {
        #[expect(
            deprecated,
            reason = "its successor is an unsafe function; here `Inotify` owns its descriptor and keeps it"
        )]
        let inotify = Inotify::init()
            .and_then(AsyncFd::new)
            .inspect_err(|error| warn!(%error, "No inotify, the kubelet's directory is polled"))
            .ok();
        Self {
            inotify,
            kubelet_dir,
            socket_dir,
            outer: None,
            outer_is_kubelet_dir: false,
            own: None,
            buffer: vec![0; 4096],
        }
    }

    /// Waits until it is worth looking.
    pub(crate) async fn worth_a_look(&mut self, kubelet_awaited: bool) {
        let Some(inotify) = &self.inotify else {
            return sleep(if kubelet_awaited {
                POLL_FAST
            } else {
                POLL_SLOW
            })
            .await;
        };
        let failed = tokio::select! {
            ready = inotify.readable() => match ready {
                // Cleared before the events are read: one that comes in between is another wake-up.
                Ok(mut ready) => {
                    ready.clear_ready();
                    None
                }
                Err(error) => Some(error),
            },
            () = sleep(LOOK_ANYWAY) => None,
        };
        if let Some(error) = failed {
            warn!(%error, "inotify failed, the kubelet's directory is polled");
            self.inotify = None;
        }
    }

    /// Reads what has come, without waiting.
    pub(crate) fn read(&mut self) -> Told {
        let mut told = Told::default();
        let Some(inotify) = &mut self.inotify else {
            return told;
        };
        loop {
            let events = match inotify.get_mut().read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        debug!(%error, "Reading inotify events failed");
                    }
                    return told;
                }
            };
            for event in events {
                told.anything = true;
                if self.own.as_ref() == Some(&event.wd)
                    || event.mask.contains(EventMask::Q_OVERFLOW)
                {
                    told.own_entry_gone = true;
                } else if self.outer_is_kubelet_dir
                    && self.outer.as_ref() == Some(&event.wd)
                    && event.name == Some(OsStr::new(KUBELET_SOCKET))
                    && event
                        .mask
                        .intersects(EventMask::CREATE | EventMask::MOVED_TO)
                {
                    told.kubelet_socket_created = true;
                }
            }
        }
    }

    /// Points the watches at what exists. Adding a watch that is there changes nothing, so this is done at every
    /// look, and a directory that was replaced is followed.
    pub(crate) fn rearm(&mut self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut watches = inotify.get_ref().watches();
        let entries = WatchMask::ONLYDIR | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let gone = entries | WatchMask::DELETE | WatchMask::MOVED_FROM;
        let all = gone | WatchMask::CREATE | WatchMask::MOVED_TO;
        let mut depth = usize::MAX;
        // Once more after a change: what was missing may have come before its parent was watched.
        loop {
            let deepest = self
                .kubelet_dir
                .ancestors()
                .enumerate()
                .find_map(|(depth, path)| Some((depth, watches.add(path, all).ok()?)));
            let Some((found, watch)) = deepest else {
                break;
            };
            let previous = self.outer.replace(watch);
            if let Some(previous) = previous
                && self.outer.as_ref() != Some(&previous)
            {
                // Of a directory that is gone there is no watch left to remove.
                let _gone = watches.remove(previous);
            }
            self.outer_is_kubelet_dir = found == 0;
            if found == 0 || found == depth {
                break;
            }
            depth = found;
        }
        let own = watches.add(&self.socket_dir, gone).ok();
        if let Some(previous) = self.own.take()
            && own.as_ref() != Some(&previous)
        {
            let _gone = watches.remove(previous);
        }
        self.own = own;
    }

    /// Without inotify, whatever the machine has.
    #[cfg(test)]
    pub(crate) fn polling() -> Self {
        Self {
            inotify: None,
            ..Self::new(PathBuf::new(), PathBuf::new())
        }
    }
}
