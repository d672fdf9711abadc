//! The state file: its layout, how it is made, opened and mapped.
//!
//! ```text
//! offset 0   magic, layout number, size        checked before anything else is believed
//!            wake word                         futex of waiting event sets
//!            mutex                             robust, process-shared, error-checking
//!            Node                              plain data, see `gpushared_driver_sim::Plain`
//! ```
//! The file is made complete under another name and then renamed, so that nobody maps half of it.
//!
//! JUSTIFICATION of the unsafe code: std has no shared mapping, and the node must be one struct in place for every
//! process; copying it in and out for each call would cost a third of a megabyte.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::{io, ptr};

use gpushared_driver_sim::{Node, Plain};

use crate::error::StateError;
use crate::lock;

const MAGIC: u64 = 0x6770_7573_696D_2031;
/// Differs whenever the fields of `Node` do: libraries of another build than the file's maker refuse it.
const LAYOUT: u32 = fold(Node::SHAPE);

const fn fold(shape: u64) -> u32 {
    let bytes = shape.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The whole file.
#[repr(C)]
pub(crate) struct StateFile {
    magic: u64,
    size: u64,
    layout: u32,
    pub(crate) wake: AtomicU32,
    pub(crate) mutex: libc::pthread_mutex_t,
    node: Node,
}

const fn assert_plain<T: Plain>() {}
const _: () = assert_plain::<Node>();

const SIZE: usize = size_of::<StateFile>();
/// Bytes before the mutex: the checked head.
const HEAD: usize = offset_of!(StateFile, wake);

/// A mapped state file. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    file: NonNull<StateFile>,
    /// Device and inode of the file.
    identity: (u64, u64),
}

// SAFETY: the mapping is shared memory without thread affinity; all access to its contents goes through the wake word
// (atomic) or happens while the mutex is held (`SharedNode::with`).
unsafe impl Send for Mapping {}
// SAFETY: as for Send: `&Mapping` gives out only the atomic, the mutex pointer and, under the lock, the node.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes the file at `path` with this node; replaces a file that is there.
    pub(crate) fn create(path: &Path, node: &Node) -> Result<Self, StateError> {
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let made = Self::write_new(&temporary, node);
        let mapping = made.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        fs::rename(&temporary, path).map_err(io_error("renaming to", path))?;
        Ok(mapping)
    }

    fn write_new(path: &Path, node: &Node) -> Result<Self, StateError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(path).map_err(io_error("creating", path))?;
        // Everybody on the node may call NVML, so everybody may map the state.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        file.set_permissions(everybody)
            .map_err(io_error("opening up", path))?;
        file.set_len(SIZE as u64)
            .map_err(io_error("sizing", path))?;
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC.to_ne_bytes());
        head[8..16].copy_from_slice(&(SIZE as u64).to_ne_bytes());
        head[16..20].copy_from_slice(&LAYOUT.to_ne_bytes());
        file.write_all(&head).map_err(io_error("writing", path))?;
        let mapping = Self::map(&file, path)?;
        lock::initialise(mapping.mutex())?;
        let target = mapping.node();
        // SAFETY: `target` points to a Node inside the mapping, writable and aligned (`map`); nobody else has the
        // file yet; `node` is another Node, so the two do not overlap; Node is Copy.
        unsafe { ptr::copy_nonoverlapping(node, target, 1) };
        Ok(mapping)
    }

    /// Maps the file at `path` after checking its head.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error("opening", path))?;
        let mut head = [0; HEAD];
        let bad_magic = || StateError::BadMagic {
            path: path.to_owned(),
        };
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).map_err(|_| bad_magic())?;
        let word = |at: usize| {
            head[at..]
                .first_chunk()
                .copied()
                .map_or(0, u64::from_ne_bytes)
        };
        let layout = head[16..]
            .first_chunk()
            .copied()
            .map_or(0, u32::from_ne_bytes);
        if word(0) != MAGIC {
            return Err(bad_magic());
        }
        if layout != LAYOUT {
            let path = path.to_owned();
            return Err(StateError::BadLayout {
                path,
                found: layout,
                expected: LAYOUT,
            });
        }
        let expected = SIZE as u64;
        let length = file.metadata().map_err(io_error("measuring", path))?.len();
        for found in [word(8), length] {
            if found != expected {
                return Err(StateError::BadSize {
                    path: path.to_owned(),
                    found,
                    expected,
                });
            }
        }
        Self::map(&file, path)
    }

    fn map(file: &File, path: &Path) -> Result<Self, StateError> {
        let metadata = &file.metadata().map_err(io_error("measuring", path))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping chosen by the kernel touches no memory that Rust knows of; the descriptor is open
        // for reading and writing; the file has SIZE bytes (checked or just set by the caller).
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                SIZE,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io_error("mapping", path)(io::Error::last_os_error()));
        }
        let mapped = NonNull::new(address.cast::<StateFile>());
        let null = || io_error("mapping", path)(io::ErrorKind::OutOfMemory.into());
        let mapping = Self {
            file: mapped.ok_or_else(null)?,
            identity: identity(metadata),
        };
        Ok(mapping)
    }

    /// Whether the file at `path` is the mapped one. It is not when the node was made anew.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| identity(&found) == self.identity)
    }

    /// The futex word.
    pub(crate) fn wake(&self) -> &AtomicU32 {
        // SAFETY: the pointer is valid for SIZE bytes and page-aligned until drop; only a place is computed.
        let word = unsafe { &raw const (*self.file.as_ptr()).wake };
        // SAFETY: the word is aligned, lives as long as `self`, and is only ever accessed atomically.
        unsafe { &*word }
    }

    /// The mutex, for the functions of `lock`.
    pub(crate) fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // SAFETY: the pointer is valid for SIZE bytes until drop; only a place is computed, no reference is made.
        unsafe { &raw mut (*self.file.as_ptr()).mutex }
    }

    /// The node; to be dereferenced only while the lock is held.
    pub(crate) fn node(&self) -> *mut Node {
        // SAFETY: the pointer is valid for SIZE bytes until drop; only a place is computed, no reference is made.
        unsafe { &raw mut (*self.file.as_ptr()).node }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping made in `map`, which is unmapped only here; references
        // into it cannot outlive `self`.
        let _ignored = unsafe { libc::munmap(self.file.as_ptr().cast(), SIZE) };
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StateError + 'a {
    move |source| StateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
