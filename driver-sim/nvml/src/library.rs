//! The library in this process: how often it was initialised and which node it talks to.
//!
//! ```text
//! closed ──nvmlInit──▶ open(1) ──nvmlInit──▶ open(2) ──nvmlShutdown──▶ open(1) ──nvmlShutdown──▶ closed
//! ```
//! The node is looked for at every step from closed to open, so that a process that initialises again follows a
//! replaced node. It is found through `GPUSIM_NODE`, or beside this library's own file. After a fork the child
//! has the same node and count; nothing here remembers a process id.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use gpushared_driver_sim::{Code, Function, Result};
use gpushared_driver_sim_state::SharedNode;
pub(crate) use gpushared_driver_sim_state::real_ns;

use crate::entry::unlocked;
use crate::local;

struct Open {
    users: u32,
    node: Arc<SharedNode>,
}

static LIBRARY: RwLock<Option<Open>> = RwLock::new(None);

/// The node, for a call.
///
/// # Errors
/// UNINITIALIZED before the first initialisation and after the last shutdown.
pub(crate) fn node() -> Result<Arc<SharedNode>> {
    let library = LIBRARY.read().unwrap_or_else(PoisonError::into_inner);
    library
        .as_ref()
        .map(|open| Arc::clone(&open.node))
        .ok_or(Code::UNINITIALIZED)
}

/// `nvmlInit` in all its forms. Its injected faults and its log line are those of `function`, also for a driver
/// that is not there.
///
/// # Errors
/// DRIVER_NOT_LOADED: no node, or its driver is unloaded; LIB_RM_VERSION_MISMATCH.
pub(crate) fn init(function: Function) -> Result<()> {
    let mut library = LIBRARY.write().unwrap_or_else(PoisonError::into_inner);
    let shared = match library.as_ref() {
        Some(open) => Arc::clone(&open.node),
        None => Arc::new(find_node()?),
    };
    // A delay sleeps with the library locked: no call of this process may overtake its initialisation. Only the
    // first initialisation asks the driver; later ones count.
    let first = library.is_none();
    unlocked(&shared, function, || {
        if !first {
            return Ok(());
        }
        shared
            .with_unreaped(|node| node.init())
            .map_err(unreachable_node)?
    })?;
    match library.as_mut() {
        Some(open) => open.users += 1,
        None => {
            *library = Some(Open {
                users: 1,
                node: shared,
            });
        }
    }
    Ok(())
}

/// `nvmlShutdown`: the last one closes the node, the event sets and the samples.
///
/// # Errors
/// UNINITIALIZED.
pub(crate) fn shutdown(function: Function) -> Result<()> {
    let shared = node()?;
    unlocked(&shared, function, || {
        let mut library = LIBRARY.write().unwrap_or_else(PoisonError::into_inner);
        let open = library.as_mut().ok_or(Code::UNINITIALIZED)?;
        open.users -= 1;
        if open.users == 0 {
            *library = None;
            local::forget_all();
        }
        Ok(())
    })
}

fn find_node() -> Result<SharedNode> {
    let dir = SharedNode::locate(own_path().as_deref()).ok_or(Code::DRIVER_NOT_LOADED)?;
    SharedNode::open(&dir).map_err(|_| Code::DRIVER_NOT_LOADED)
}

/// A node that cannot be locked is an operating system error; there is no better code.
pub(crate) fn unreachable_node(_error: gpushared_driver_sim_state::StateError) -> Code {
    Code::OPERATING_SYSTEM
}

/// The file that this library was loaded from, as the loader names it.
fn own_path() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: fn() -> Option<PathBuf> = own_path;
    // SAFETY: the address lies in this library, and `info` is valid for writes.
    let found = unsafe { libc::dladdr(inside as *const libc::c_void, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr succeeded, so the name is a string that lives as long as this library is loaded, which it
    // stays (`-z nodelete`).
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
