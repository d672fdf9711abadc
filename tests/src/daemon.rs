//! The real daemon as a process on a simulated node: configuration, start, signals, admin socket, log.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::artifacts::program;
use crate::node_dirs::NodeDirs;
use crate::sim_node::SimNode;
use crate::wait::{PATIENCE, wait_until};

/// A configuration with every root inside the node's directory, short periods, and CDI, which the
/// daemon cannot find out about here: no container runtime runs.
#[must_use]
pub fn daemon_config(node: &NodeDirs, gpus: &SimNode) -> String {
    format!(
        "version: v1
driver:
  library: {library}
  root: {driver}
  sysroot: {driver}
  rescanInterval: 200ms
kubelet:
  devicePlugins: {kubelet}/device-plugins
  podResources: {kubelet}/pod-resources/kubelet.sock
containers:
  deviceListStrategy: cdi
  cdiDir: {cdi}
paths:
  state: {state}
  run: {run}
admin:
  http: \"off\"
health:
  probeInterval: 200ms
  quietPeriod: 1s
leases:
  pollInterval: 100ms
  grace: 1s
log:
  level: debug
",
        library = gpus.library().display(),
        driver = gpus.dir().display(),
        kubelet = node.kubelet().display(),
        cdi = node.cdi().display(),
        state = node.lib().display(),
        run = node.run().display(),
    )
}

/// A daemon process. Dropped, it is killed; in a failing test its log is shown.
#[derive(Debug)]
pub struct DaemonUnderTest {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl DaemonUnderTest {
    /// Writes `config` and starts `gpushared run --config` with it. Does not wait for anything.
    ///
    /// # Panics
    /// When the program cannot be built or started.
    #[must_use]
    pub fn start(node: &NodeDirs, config: &str) -> Self {
        let file = node.etc().join("config.yaml");
        fs::write(&file, config).expect("the configuration can be written");
        let log = node.root().join("daemon.log");
        let mut options = File::options();
        let out = options
            .append(true)
            .create(true)
            .open(&log)
            .expect("the log can be opened");
        let err = out.try_clone().expect("a file can be shared");
        let child = Command::new(program("gpushared"))
            .args(["run", "--config"])
            .arg(&file)
            .env_remove("NOTIFY_SOCKET")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the daemon can be started");
        Self {
            child,
            log,
            socket: node.run().join("admin.sock"),
        }
    }

    /// Waits until `/readyz` says yes: every resource is registered and the driver answers.
    ///
    /// # Panics
    /// With the log, when the daemon ends or does not become ready in time.
    pub async fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            let answer = self.get("/readyz").await;
            if answer.as_ref().is_ok_and(|(status, _)| *status == 200) {
                return;
            }
            if let Some(status) = self.exit_status() {
                panic!(
                    "the daemon ended ({status}) before it was ready:\n{}",
                    self.log()
                );
            }
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "the daemon is not ready: {answer:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `GET path` on the admin socket: status and body.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let request = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            Ok((status.unwrap_or(0), body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(10), request).await?
    }

    /// The answer of `/status`.
    ///
    /// # Panics
    /// When there is none, or it is not JSON.
    pub async fn status(&self) -> serde_json::Value {
        let (status, body) = self.get("/status").await.expect("the admin socket answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("the status is JSON")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        drop(self.child.wait());
    }

    /// SIGTERM, and waits for the end.
    pub async fn term(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit().await
    }

    /// SIGHUP: read the configuration again.
    pub fn hup(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Stops the process (SIGSTOP) or lets it go on (SIGCONT): a daemon that is there and hangs.
    pub fn freeze(&self, frozen: Frozen) {
        self.signal(match frozen {
            Frozen::Yes => Signal::SIGSTOP,
            Frozen::No => Signal::SIGCONT,
        });
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the daemon ends", || {
            ended = self.exit_status();
            ended.is_some()
        })
        .await;
        ended.unwrap_or_else(|| ExitStatus::from_raw(0))
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Everything that daemons of this node have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where the log is.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        // A process that ended already gets no signal and needs none.
        kill(Pid::from_raw(pid), signal).ok();
    }
}

/// Argument of [`DaemonUnderTest::freeze`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// Stop.
    Yes,
    /// Go on.
    No,
}

impl Drop for DaemonUnderTest {
    #[expect(
        clippy::print_stderr,
        reason = "a failing test shows what the daemon said"
    )]
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the daemon's last lines ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
