//! A component of the cluster as a process: started, stopped, killed and started again.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::wait::{Look, until};

/// One program with its arguments and its log file. The log is appended to, so that it tells of
/// every start.
#[derive(Debug)]
pub(crate) struct Component {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Component {
    /// Describes a component; [`start`](Self::start) runs it.
    pub(crate) fn new(name: &str, program: &Path, log_dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            log: log_dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Adds arguments.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the program; says nothing about its being ready.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap_or_else(|e| panic!("cannot open {}: {e}", self.log.display()));
        let errors = log.try_clone().expect("a second handle on the log");
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(std::process::Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.program.display()));
        self.child = Some(child);
    }

    /// SIGKILL: no handler runs, no stream is closed in an orderly way.
    pub(crate) fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().expect("a killed child can be waited for");
        }
    }

    /// SIGTERM, and SIGKILL if the component is still there after a while.
    ///
    /// Returns the status, or `None` if it did not run.
    pub(crate) fn stop(&mut self) -> Option<ExitStatus> {
        let pid = self.child.as_ref()?.id();
        signal(pid, "TERM");
        let mut child = self.child.take()?;
        for _ in 0..200 {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(child.kill());
        Some(child.wait().expect("a killed child can be waited for"))
    }

    /// The process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for `ready`, and gives up early if the program ends.
    #[track_caller]
    pub(crate) fn until_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let name = self.name.clone();
        until(format!("{name} to be ready"), limit, || {
            self.check_alive();
            if ready() {
                Look::Found(())
            } else {
                Look::NotYet("not ready".to_owned())
            }
        });
    }

    /// # Panics
    /// If the program has ended by itself.
    #[track_caller]
    pub(crate) fn check_alive(&mut self) {
        let Some(child) = self.child.as_mut() else {
            panic!("{} was not started", self.name);
        };
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            panic!(
                "{} ended by itself (code {:?}, signal {:?}); its last lines:\n{}",
                self.name,
                status.code(),
                status.signal(),
                tail.join("\n")
            );
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// Sends a signal through kill(1): this crate forbids unsafe code and needs no more than that.
pub(crate) fn signal(pid: u32, name: &str) {
    drop(
        Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status(),
    );
}
