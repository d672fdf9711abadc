//! The socket of one resource: its file, and the connections on it.
//!
//! Our sub-directory is created when it is missing (0750, as the kubelet's own), the kubelet's directory never: it
//! is the kubelet's to create, with its owner and label.

use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tracing::warn;

use crate::file_identity::FileIdentity;

const DIRECTORY_MODE: u32 = 0o750;
/// A process that is out of file descriptors gets one error per connection, at once and for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("creating the directory {}", path.display())]
    CreateDirectory { path: PathBuf, source: io::Error },
    #[error("removing what is left of {}", path.display())]
    RemoveStale { path: PathBuf, source: io::Error },
    #[error("listening on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// The file of a socket that we listen on; dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
}

impl SocketFile {
    /// Listens on `path`, in place of a socket that an earlier process left there.
    pub(crate) fn listen(directory: &Path, path: &Path) -> Result<(Self, Accepted), SocketError> {
        let path = path.to_owned();
        if let Err(source) = std::fs::DirBuilder::new()
            .mode(DIRECTORY_MODE)
            .create(directory)
            && source.kind() != io::ErrorKind::AlreadyExists
        {
            let path = directory.to_owned();
            return Err(SocketError::CreateDirectory { path, source });
        }
        let stale = match FileIdentity::of_socket(&path) {
            Ok(_) => std::fs::remove_file(&path),
            Err(error) => Err(error),
        };
        if let Err(source) = stale
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(SocketError::RemoveStale { path, source });
        }
        let bound = UnixListener::bind(&path)
            .and_then(|listener| Ok((listener, FileIdentity::of_socket(&path)?)));
        match bound {
            Ok((listener, identity)) => {
                let accepted = Accepted {
                    listener,
                    pause: None,
                };
                Ok((Self { path, identity }, accepted))
            }
            Err(source) => Err(SocketError::Listen { path, source }),
        }
    }

    /// The file is still the one that we listen on.
    pub(crate) fn is_there(&self) -> bool {
        FileIdentity::of_socket(&self.path).is_ok_and(|identity| identity == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not the socket of a daemon that has already taken over.
        if self.is_there()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "Left a socket behind");
        }
    }
}

/// The connections that come in. An error makes it pause, not spin.
#[derive(Debug)]
pub(crate) struct Accepted {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Accepted {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let accepted = ready!(self.listener.poll_accept(cx));
        if accepted.is_err() {
            self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
        }
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_another_kind_of_file_is_not() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("gpushared");
        let path = directory.join("gpu.sock");
        let (first, _listener) = SocketFile::listen(&directory, &path).expect("a fresh start");
        let (second, _listener) = SocketFile::listen(&directory, &path).expect("a stale socket");
        assert!(!first.is_there() && second.is_there());
        drop(first);
        assert!(second.is_there(), "the loser leaves the winner's file");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "text").expect("a file");
        let error = SocketFile::listen(&directory, &path).expect_err("no socket");
        assert!(matches!(error, SocketError::RemoveStale { .. }), "{error}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_kubelets_directory_is_not_created() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("kubelet/gpushared");
        let error = SocketFile::listen(&directory, &directory.join("gpu.sock"))
            .expect_err("no kubelet directory");
        assert!(
            matches!(error, SocketError::CreateDirectory { .. }),
            "{error}"
        );
    }
}
