use std::os::unix::fs::symlink;

use super::*;

const VERSION: &str = "570.124.06";

struct Root(tempfile::TempDir);

impl Root {
    fn new(files: &[&str]) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for file in files {
            let path = root.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn find(&self) -> DriverFiles {
        DriverFiles::find(self.0.path(), VERSION).unwrap()
    }

    fn host(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

fn debian() -> String {
    format!("usr/lib/{ARCH}-linux-gnu")
}

/// The host file that a container path shows.
fn shown(files: &DriverFiles, container: &str) -> Option<PathBuf> {
    files
        .mounts
        .iter()
        .find(|mount| mount.container_path == Path::new(container))
        .map(|mount| mount.host_path.clone())
}

#[test]
fn a_library_is_seen_under_every_name_that_programs_use() {
    let folder = debian();
    let cuda = format!("{folder}/libcuda.so.{VERSION}");
    let glcore = format!("{folder}/libnvidia-glcore.so.{VERSION}");
    let root = Root::new(&[
        &cuda,
        &glcore,
        &format!("{folder}/libcuda.so.560.35.03"),
        &format!("{folder}/libc.so.6"),
    ]);
    symlink(
        format!("libcuda.so.{VERSION}"),
        root.host(&format!("{folder}/libcuda.so.1")),
    )
    .unwrap();
    let files = root.find();
    assert_eq!(files.libcuda, root.host(&cuda));
    for name in [
        &format!("libcuda.so.{VERSION}"),
        "libcuda.so.1",
        "libcuda.so",
    ] {
        let container = format!("/{folder}/{name}");
        assert_eq!(shown(&files, &container), Some(root.host(&cuda)), "{name}");
    }
    assert!(shown(&files, &format!("/{glcore}")).is_some());
    let text = format!("{:?}", files.mounts);
    assert!(
        !text.contains("560.35.03") && !text.contains("libc.so"),
        "{text}"
    );
    assert!(files.mounts.iter().all(|mount| mount.read_only));
    let link = LibraryLink {
        link: format!("/{folder}/libcuda.so.1").into(),
        target: format!("/{cuda}").into(),
    };
    assert!(files.links.contains(&link), "{:?}", files.links);
}

#[test]
fn an_image_of_the_other_family_finds_the_compute_libraries_too() {
    let host = Root::new(&[
        &format!("usr/lib64/libcuda.so.{VERSION}"),
        &format!("usr/lib64/libnvidia-glcore.so.{VERSION}"),
    ]);
    let files = host.find();
    let libcuda = Some(host.host(&format!("usr/lib64/libcuda.so.{VERSION}")));
    assert_eq!(shown(&files, "/usr/lib64/libcuda.so.1"), libcuda);
    assert_eq!(
        shown(&files, &format!("/{}/libcuda.so.1", debian())),
        libcuda
    );
    let graphics = format!("/{}/libnvidia-glcore.so.{VERSION}", debian());
    assert_eq!(shown(&files, &graphics), None);
}

#[test]
fn each_container_path_is_there_once_also_on_merged_hosts() {
    let root = Root::new(&[&format!("{}/libcuda.so.{VERSION}", debian())]);
    symlink("usr/lib", root.host("lib")).unwrap();
    let files = root.find();
    let mut paths: Vec<_> = files.mounts.iter().map(|m| &m.container_path).collect();
    let all = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), all);
    assert_eq!(
        shown(&files, &format!("/lib/{ARCH}-linux-gnu/libcuda.so.1")),
        None
    );
}

#[test]
fn tools_sockets_and_firmware_come_where_they_are() {
    let root = Root::new(&[
        &format!("{}/libcuda.so.{VERSION}", debian()),
        "usr/bin/nvidia-smi",
        "run/nvidia-persistenced/socket",
        &format!("lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"),
        "lib/firmware/nvidia/560.35.03/gsp_ga10x.bin",
    ]);
    let files = root.find();
    assert!(shown(&files, "/usr/bin/nvidia-smi").is_some());
    assert!(shown(&files, "/usr/bin/nvidia-cuda-mps-control").is_none());
    assert!(shown(&files, "/run/nvidia-persistenced/socket").is_some());
    let firmware = format!("/lib/firmware/nvidia/{VERSION}");
    assert_eq!(
        shown(&files, &firmware),
        Some(root.host(&format!("lib/firmware/nvidia/{VERSION}")))
    );
}

#[test]
fn a_driver_root_without_libcuda_is_an_error_that_says_what_to_look_at() {
    let root = Root::new(&["usr/lib64/libcuda.so.1"]);
    let error = DriverFiles::find(root.0.path(), VERSION).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(VERSION) && text.contains("driver root"),
        "{text}"
    );
}
