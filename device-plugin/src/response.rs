//! What the daemon grants, in the kubelet's words.

use std::path::PathBuf;

use gpushared_domain::edits::ContainerEdits;
use gpushared_proto::deviceplugin::v1beta1::{
    CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount,
};

use crate::allocator::{Refusal, RefusalKind};

/// The answer for one container.
///
/// # Errors
/// A path that is not UTF-8: the protocol has no way to say it, and a changed one would name another file.
pub(crate) fn container_response(
    edits: ContainerEdits,
) -> Result<ContainerAllocateResponse, Refusal> {
    let mut mounts = Vec::with_capacity(edits.mounts.len());
    for mount in edits.mounts {
        mounts.push(Mount {
            container_path: text(mount.container_path)?,
            host_path: text(mount.host_path)?,
            read_only: mount.read_only,
        });
    }
    let mut devices = Vec::with_capacity(edits.device_nodes.len());
    for node in edits.device_nodes {
        devices.push(DeviceSpec {
            container_path: text(node.container_path)?,
            host_path: text(node.host_path)?,
            permissions: node.permissions,
        });
    }
    Ok(ContainerAllocateResponse {
        envs: edits.env.into_iter().collect(),
        mounts,
        devices,
        annotations: edits.annotations.into_iter().collect(),
        cdi_devices: edits
            .cdi_devices
            .into_iter()
            .map(|name| CdiDevice { name })
            .collect(),
    })
}

fn text(path: PathBuf) -> Result<String, Refusal> {
    path.into_os_string().into_string().map_err(|path| {
        Refusal::new(
            RefusalKind::Internal,
            format!("gpushared was to pass on the path {path:?}, which is not UTF-8"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpushared_domain::edits::{BindMount, DeviceNode};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn every_edit_reaches_the_kubelet() {
        let edits = ContainerEdits {
            env: [("A".to_owned(), "1".to_owned())].into(),
            device_nodes: vec![DeviceNode {
                container_path: "/dev/nvidia0".into(),
                host_path: "/driver/dev/nvidia0".into(),
                permissions: "rw".to_owned(),
            }],
            mounts: vec![BindMount {
                container_path: "/pipe".into(),
                host_path: "/run/pipe".into(),
                read_only: true,
            }],
            cdi_devices: vec!["gpushared.io/slice=1".to_owned()],
            annotations: [("k".to_owned(), "v".to_owned())].into(),
        };
        let response = container_response(edits).expect("plain text");
        assert_eq!(response.envs["A"], "1");
        assert_eq!(response.devices[0].container_path, "/dev/nvidia0");
        assert_eq!(response.devices[0].host_path, "/driver/dev/nvidia0");
        assert_eq!(response.devices[0].permissions, "rw");
        assert_eq!(response.mounts[0].host_path, "/run/pipe");
        assert!(response.mounts[0].read_only);
        assert_eq!(response.cdi_devices[0].name, "gpushared.io/slice=1");
        assert_eq!(response.annotations["k"], "v");
    }

    #[test]
    fn a_path_that_cannot_be_said_is_refused_and_not_changed() {
        let edits = ContainerEdits {
            mounts: vec![BindMount {
                container_path: "/pipe".into(),
                host_path: PathBuf::from(OsString::from_vec(vec![b'/', 0xff])),
                read_only: true,
            }],
            ..ContainerEdits::default()
        };
        let refusal = container_response(edits).expect_err("not UTF-8");
        assert_eq!(refusal.kind, RefusalKind::Internal);
    }
}
