//! Needs: root, simulator, gpushared, nvidia-device-plugin
//!
//! How long a daemon takes from exec until its resources are registered, how long an Allocate takes, and what it
//! costs in memory and CPU: gpushared beside nvidia-device-plugin.
//!
//! One simulated node with 8 H100, each cut into 7 MIG devices of 1g.10gb, serves both, with the same kubelet
//! stand-in. The two take turns, and who goes first alternates. `registered` is the answer to the Register call of
//! the last resource, `listed` the first device list that has all 56 devices.
//! An Allocate asks for one device and is timed over the Unix socket, one call after the other: all 56 devices are
//! taken, their pods end, and again.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gpushared_benches::daemon::{Daemon, Memory};
use gpushared_benches::figure::{Beside, Better, Figure, Samples, Target, note};
use gpushared_benches::kubelet::{Event, Kubelet, timed_allocate};
use gpushared_benches::node::{DEVICE_PLUGINS, SimNode, program};
use gpushared_proto::deviceplugin::HEALTHY;
use tokio::time::sleep;

const GPUS: usize = 8;
const PROFILE: &str = "1g.10gb";
const PER_GPU: usize = 7;
const RESOURCE: &str = "nvidia.com/mig-1g.10gb";
/// Starts of each daemon that count; one more goes before them to fill the page cache.
const STARTS: usize = 21;
/// Times that each daemon is started to be measured while it runs.
const ROUNDS: usize = 3;
/// Times per round that every device is allocated once.
const FILLS: usize = 13;
/// From one fill to the next: gpushared has seen by then that the pods are gone.
const PODS_GONE: Duration = Duration::from_millis(1500);
const START_LIMIT: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(8);

fn main() -> Result<()> {
    let node = SimNode::make(&format!("h100-80gb:{GPUS}"))?;
    for gpu in 0..GPUS {
        let gpu = gpu.to_string();
        node.sim(&["mig", "enable"], &["--gpu", &gpu])?;
        let count = PER_GPU.to_string();
        let layout = ["--gpu", &gpu, "--profile", PROFILE, "--count", &count];
        node.sim(&["mig", "create"], &layout)?;
    }
    node.mount()?;
    let mut contenders: Vec<Contender> = Vec::new();
    for (kind, variable) in [
        (Kind::Ours, "BENCH_GPUSHARED"),
        (Kind::Peer, "BENCH_NVIDIA_DEVICE_PLUGIN"),
    ] {
        contenders.extend(program(variable).map(|program| Contender::new(kind, program)));
    }
    ensure!(!contenders.is_empty(), "neither daemon is there");
    note(&format!("load average at the start: {}", load_average()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&node, &mut contenders))?;
    note(&format!("load average at the end: {}", load_average()));
    print(&contenders)
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Peer,
}

/// A daemon and what was measured of it.
#[derive(Debug)]
struct Contender {
    kind: Kind,
    program: PathBuf,
    registered: Samples,
    listed: Samples,
    allocates: Samples,
    resident: Samples,
    anonymous: Samples,
    resident_after: Samples,
    anonymous_after: Samples,
    idle: Samples,
}

impl Contender {
    fn new(kind: Kind, program: PathBuf) -> Self {
        let none = Samples::default;
        Self {
            kind,
            program,
            registered: none(),
            listed: none(),
            allocates: none(),
            resident: none(),
            anonymous: none(),
            resident_after: none(),
            anonymous_after: none(),
            idle: none(),
        }
    }

    /// How it is started, with fresh files of its own below `dir` and `volatile`.
    fn command(&self, node: &SimNode, dir: &Path, volatile: &Path) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LD_LIBRARY_PATH", node.libraries());
        match self.kind {
            Kind::Ours => {
                let config = dir.join("config.yaml");
                std::fs::write(&config, config_text(node, dir, volatile))
                    .context("writing the configuration")?;
                command.arg("run").arg("--config").arg(config);
            }
            Kind::Peer => {
                command.args(["--mig-strategy=mixed", "--device-list-strategy=envvar"]);
                // A relative path: grpc-go makes the path the `:authority` of the call, and this kubelet's HTTP/2
                // refuses one with slashes.
                command
                    .current_dir(DEVICE_PLUGINS)
                    .arg("--kubelet-socket=kubelet.sock");
            }
        }
        Ok(command)
    }
}

/// gpushared's settings: the defaults, with directories of its own, and with leases that end sooner, so that the bench
/// ends sooner. What lies under `/run` on a node lies in memory here too, the state on a disk.
fn config_text(node: &SimNode, dir: &Path, volatile: &Path) -> String {
    format!(
        "version: v1
driver:
  library: {libraries}/libnvidia-ml.so.1
  root: {node}
  sysroot: {node}
containers:
  deviceListStrategy: cdi
  cdiDir: {volatile}/cdi
leases:
  pollInterval: 200ms
  grace: 1s
paths:
  state: {dir}/state
  run: {volatile}/run
admin:
  http: \"off\"
",
        libraries = node.libraries().display(),
        node = node.dir().display(),
        dir = dir.display(),
        volatile = volatile.display(),
    )
}

/// A daemon whose devices are all listed.
struct Started {
    daemon: Daemon,
    kubelet: Kubelet,
    ids: Vec<String>,
    /// Removed last: the daemon writes here.
    _dirs: [tempfile::TempDir; 2],
}

/// From exec to each milestone.
struct Times {
    registered: Duration,
    listed: Duration,
}

async fn start(contender: &Contender, node: &SimNode) -> Result<(Started, Times)> {
    let dir = tempfile::Builder::new()
        .prefix("daemon.")
        .tempdir_in(node.dir())?;
    let volatile = tempfile::Builder::new()
        .prefix("gpushared-bench.")
        .tempdir_in("/dev/shm")?;
    let mut command = contender.command(node, dir.path(), volatile.path())?;
    let mut kubelet = Kubelet::start(Path::new(DEVICE_PLUGINS))?;
    let mut daemon = Daemon::start(&mut command, &dir.path().join("log"))?;
    let exec = daemon.started();
    let deadline = exec + START_LIMIT;
    let (mut registered, mut listed) = (None, None);
    let mut ids = BTreeSet::new();
    while registered.is_none() || listed.is_none() {
        let Some(event) = kubelet.next(deadline).await else {
            daemon.check_alive()?;
            bail!(
                "not registered after {START_LIMIT:?}:\n{}",
                daemon.log_tail()
            );
        };
        match event {
            Event::Registered { answered, .. } => registered = Some(answered - exec),
            Event::Devices {
                resource,
                devices,
                at,
            } if resource == RESOURCE => {
                let healthy = devices
                    .into_iter()
                    .filter(|device| device.health == HEALTHY);
                ids = healthy.map(|device| device.id).collect();
                if ids.len() == GPUS * PER_GPU {
                    listed = Some(at - exec);
                }
            }
            Event::Devices { .. } => {}
            Event::Refused { resource, why } => bail!("{resource} was refused: {why}"),
            Event::Ended { resource } => bail!("the list of {resource} ended"),
        }
    }
    let times = Times {
        registered: registered.context("not registered")?,
        listed: listed.context("not listed")?,
    };
    let ids = ids.into_iter().collect();
    Ok((
        Started {
            daemon,
            kubelet,
            ids,
            _dirs: [dir, volatile],
        },
        times,
    ))
}

async fn measure(node: &SimNode, contenders: &mut [Contender]) -> Result<()> {
    for run in 0..=STARTS {
        for contender in contenders.iter_mut() {
            let (started, times) = start(contender, node).await?;
            started.daemon.stop().await?;
            if run > 0 {
                contender
                    .registered
                    .add(times.registered.as_secs_f64() * 1e3);
                contender.listed.add(times.listed.as_secs_f64() * 1e3);
            }
        }
        contenders.reverse();
    }
    for _ in 0..ROUNDS {
        for contender in contenders.iter_mut() {
            let (started, _) = start(contender, node).await?;
            run(contender, started).await?;
        }
        contenders.reverse();
    }
    Ok(())
}

/// One daemon while it runs: at rest, then busy.
async fn run(contender: &mut Contender, mut started: Started) -> Result<()> {
    sleep(SETTLE).await;
    let Memory {
        resident,
        anonymous,
    } = started.daemon.memory()?;
    contender.resident.add(megabytes(resident));
    contender.anonymous.add(megabytes(anonymous));
    let (before, since) = (started.daemon.cpu_time()?, Instant::now());
    sleep(IDLE).await;
    let used = started.daemon.cpu_time()?.saturating_sub(before);
    contender
        .idle
        .add(used.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0);
    let mut client = started.kubelet.client(RESOURCE).context("no client")?;
    for _ in 0..FILLS {
        for id in &started.ids {
            let (answer, took) = timed_allocate(&mut client, id).await.context("Allocate")?;
            let containers = answer.container_responses.len();
            ensure!(containers == 1, "an answer for {containers} containers");
            contender.allocates.add(took.as_secs_f64() * 1e3);
        }
        sleep(PODS_GONE).await;
    }
    let Memory {
        resident,
        anonymous,
    } = started.daemon.memory()?;
    contender.resident_after.add(megabytes(resident));
    contender.anonymous_after.add(megabytes(anonymous));
    started.daemon.check_alive()?;
    started.daemon.stop().await
}

fn print(contenders: &[Contender]) -> Result<()> {
    let of = |kind| {
        contenders
            .iter()
            .find(move |contender| contender.kind == kind)
    };
    let (ours, peer) = (of(Kind::Ours), of(Kind::Peer));
    if let Some(any) = contenders.first() {
        note(&format!(
            "{} starts, {} Allocates each",
            any.registered.count(),
            any.allocates.count()
        ));
    }
    for Row(name, samples, share, unit, target) in ROWS {
        let value = |contender: Option<&Contender>| samples(contender?).quantile(*share);
        let figure = Figure {
            bench: format!("startup.{name}"),
            ours: value(ours),
            beside: value(peer).map(Beside::Peer),
            unit,
            target: *target,
            better: Better::Lower,
        };
        figure.print()?;
    }
    Ok(())
}

/// Name, samples, quantile, unit, target.
struct Row(
    &'static str,
    fn(&Contender) -> &Samples,
    f64,
    &'static str,
    Option<Target>,
);

const ROWS: &[Row] = &[
    Row(
        "registered.p50",
        |it| &it.registered,
        0.5,
        "ms",
        Some(Target::TimesBetter(3.0)),
    ),
    Row("registered.max", |it| &it.registered, 1.0, "ms", None),
    Row("listed.p50", |it| &it.listed, 0.5, "ms", None),
    Row("listed.max", |it| &it.listed, 1.0, "ms", None),
    Row("allocate.p50", |it| &it.allocates, 0.5, "ms", None),
    Row(
        "allocate.p99",
        |it| &it.allocates,
        0.99,
        "ms",
        Some(Target::AtMost(1.0)),
    ),
    Row(
        "rss.start",
        |it| &it.resident,
        1.0,
        "MB",
        Some(Target::AtMost(12.0)),
    ),
    Row(
        "rss.after_allocates",
        |it| &it.resident_after,
        1.0,
        "MB",
        Some(Target::AtMost(12.0)),
    ),
    Row("rss_anon.start", |it| &it.anonymous, 1.0, "MB", None),
    Row(
        "rss_anon.after_allocates",
        |it| &it.anonymous_after,
        1.0,
        "MB",
        None,
    ),
    Row("idle_cpu", |it| &it.idle, 0.5, "% of a core", None),
];

fn megabytes(bytes: u64) -> f64 {
    // Exact: a process has fewer than 2^32 KiB.
    u32::try_from(bytes / 1024).map_or(f64::INFINITY, f64::from) * 1024.0 / 1e6
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(
        |_| "unknown".into(),
        |text| {
            text.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        },
    )
}
