//! Which container runtime the node has, and whether it takes CDI devices from the kubelet.
//!
//! Asked once at start, of the runtime itself: containerd 2 always takes them and lists its directories, containerd
//! 1.7 does where its configuration says so, older ones never; CRI-O does since 1.23. A wrong guess would start pods
//! without a GPU and without a word, so what is not known for sure is [`CdiSupport::Unknown`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpushared_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use gpushared_proto::cri::v1::{StatusRequest, VersionRequest, VersionResponse};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Where runtimes listen when nobody said otherwise.
pub const USUAL_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
];

/// Does the runtime take CDI devices from the kubelet?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CdiSupport {
    /// Yes.
    Yes {
        /// e.g. `containerd v2.1.4`.
        runtime: String,
        /// Where it reads CDI files; empty where it does not say.
        spec_dirs: Vec<PathBuf>,
    },
    /// No.
    No {
        /// e.g. `containerd 1.6.20`.
        runtime: String,
        /// What would have to change.
        why: &'static str,
    },
    /// It could not be asked, or it is a stranger.
    Unknown {
        /// What was tried.
        why: String,
    },
}

/// containerd's view of its CRI configuration; the rest of it is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerdConfig {
    #[serde(rename = "enableCDI")]
    enable_cdi: Option<bool>,
    cdi_spec_dirs: Vec<PathBuf>,
}

/// Asks the first runtime that listens on one of `sockets`; the whole question has `deadline`.
pub async fn cdi_support(sockets: &[PathBuf], deadline: Duration) -> CdiSupport {
    let Some(socket) = sockets.iter().find(|socket| socket.exists()) else {
        let tried: Vec<String> = sockets
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return CdiSupport::Unknown {
            why: format!("no container runtime listens on {}", tried.join(", ")),
        };
    };
    match timeout(deadline, ask(socket)).await {
        Ok(Ok((version, info))) => judge(&version, &info),
        Ok(Err(status)) => CdiSupport::Unknown {
            why: format!("{} answered: {}", socket.display(), status.message()),
        },
        Err(_) => CdiSupport::Unknown {
            why: format!("{} did not answer within {deadline:?}", socket.display()),
        },
    }
}

async fn ask(socket: &Path) -> Result<(VersionResponse, HashMap<String, String>), tonic::Status> {
    let path = socket.to_owned();
    // The URI is not used to connect; its host becomes the calls' authority.
    let channel: Channel = Endpoint::from_static("http://localhost")
        .connect_with_connector_lazy(service_fn(move |_: Uri| connect(path.clone())));
    let mut client = RuntimeServiceClient::new(channel);
    let version = client
        .version(VersionRequest::default())
        .await?
        .into_inner();
    let status = client
        .status(StatusRequest { verbose: true })
        .await?
        .into_inner();
    Ok((version, status.info))
}

async fn connect(socket: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}

/// Major and minor of `v2.1.4`, `1.7.27~ds1`, `2.0.0-rc.1`.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '~', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn judge(version: &VersionResponse, info: &HashMap<String, String>) -> CdiSupport {
    let runtime = format!("{} {}", version.runtime_name, version.runtime_version);
    let Some(number) = major_minor(&version.runtime_version) else {
        return CdiSupport::Unknown {
            why: format!("{runtime} has no version that can be read"),
        };
    };
    match version.runtime_name.as_str() {
        "containerd" => {
            let config: ContainerdConfig = info
                .get("config")
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            let spec_dirs = config.cdi_spec_dirs;
            match (number, config.enable_cdi) {
                ((0..=1, 0..=6), _) => CdiSupport::No {
                    runtime,
                    why: "it has no CDI; containerd 1.7 or newer does",
                },
                (_, Some(false)) | ((1, _), None) => CdiSupport::No {
                    runtime,
                    why: "CDI is off in it; enable_cdi = true in its CRI plugin turns it on",
                },
                _ => CdiSupport::Yes { runtime, spec_dirs },
            }
        }
        "cri-o" if number >= (1, 23) => CdiSupport::Yes {
            runtime,
            spec_dirs: Vec::new(),
        },
        "cri-o" => CdiSupport::No {
            runtime,
            why: "it has no CDI; CRI-O 1.23 or newer does",
        },
        _ => CdiSupport::Unknown {
            why: format!("{runtime} is not a runtime that is known here"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, version: &str, config: &str) -> CdiSupport {
        let version = VersionResponse {
            runtime_name: name.to_owned(),
            runtime_version: version.to_owned(),
            ..VersionResponse::default()
        };
        judge(
            &version,
            &HashMap::from([("config".to_owned(), config.to_owned())]),
        )
    }

    #[test]
    fn containerd_2_takes_cdi_and_says_where_it_reads() {
        let dirs = r#"{"cdiSpecDirs": ["/etc/cdi", "/var/run/cdi"], "unknown": 1}"#;
        let CdiSupport::Yes { runtime, spec_dirs } = judged("containerd", "v2.1.4", dirs) else {
            panic!("containerd 2 has CDI");
        };
        assert_eq!(runtime, "containerd v2.1.4");
        assert_eq!(
            spec_dirs,
            [PathBuf::from("/etc/cdi"), PathBuf::from("/var/run/cdi")]
        );
        assert!(matches!(
            judged("containerd", "2.0.0-rc.1", "not JSON"),
            CdiSupport::Yes { .. }
        ));
    }

    #[test]
    fn containerd_1_takes_cdi_only_where_it_is_turned_on() {
        let on = r#"{"enableCDI": true, "cdiSpecDirs": []}"#;
        assert!(matches!(
            judged("containerd", "1.7.27~ds1", on),
            CdiSupport::Yes { .. }
        ));
        for (version, config) in [
            ("1.7.27", r#"{"enableCDI": false}"#),
            ("1.7.2", "{}"),
            ("1.6.20~ds1", on),
        ] {
            assert!(
                matches!(judged("containerd", version, config), CdiSupport::No { .. }),
                "{version}"
            );
        }
        assert!(matches!(
            judged("containerd", "2.2.0", r#"{"enableCDI": false}"#),
            CdiSupport::No { .. }
        ));
    }

    #[test]
    fn cri_o_takes_cdi_since_1_23_and_strangers_are_unknown() {
        assert!(matches!(
            judged("cri-o", "1.31.0", ""),
            CdiSupport::Yes { .. }
        ));
        assert!(matches!(
            judged("cri-o", "1.22.5", ""),
            CdiSupport::No { .. }
        ));
        assert!(matches!(
            judged("docker", "29.0.0", ""),
            CdiSupport::Unknown { .. }
        ));
        assert!(matches!(
            judged("containerd", "unknown", ""),
            CdiSupport::Unknown { .. }
        ));
    }

    #[tokio::test]
    async fn a_runtime_that_is_absent_or_silent_is_unknown() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let socket = folder.path().join("cri.sock");
        let absent = cdi_support(std::slice::from_ref(&socket), Duration::from_secs(1)).await;
        assert!(matches!(absent, CdiSupport::Unknown { why } if why.contains("cri.sock")));
        let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let silent = cdi_support(&[socket], Duration::from_millis(50)).await;
        assert!(matches!(silent, CdiSupport::Unknown { why } if why.contains("did not answer")));
    }
}
