//! Unix-socket connections that can be cut like those of a killed process, the dial back to a plugin,
//! and gRPC errors in the words of the kubelet's own client library.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::authority::Rewriter;

/// Every connection of one kubelet process, so that a kill can cut them without a goodbye.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Vec<Weak<StdStream>>>);

impl Connections {
    /// Takes `stream` under supervision.
    fn track(&self, stream: UnixStream) -> io::Result<Tracked> {
        let std = stream.into_std()?;
        let handle = Arc::new(std.try_clone()?);
        let mut all = self.0.lock().unwrap();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&handle));
        Ok(Tracked {
            stream: UnixStream::from_std(std)?,
            _handle: handle,
        })
    }

    /// Whether no connection is left.
    pub(crate) fn are_closed(&self) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .all(|known| known.strong_count() == 0)
    }

    /// Cuts them all: the peers read end of file, without a stream reset or a GOAWAY before it.
    pub(crate) fn cut(&self) {
        for handle in self
            .0
            .lock()
            .unwrap()
            .drain(..)
            .filter_map(|known| known.upgrade())
        {
            drop(handle.shutdown(Shutdown::Both));
        }
    }
}

/// A connection whose second handle lives exactly as long as itself.
#[derive(Debug)]
pub(crate) struct Tracked {
    stream: UnixStream,
    _handle: Arc<StdStream>,
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The server's end of a connection: requests come in with `localhost` as their authority.
#[derive(Debug)]
pub(crate) struct Accepted {
    connection: Tracked,
    rewriter: Rewriter,
    /// Ready to be read.
    ready: VecDeque<u8>,
}

impl Accepted {
    fn new(connection: Tracked) -> Self {
        Self {
            connection,
            rewriter: Rewriter::default(),
            ready: VecDeque::new(),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; 4096];
        while self.ready.is_empty() {
            let mut received = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.connection).poll_read(cx, &mut received))?;
            if received.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = self.rewriter.pass(received.filled());
            self.ready.extend(passed);
        }
        let count = buf.remaining().min(self.ready.len());
        let bytes: Vec<u8> = self.ready.drain(..count).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

/// Accepts until `gone` and hands every connection over, tracked.
pub(crate) fn accept(
    listener: UnixListener,
    connections: Arc<Connections>,
    gone: CancellationToken,
) -> ReceiverStream<io::Result<Accepted>> {
    let (accepted_tx, accepted_rx) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = gone.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = accepted
                .and_then(|(stream, _)| connections.track(stream))
                .map(Accepted::new);
            if accepted_tx.send(stream).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(accepted_rx)
}

/// Dials a plugin as the kubelet does: blocking, with `:authority localhost`, at most `limit` long.
///
/// # Errors
/// The kubelet's own text when nobody answered in time.
pub(crate) async fn dial(
    socket: &Path,
    connections: &Arc<Connections>,
    limit: Duration,
) -> Result<Channel, String> {
    let attempts = async {
        loop {
            if let Ok(channel) = connect(socket.to_owned(), Arc::clone(connections)).await {
                return channel;
            }
            tokio::time::sleep(limit / 10).await; // grpc-go waits a second of its ten
        }
    };
    tokio::time::timeout(limit, attempts)
        .await
        .map_err(|_| "failed to dial device plugin: context deadline exceeded".to_owned())
}

async fn connect(
    socket: PathBuf,
    connections: Arc<Connections>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let (socket, connections) = (socket.clone(), Arc::clone(&connections));
        async move {
            let stream = UnixStream::connect(socket).await?;
            connections.track(stream).map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

/// A gRPC error as Go prints it.
pub(crate) fn go_error(status: &Status) -> String {
    let code = match status.code() {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}
