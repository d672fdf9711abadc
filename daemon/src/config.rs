//! The daemon's configuration: one YAML file, every key optional, unknown keys refused.
//!
//! [`Config::parse`] is the only door: what comes out is valid, what is wrong comes out as a list of all mistakes
//! with line and column. Every root of the machine is a setting, so that a test runs a whole node in a directory.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use gpushared_domain::ids::GpuUuid;
use gpushared_domain::offer::OfferPolicy;
use gpushared_domain::resource::ResourceName;
use gpushared_domain::xid::XidTable;
use gpushared_host::container_runtime::USUAL_SOCKETS;

mod reader;

pub use reader::Mistake;
use reader::{Section, read_file};

/// Longest path of a Unix socket, in bytes (`sun_path` less the final zero).
pub const LONGEST_SOCKET_PATH: usize = 107;
/// As long a socket below the kubelet's directory as the profiles of today bring about.
const A_LONG_SOCKET: &str = "gpushared/mig-1g.10gb.me.sock";

/// How devices reach a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceListStrategy {
    /// CDI where the container runtime says that it has it, else device nodes.
    Auto,
    /// CDI devices in the kubelet's answer to the runtime (Kubernetes 1.28, containerd 1.7 or CRI-O).
    Cdi,
    /// CDI devices as container annotations, for kubelets before 1.28.
    CdiAnnotations,
    /// Device nodes and mounts in the answer itself: any runtime.
    DeviceNodes,
    /// `NVIDIA_VISIBLE_DEVICES`, for nodes whose runtime is nvidia-container-runtime.
    Env,
}

impl DeviceListStrategy {
    const NAMES: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("cdi", Self::Cdi),
        ("cdi-annotations", Self::CdiAnnotations),
        ("device-nodes", Self::DeviceNodes),
        ("env", Self::Env),
    ];

    /// Do containers find their devices through CDI files?
    #[must_use]
    pub fn is_cdi(self) -> bool {
        matches!(self, Self::Cdi | Self::CdiAnnotations)
    }
}

impl fmt::Display for DeviceListStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, strategy)| strategy == self);
        f.write_str(name.map_or("?", |(name, _)| name))
    }
}

impl FromStr for DeviceListStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, &Self::NAMES)
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub tracing::level_filters::LevelFilter);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use tracing::level_filters::LevelFilter as Level;
        let levels = [
            ("error", Self(Level::ERROR)),
            ("warn", Self(Level::WARN)),
            ("info", Self(Level::INFO)),
            ("debug", Self(Level::DEBUG)),
            ("trace", Self(Level::TRACE)),
        ];
        one_of(text, &levels)
    }
}

fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is not one of {}", known.join(", "))
        })
}

/// The NVIDIA driver and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverConfig {
    /// `libnvidia-ml.so.1`; by soname where absent.
    pub library: Option<PathBuf>,
    /// Root of the driver's files that containers get (libraries, programs).
    pub root: PathBuf,
    /// Root under which `/proc`, `/dev` and `/sys` of the driver are read.
    pub sysroot: PathBuf,
    /// How long to wait at start for a driver that is not there yet.
    pub wait_at_start: Duration,
    /// How often the layout is read again without an event.
    pub rescan_interval: Duration,
    /// How long a call may take before its GPU counts as hung.
    pub call_deadline: Duration,
}

/// The kubelet's places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletConfig {
    /// Directory of `kubelet.sock` and the plugin's sockets.
    pub device_plugins: PathBuf,
    /// Socket of the PodResources API.
    pub pod_resources: PathBuf,
}

/// Health rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// How often each GPU is looked at.
    pub probe_interval: Duration,
    /// How long nothing may happen before a suspect GPU is healthy again.
    pub quiet_period: Duration,
    /// Changes of the built-in Xid table.
    pub xids: XidTable,
}

/// When leases end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How often PodResources is asked while anything is leased.
    pub poll_interval: Duration,
    /// How long a fresh lease may be missing there.
    pub grace: Duration,
}

/// A configuration that is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The driver.
    pub driver: DriverConfig,
    /// The kubelet.
    pub kubelet: KubeletConfig,
    /// How devices reach containers.
    pub strategy: DeviceListStrategy,
    /// Where CDI specifications are written.
    pub cdi_dir: PathBuf,
    /// Sockets that container runtimes listen on, asked for CDI in this order.
    pub runtime_sockets: Vec<PathBuf>,
    /// Durable state.
    pub state_dir: PathBuf,
    /// Runtime state: node lock, admin socket.
    pub run_dir: PathBuf,
    /// What is offered under which name.
    pub offers: OfferPolicy,
    /// Health rules.
    pub health: HealthConfig,
    /// When leases end.
    pub leases: LeaseConfig,
    /// Own deadline for Allocate and GetPreferredAllocation, which the kubelet gives none.
    pub allocate_deadline: Duration,
    /// Socket that gpusharectl talks to.
    pub admin_socket: PathBuf,
    /// Address of `/livez`, `/readyz`; none where absent.
    pub http: Option<SocketAddr>,
    /// How long a stop may take.
    pub shutdown_grace: Duration,
    /// How much is logged.
    pub log_level: LogLevel,
    /// In which form.
    pub log_format: LogFormat,
}

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const fn s(value: u64) -> Duration {
    Duration::from_secs(value)
}

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// All mistakes, by line.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        read_file(text, Self::read)
    }

    fn read(root: &mut Section<'_>) -> Self {
        if let Some(version) = root.optional::<String>("version")
            && version != "v1"
        {
            root.mistake(
                "version",
                format!("{version:?} is not known; this daemon reads v1"),
            );
        }
        let driver = root.section("driver", read_driver);
        let kubelet = root.section("kubelet", read_kubelet);
        let (strategy, cdi_dir, runtime_sockets) = root.section("containers", |section| {
            let strategy = section.parsed("deviceListStrategy", DeviceListStrategy::Auto);
            let cdi_dir = absolute(section, "cdiDir", "/var/run/cdi");
            (strategy, cdi_dir, read_runtime_sockets(section))
        });
        let (state_dir, run_dir) = root.section("paths", |section| {
            let state = absolute(section, "state", "/var/lib/gpushared");
            (state, absolute(section, "run", "/run/gpushared"))
        });
        let (admin_socket, http) = root.section("admin", |section| {
            let default = run_dir.join("admin.sock");
            let socket = absolute(section, "socket", &default.to_string_lossy());
            check_socket(section, "socket", &socket);
            (socket, read_http(section))
        });
        let (log_level, log_format) = root.section("log", |section| {
            let info = LogLevel(tracing::level_filters::LevelFilter::INFO);
            (
                section.parsed("level", info),
                section.parsed("format", LogFormat::Text),
            )
        });
        Self {
            driver,
            kubelet,
            strategy,
            cdi_dir,
            runtime_sockets,
            state_dir,
            run_dir,
            offers: root.section("resources", read_offers),
            health: root.section("health", read_health),
            leases: root.section("leases", |section| LeaseConfig {
                poll_interval: section.duration("pollInterval", s(2), ms(100)..=s(300)),
                grace: section.duration("grace", s(10), s(1)..=s(3_600)),
            }),
            allocate_deadline: root.duration("allocateDeadline", s(3), ms(10)..=s(60)),
            admin_socket,
            http,
            shutdown_grace: root.duration("shutdownGrace", s(5), ms(100)..=s(120)),
            log_level,
            log_format,
        }
    }
}

fn read_driver(section: &mut Section<'_>) -> DriverConfig {
    let library = section.optional::<PathBuf>("library");
    if library.as_ref().is_some_and(|path| !path.is_absolute()) {
        section.mistake("library", "an absolute path is expected".to_owned());
    }
    DriverConfig {
        library,
        root: absolute(section, "root", "/"),
        sysroot: absolute(section, "sysroot", "/"),
        wait_at_start: section.duration("waitAtStart", s(0), s(0)..=s(86_400)),
        rescan_interval: section.duration("rescanInterval", s(10), ms(100)..=s(3_600)),
        call_deadline: section.duration("callDeadline", s(5), ms(100)..=s(300)),
    }
}

fn read_kubelet(section: &mut Section<'_>) -> KubeletConfig {
    let device_plugins = absolute(section, "devicePlugins", "/var/lib/kubelet/device-plugins");
    let pod_resources = absolute(
        section,
        "podResources",
        "/var/lib/kubelet/pod-resources/kubelet.sock",
    );
    check_socket(section, "podResources", &pod_resources);
    check_socket(
        section,
        "devicePlugins",
        &device_plugins.join(A_LONG_SOCKET),
    );
    KubeletConfig {
        device_plugins,
        pod_resources,
    }
}

fn read_health(section: &mut Section<'_>) -> HealthConfig {
    let xid = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text:?} is not the number of an Xid"))
    };
    HealthConfig {
        probe_interval: section.duration("probeInterval", s(5), ms(100)..=s(600)),
        quiet_period: section.duration("quietPeriod", s(60), s(0)..=s(86_400)),
        xids: section.section("xids", |section| XidTable {
            ignored: section.list("ignored", xid).into_iter().collect(),
            suspect: section.list("suspect", xid).into_iter().collect(),
            needs_reset: section.list("needsReset", xid).into_iter().collect(),
        }),
    }
}

fn read_offers(section: &mut Section<'_>) -> OfferPolicy {
    let gpu = section.section("gpu", |section| {
        let offered = section.boolean("offer", true);
        let name = section.optional::<ResourceName>("name");
        offered
            .then(|| name.or_else(|| "nvidia.com/gpu".parse().ok()))
            .flatten()
    });
    let mig_domain = section.section("mig", |section| {
        let offered = section.boolean("offer", true);
        let domain = section
            .optional::<String>("domain")
            .unwrap_or_else(|| "nvidia.com".to_owned());
        if let Err(error) = ResourceName::of_mig_profile(&domain, "1g.10gb") {
            section.mistake("domain", error.why.to_owned());
        }
        offered.then_some(domain)
    });
    if let (Some(gpu), Some(domain)) = (&gpu, &mig_domain)
        && gpu.as_str().starts_with(&format!("{domain}/mig-"))
    {
        let text = format!("{gpu} could be the name of MIG devices too, see mig.domain");
        section.mistake("gpu", text);
    }
    let excluded: BTreeSet<GpuUuid> = section
        .list("exclude", |text| {
            // NVML writes small letters, and an exclusion that matches nothing would go unnoticed
            let uuid = text.strip_prefix("GPU-").map_or_else(
                || text.to_owned(),
                |rest| format!("GPU-{}", rest.to_ascii_lowercase()),
            );
            uuid.parse::<GpuUuid>().map_err(|error| error.to_string())
        })
        .into_iter()
        .collect();
    OfferPolicy {
        gpu,
        mig_domain,
        excluded,
    }
}

fn read_runtime_sockets(section: &mut Section<'_>) -> Vec<PathBuf> {
    let sockets = section.list("runtimeSockets", |text| {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("{text} is not an absolute path"))
        }
    });
    if sockets.is_empty() {
        USUAL_SOCKETS.map(PathBuf::from).to_vec()
    } else {
        sockets
    }
}

fn read_http(section: &mut Section<'_>) -> Option<SocketAddr> {
    let text = section
        .optional::<String>("http")
        .unwrap_or_else(|| "0.0.0.0:9477".to_owned());
    if text == "off" {
        return None;
    }
    let address = text.parse();
    if address.is_err() {
        section.mistake(
            "http",
            format!("{text:?} is neither an address with a port, such as 0.0.0.0:9477, nor off"),
        );
    }
    address.ok()
}

fn absolute(section: &mut Section<'_>, key: &'static str, default: &str) -> PathBuf {
    let path = section.parsed(key, PathBuf::from(default));
    if !path.is_absolute() {
        section.mistake(key, format!("{} is not an absolute path", path.display()));
    }
    path
}

fn check_socket(section: &mut Section<'_>, key: &'static str, path: &std::path::Path) {
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        section.mistake(
            key,
            format!(
                "the socket path {} has {length} bytes, a Unix socket may have {LONGEST_SOCKET_PATH}",
                path.display()
            ),
        );
    }
}

#[cfg(test)]
mod tests;
