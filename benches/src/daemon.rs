//! A daemon under measurement: its start, what it costs while it runs, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it, shared files included.
    pub resident: u64,
    /// What belongs to no file.
    pub anonymous: u64,
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    started: Instant,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with its output in the file `log`; the time is taken just before the new process is made.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self {
            child,
            started,
            log: log.to_owned(),
        })
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its memory now.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib: u64 = line?
                .strip_prefix(':')?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()?;
            Some(kib * 1024)
        };
        Ok(Memory {
            resident: field("VmRSS").with_context(|| format!("no VmRSS in {path}"))?,
            anonymous: field("RssAnon").with_context(|| format!("no RssAnon in {path}"))?,
        })
    }

    /// CPU time of all its threads so far.
    ///
    /// # Errors
    /// It is gone, or the kernel keeps no scheduler statistics.
    pub fn cpu_time(&self) -> Result<Duration> {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut all = Duration::ZERO;
        for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text
                .split_whitespace()
                .next()
                .context("an empty schedstat")?;
            all += Duration::from_nanos(on_cpu.parse()?);
        }
        Ok(all)
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// It has; with what it wrote last.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the daemon ended by itself ({status}):\n{}",
                self.log_tail()
            );
        }
        Ok(())
    }

    /// The end of what it wrote.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// It did not stop within ten seconds.
    pub async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, Signal::SIGTERM).context("asking the daemon to stop")?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > STOP_LIMIT {
                bail!("the daemon did not stop:\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have stopped already; there is nothing else to do about a process that cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
