//! From a valid configuration to a clean stop: lock, driver, tasks, signals, drain.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpushared_host::node_lock::NodeLock;
use gpushared_host::notify::{Notifier, NotifyError};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppError, Running};
use crate::config::Config;
use crate::exit::Exit;
use crate::hardware::Hardware;
use crate::telemetry::{Chain, LevelHandle};

const LOCK_FILE: &str = "gpushared.lock";
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// RPCs and the reconciler: two threads keep one busy with a file from holding up the other.
const WORKERS: usize = 2;

/// Reads and checks a configuration file. The default file may be missing.
///
/// # Errors
/// Every mistake as a line `file:line:column: key: what is wrong`.
pub fn load_config(path: &Path, default: &Path) -> Result<Config, Vec<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path == default => String::new(),
        Err(error) => return Err(vec![format!("{}: {error}", path.display())]),
    };
    Config::parse(&text).map_err(|mistakes| {
        mistakes
            .iter()
            .map(|mistake| format!("{}:{mistake}", path.display()))
            .collect()
    })
}

/// Runs the daemon until SIGTERM or SIGINT. Blocks.
///
/// # Errors
/// One line for the operator and the exit code.
pub fn run(config: Config, config_path: &Path, level: &LevelHandle) -> Result<(), AppError> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %config_path.display(), "Starting");
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("gpushared")
        .enable_all()
        .build()
        .map_err(|error| system("starting the runtime", &error))?;
    let grace = config.shutdown_grace;
    let result = runtime.block_on(start_and_serve(config, config_path, level));
    // threads inside a hung driver call cannot be ended; the process ends without them
    runtime.shutdown_timeout(grace);
    result
}

/// The signals that end the daemon, from its first moment on.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn recv(&mut self) {
        let signal = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "Stopping");
    }
}

fn install(kind: SignalKind) -> Result<Signal, AppError> {
    signal(kind).map_err(|error| system("installing a signal handler", &error))
}

/// Runs something that blocks on a thread of its own, so that a signal can end the wait for it.
async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, AppError> + Send + 'static,
) -> Result<T, AppError> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        // whoever was told to stop does not wait for the result
        .spawn(move || drop(done.send(work())))
        .map_err(|error| system("starting a thread", &error))?;
    result.await.unwrap_or_else(|_| {
        Err(AppError {
            message: format!("the thread {name} ended by itself"),
            exit: Exit::Internal,
        })
    })
}

/// Lock, driver, tasks; a signal ends each of the waits.
async fn start_and_serve(
    config: Config,
    config_path: &Path,
    level: &LevelHandle,
) -> Result<(), AppError> {
    let mut stop = StopSignals {
        terminate: install(SignalKind::terminate())?,
        interrupt: install(SignalKind::interrupt())?,
    };
    let hangup = install(SignalKind::hangup())?;
    let notifier = notifier().map_err(|error| system("preparing to tell systemd", &error))?;
    let notifier = Arc::new(notifier);
    let (path, telling) = (config.run_dir.join(LOCK_FILE), Arc::clone(&notifier));
    let _lock = tokio::select! {
        () = stop.recv() => return Ok(()),
        lock = blocking("node-lock", move || lock_node(&path, &telling)) => lock?,
    };
    let opening = config.clone();
    let hardware = tokio::select! {
        () = stop.recv() => return Ok(()),
        hardware = blocking("driver-start", move || Hardware::open(&opening)) => hardware?,
    };
    serve(
        config,
        config_path,
        hardware,
        level,
        &notifier,
        stop,
        hangup,
    )
    .await
}

fn system(doing: &str, error: &dyn std::error::Error) -> AppError {
    AppError {
        message: format!("{doing}: {}", Chain(error)),
        exit: Exit::System,
    }
}

fn notifier() -> Result<Notifier, NotifyError> {
    let socket = std::env::var_os("NOTIFY_SOCKET");
    Notifier::new(socket.as_deref()).or_else(|error| {
        tracing::warn!(error = %Chain(&error), "systemd cannot be told of the start");
        Notifier::new(None)
    })
}

/// One daemon per node: a second instance waits here until the first has ended, whatever way.
fn lock_node(path: &Path, notifier: &Notifier) -> Result<NodeLock, AppError> {
    NodeLock::acquire(path, Duration::MAX, LOCK_PAUSE, |holder| {
        let holder = holder.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        tracing::warn!(
            holder_pid = holder,
            "Another gpushared runs on this node; waiting for its end"
        );
        tell(notifier.status("waiting for another gpushared on this node to end"));
    })
    .map_err(|error| system("locking the node", &error))
}

fn tell(sent: Result<(), NotifyError>) {
    if let Err(error) = sent {
        tracing::debug!(error = %Chain(&error), "systemd was not told");
    }
}

async fn serve(
    config: Config,
    config_path: &Path,
    hardware: Hardware,
    level: &LevelHandle,
    notifier: &Notifier,
    mut stop: StopSignals,
    mut hangup: Signal,
) -> Result<(), AppError> {
    let grace = config.shutdown_grace;
    let mut current = config.clone();
    let app = App::build(config, hardware).await?;
    tracing::info!(socket = %current.admin_socket.display(), "Admin socket");
    if let Some(address) = app.http_address() {
        tracing::info!(%address, "HTTP");
    }
    let shutdown = CancellationToken::new();
    let mut running = app.spawn(&shutdown);
    tell(notifier.ready());
    tell(notifier.status("running"));
    loop {
        tokio::select! {
            () = stop.recv() => break,
            _ = hangup.recv() => {
                tell(notifier.reloading());
                reload(&mut current, config_path, level, &running).await;
                tell(notifier.ready());
            }
            ended = running.next_end() => {
                let (task, result) = ended.unwrap_or(("every task", Ok(())));
                result?;
                return Err(AppError { message: format!("the task {task} ended by itself"), exit: Exit::Internal });
            }
        }
    }
    tell(notifier.stopping());
    shutdown.cancel();
    drain(&mut running, grace).await
}

/// Waits for all tasks, no longer than the grace period. MIG layout and running pods are left alone.
async fn drain(running: &mut Running, grace: Duration) -> Result<(), AppError> {
    let all = async {
        while let Some((_, result)) = running.next_end().await {
            result?;
        }
        Ok(())
    };
    match tokio::time::timeout(grace, all).await {
        Ok(result) => {
            tracing::info!("Stopped");
            result
        }
        Err(_) => {
            tracing::warn!(
                ?grace,
                "Stopped before all calls were answered: the grace period is over"
            );
            Ok(())
        }
    }
}

/// A configuration that is wrong changes nothing; one that is right changes what may change while running.
async fn reload(current: &mut Config, path: &Path, level: &LevelHandle, running: &Running) {
    // no default here: a file that vanished must not turn every setting back, exclusions among them
    let wanted = match load_config(path, Path::new("")) {
        Ok(wanted) => wanted,
        Err(mistakes) => {
            for mistake in mistakes {
                tracing::error!(mistake, "Configuration not reloaded");
            }
            return;
        }
    };
    let mut next = current.clone();
    next.offers = gpushared_domain::offer::OfferPolicy {
        excluded: wanted.offers.excluded.clone(),
        ..current.offers.clone()
    };
    next.health.quiet_period = wanted.health.quiet_period;
    next.health.xids = wanted.health.xids.clone();
    next.leases.grace = wanted.leases.grace;
    next.log_level = wanted.log_level;
    if next != wanted {
        tracing::warn!(
            "Some changes take effect after a restart: only log.level, resources.exclude, \
             health.quietPeriod, health.xids and leases.grace are taken while running"
        );
    }
    level.set(next.log_level);
    running.reload(next.clone()).await;
    *current = next;
}
