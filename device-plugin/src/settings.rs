//! Settings of the front end, and what they may not be.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::KUBELET_SOCKET;

use crate::error::PluginError;

/// A socket's path has 108 bytes in `sockaddr_un`, the last of them a NUL.
const LONGEST_SOCKET_PATH: usize = 107;
/// Resources of this domain have sockets without it in their names.
const USUAL_DOMAIN: &str = "nvidia.com";
/// Inside Register the kubelet dials back for so long; whoever hangs up earlier cancels the dial.
const KUBELET_DIALS_FOR: Duration = Duration::from_secs(10);
/// So long the kubelet waits for `PreStartContainer`.
const KUBELET_WAITS_FOR_PRE_START: Duration = Duration::from_secs(30);

/// Settings of the front end.
#[derive(Debug, Clone)]
pub struct PluginSettings {
    /// The kubelet's device-plugins directory, which holds `kubelet.sock`.
    pub kubelet_dir: PathBuf,
    /// Name of our sub-directory of it. The kubelet wipes the sockets beside its own when it starts, not those in
    /// sub-directories; endpoints are `<socket_dir_name>/<name>.sock`, and `<socket_dir_name>/<domain>_<name>.sock`
    /// for domains other than `nvidia.com`.
    pub socket_dir_name: String,
    /// Within this an Allocate is answered.
    pub allocate_deadline: Duration,
    /// Within this a `PreStartContainer` is answered; below the kubelet's 30 s.
    pub pre_start_deadline: Duration,
    /// Within this a `GetPreferredAllocation` is answered.
    pub prefer_deadline: Duration,
    /// List updates closer together than this are sent as one. The first of them is sent at once, and so is what an
    /// Allocate brought about.
    pub coalesce: Duration,
    /// Within this the kubelet must answer Register; above the 10 s for which it dials back.
    pub register_timeout: Duration,
    /// The kubelet calls `PreStartContainer` before every start of a container.
    pub pre_start_required: bool,
}

impl PluginSettings {
    /// Settings for a kubelet directory: `gpushared/`, 3 s for Allocate, 25 s for pre-start, 1 s for preferring,
    /// 50 ms between list updates, 12 s for Register, pre-start required.
    #[must_use]
    pub fn new(kubelet_dir: impl Into<PathBuf>) -> Self {
        Self {
            kubelet_dir: kubelet_dir.into(),
            socket_dir_name: "gpushared".to_owned(),
            allocate_deadline: Duration::from_secs(3),
            pre_start_deadline: Duration::from_secs(25),
            prefer_deadline: Duration::from_secs(1),
            coalesce: Duration::from_millis(50),
            register_timeout: Duration::from_secs(12),
            pre_start_required: true,
        }
    }

    /// Our directory.
    pub(crate) fn socket_dir(&self) -> PathBuf {
        self.kubelet_dir.join(&self.socket_dir_name)
    }

    /// The kubelet's socket.
    pub(crate) fn kubelet_socket(&self) -> PathBuf {
        self.kubelet_dir.join(KUBELET_SOCKET)
    }

    /// The endpoint of a resource as the kubelet is told.
    ///
    /// Names of different domains must not meet on one socket: one that was renamed in the configuration stays
    /// registered beside its successor.
    pub(crate) fn endpoint(&self, resource: &ResourceName) -> String {
        let name = match resource.as_str().split_once('/') {
            Some((domain, name)) if domain != USUAL_DOMAIN => format!("{domain}_{name}"),
            _ => resource.short().to_owned(),
        };
        format!("{}/{name}.sock", self.socket_dir_name)
    }

    /// The socket of a resource.
    ///
    /// # Errors
    /// When the path is longer than a socket's path may be: the kubelet would dial it in vain for 10 s.
    pub(crate) fn socket_path(&self, resource: &ResourceName) -> Result<PathBuf, PluginError> {
        let path = self.kubelet_dir.join(self.endpoint(resource));
        let bytes = path.as_os_str().len();
        if bytes > LONGEST_SOCKET_PATH {
            return Err(PluginError::SocketPathTooLong {
                resource: resource.clone(),
                path,
                bytes,
                limit: LONGEST_SOCKET_PATH,
            });
        }
        Ok(path)
    }

    /// Whether the settings can work at all.
    pub(crate) fn check(&self) -> Result<(), PluginError> {
        let refuse = |name, why| Err(PluginError::Setting { name, why });
        let mut parts = Path::new(&self.socket_dir_name).components();
        let one_name = matches!(parts.next(), Some(Component::Normal(name))
            if name == self.socket_dir_name.as_str())
            && parts.next().is_none();
        if !one_name {
            return refuse("socket_dir_name", "must be one plain directory name");
        }
        if !self.kubelet_dir.is_absolute() {
            return refuse("kubelet_dir", "must be an absolute path");
        }
        if self.register_timeout <= KUBELET_DIALS_FOR {
            return refuse("register_timeout", "must be more than the kubelet's 10 s");
        }
        if self.pre_start_deadline >= KUBELET_WAITS_FOR_PRE_START {
            return refuse("pre_start_deadline", "must be less than the kubelet's 30 s");
        }
        for (name, deadline) in [
            ("allocate_deadline", self.allocate_deadline),
            ("pre_start_deadline", self.pre_start_deadline),
            ("prefer_deadline", self.prefer_deadline),
        ] {
            if deadline.is_zero() {
                return refuse(name, "must be more than zero");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let good = PluginSettings::new("/var/lib/kubelet/device-plugins");
        good.check().expect("the defaults work");
        let mut cases: Vec<(&str, PluginSettings)> = Vec::new();
        for name in ["", ".", "..", "a/b", "/a", "a/"] {
            let mut bad = good.clone();
            name.clone_into(&mut bad.socket_dir_name);
            cases.push(("socket_dir_name", bad));
        }
        let mut bad = good.clone();
        bad.register_timeout = Duration::from_secs(10);
        cases.push(("register_timeout", bad));
        let mut bad = good.clone();
        bad.pre_start_deadline = Duration::from_secs(30);
        cases.push(("pre_start_deadline", bad));
        let mut bad = good.clone();
        bad.allocate_deadline = Duration::ZERO;
        cases.push(("allocate_deadline", bad));
        let mut bad = good;
        bad.kubelet_dir = PathBuf::from("relative");
        cases.push(("kubelet_dir", bad));
        for (expected, settings) in cases {
            match settings.check() {
                Err(PluginError::Setting { name, .. }) => assert_eq!(name, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_socket_path_has_at_most_107_bytes() {
        let resource: ResourceName = "nvidia.com/gpu".parse().expect("valid");
        let tail = "/gpushared/gpu.sock".len();
        let longest = format!("/{}", "d".repeat(LONGEST_SOCKET_PATH - tail - 1));
        let fits = PluginSettings::new(&longest);
        assert_eq!(
            fits.socket_path(&resource).expect("fits").as_os_str().len(),
            107
        );
        let one_more = PluginSettings::new(format!("{longest}d"));
        let error = one_more.socket_path(&resource).expect_err("too long");
        assert!(error.to_string().contains("108"), "{error}");
    }
}
