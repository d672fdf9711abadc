//! The files that programs read beside NVML: `proc`, `sys` and `dev` under the node directory.
//!
//! [`sync`] compares what should be there with what is there, and runs under the node's lock after every change of the
//! layout, so a capability file exists exactly while its instance does. Only `proc/driver`, `proc/devices`,
//! `proc/modules`, `sys/bus/pci` and `dev/nvidia*` are touched; a file is replaced by a rename, never half written.
//! A process that dies in the middle leaves `tree_generation` behind, and whoever locks next goes on.

mod content;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gpushared_driver_sim::Node;

use crate::error::StateError;

/// Something that should be there.
#[derive(Clone, Debug)]
enum Entry {
    /// A file with this content.
    File(Vec<u8>),
    /// A file whose content never changes, made when it is missing.
    Fixed(fn() -> Vec<u8>),
    /// A character device, where this process may make one; an empty file otherwise.
    Device { major: u32, minor: u32, mode: u32 },
    /// A symbolic link.
    Link(&'static str),
    /// An empty directory.
    Directory,
}

type Tree = BTreeMap<PathBuf, Entry>;

/// Brings the tree under `dir` into step with `node`.
pub(crate) fn sync(dir: &Path, node: &mut Node) -> Result<(), StateError> {
    let wanted = content::tree(node);
    for owned in ["proc/driver", "sys/bus/pci"] {
        prune(dir, Path::new(owned), &wanted)?;
    }
    for entry in list(&dir.join("dev"))? {
        if entry.starts_with("nvidia") {
            prune(dir, &Path::new("dev").join(entry), &wanted)?;
        }
    }
    for (path, entry) in &wanted {
        ensure(dir, path, entry)?;
    }
    node.header.tree_generation = node.header.layout_generation;
    Ok(())
}

/// Removes what is at or below `path` and not wanted.
fn prune(dir: &Path, path: &Path, wanted: &Tree) -> Result<(), StateError> {
    let full = dir.join(path);
    let Ok(metadata) = fs::symlink_metadata(&full) else {
        return Ok(());
    };
    if !metadata.is_dir() {
        if !wanted.contains_key(path) {
            gone(fs::remove_file(&full)).map_err(failed("removing", &full))?;
        }
        return Ok(());
    }
    for name in list(&full)? {
        prune(dir, &path.join(name), wanted)?;
    }
    let needed = wanted
        .range(path.to_owned()..)
        .next()
        .is_some_and(|(p, _)| p.starts_with(path));
    if !needed {
        gone(fs::remove_dir(&full)).map_err(failed("removing", &full))?;
    }
    Ok(())
}

fn list(path: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("listing", path)(error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn ensure(dir: &Path, path: &Path, entry: &Entry) -> Result<(), StateError> {
    let full = dir.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent).map_err(failed("creating", parent))?;
    }
    match entry {
        Entry::File(content) => {
            if fs::read(&full).is_ok_and(|found| found == *content) {
                return Ok(());
            }
            write(dir, &full, content)
        }
        Entry::Fixed(_) if full.is_file() => Ok(()),
        Entry::Fixed(content) => write(dir, &full, &content()),
        Entry::Link(target) => {
            if fs::read_link(&full).is_ok_and(|found| found == Path::new(target)) {
                return Ok(());
            }
            gone(fs::remove_file(&full)).map_err(failed("removing", &full))?;
            std::os::unix::fs::symlink(target, &full).map_err(failed("linking", &full))
        }
        Entry::Directory => fs::create_dir_all(&full).map_err(failed("creating", &full)),
        Entry::Device { major, minor, mode } => device(&full, *major, *minor, *mode),
    }
}

fn write(dir: &Path, path: &Path, content: &[u8]) -> Result<(), StateError> {
    // Beside the tree, so that nobody lists it; the lock makes the name ours.
    let temporary = dir.join(".tree.new");
    fs::write(&temporary, content).map_err(failed("writing", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("writing", path))
}

fn device(path: &Path, major: u32, minor: u32, mode: u32) -> Result<(), StateError> {
    let number = libc::makedev(major, minor);
    if let Ok(found) = fs::symlink_metadata(path) {
        let same = found.file_type().is_char_device() && found.rdev() == number;
        if same || found.is_file() {
            return Ok(());
        }
        gone(fs::remove_file(path)).map_err(failed("removing", path))?;
    }
    let name = CString::new(path.as_os_str().as_bytes());
    let name = name.map_err(|error| failed("naming", path)(error.into()))?;
    // JUSTIFICATION: std makes no device nodes.
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let made = unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | mode, number) };
    if made != 0 {
        // Not root, or a sandbox: the file's presence must do.
        fs::write(path, b"").map_err(failed("creating", path))?;
    }
    // mknod honours the umask; the driver's nodes do not.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("opening up", path))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StateError + 'a {
    move |source| StateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
