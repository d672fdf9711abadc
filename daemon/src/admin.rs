//! What operators and probes ask: a Unix socket for `gpusharectl`, HTTP for `/livez` and `/readyz`.
//!
//! | path | socket | HTTP | answer |
//! |---|---|---|---|
//! | `GET /livez` | yes | yes | 200 when the reconciler answers, 503 when it is stuck |
//! | `GET /readyz` | yes | yes | 200 when the driver answers and every resource is registered, else 503 with what is awaited |
//! | `GET /status` | yes | no | the node as JSON ([`gpushared_domain::status::NodeStatus`]) |
//! | `POST /gpus/{uuid}/health/clear` | yes | no | ends the GPU's health conditions |
//!
//! The socket is root's alone (mode 0600): its file mode is the access control.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use gpushared_domain::ids::GpuUuid;
use gpushared_domain::status::NodeStatus;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::allocator::ReconcilerHandle;
use crate::message::Message;
use crate::reconciler::ANSWERS_WITHIN;

/// The listeners, bound before anything is announced.
#[derive(Debug)]
pub struct AdminListeners {
    socket: UnixListener,
    http: Option<TcpListener>,
}

impl AdminListeners {
    /// Binds both. A socket file of an earlier life is replaced: the caller holds the node's lock.
    ///
    /// # Errors
    /// When the socket or the address cannot be had.
    pub async fn bind(socket: &Path, http: Option<SocketAddr>) -> io::Result<Self> {
        if let Some(folder) = socket.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
        let http = match http {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        Ok(Self {
            socket: listener,
            http,
        })
    }

    /// The HTTP address, with the port that the system chose for port 0.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Serves both until `shutdown`.
    ///
    /// # Errors
    /// When a listener breaks.
    pub async fn serve(
        self,
        reconciler: ReconcilerHandle,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let probes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz));
        let operators = probes
            .clone()
            .route("/status", get(status))
            .route("/gpus/{uuid}/health/clear", post(clear_health))
            .with_state(reconciler.clone());
        let socket = axum::serve(self.socket, operators)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        match self.http {
            Some(listener) => {
                let http = axum::serve(listener, probes.with_state(reconciler))
                    .with_graceful_shutdown(shutdown.cancelled_owned());
                tokio::try_join!(socket.into_future(), http.into_future()).map(|_| ())
            }
            None => socket.await,
        }
    }
}

fn stuck() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the reconciler does not answer\n",
    )
        .into_response()
}

async fn ask_status(reconciler: &ReconcilerHandle) -> Result<NodeStatus, Response> {
    match timeout(ANSWERS_WITHIN, reconciler.ask(Message::Status)).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(refusal)) => {
            Err((StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response())
        }
        Err(_) => Err(stuck()),
    }
}

async fn livez(State(reconciler): State<ReconcilerHandle>) -> Response {
    ask_status(&reconciler)
        .await
        .map_or_else(|stuck| stuck, |_| "ok\n".into_response())
}

async fn readyz(State(reconciler): State<ReconcilerHandle>) -> Response {
    match ask_status(&reconciler).await {
        Ok(status) if status.daemon.ready => "ok\n".into_response(),
        Ok(status) => {
            let text = format!("waiting for:\n{}\n", status.daemon.waiting_for.join("\n"));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(stuck) => stuck,
    }
}

async fn status(State(reconciler): State<ReconcilerHandle>) -> Response {
    ask_status(&reconciler)
        .await
        .map_or_else(|stuck| stuck, |status| Json(status).into_response())
}

async fn clear_health(
    State(reconciler): State<ReconcilerHandle>,
    UrlPath(uuid): UrlPath<String>,
) -> Response {
    let gpu: GpuUuid = match uuid.parse() {
        Ok(gpu) => gpu,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let cleared = reconciler.ask(|reply| Message::ClearHealth { gpu, reply });
    match timeout(ANSWERS_WITHIN, cleared).await {
        Ok(Ok(ended)) => format!("{ended} condition(s) ended\n").into_response(),
        Ok(Err(refusal)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response()
        }
        Err(_) => stuck(),
    }
}
