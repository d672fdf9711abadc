//! A node directory with the built library installed in it, and the library loaded from there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpushared_driver_sim::{Node, NodeSpec, OwnedNode};
use gpushared_driver_sim_state::SharedNode;
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlDevice_t};

/// Calls a function of the loaded library.
///
/// The arguments must be what the function's C contract asks for: pointers to live values of the right type.
macro_rules! nvml {
    ($lib:expr, $name:ident($($arg:expr),* $(,)?)) => {{
        // SAFETY: the bindings have the function's C signature; every test passes null or pointers to live
        // values, with counts that fit them.
        unsafe { $lib.$name($($arg),*) }
    }};
}
pub(crate) use nvml;

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const UNINITIALIZED: u32 = 1;
pub(crate) const INVALID_ARGUMENT: u32 = 2;
pub(crate) const NOT_SUPPORTED: u32 = 3;
pub(crate) const NO_PERMISSION: u32 = 4;
pub(crate) const NOT_FOUND: u32 = 6;
pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
pub(crate) const TIMEOUT: u32 = 10;
pub(crate) const GPU_IS_LOST: u32 = 15;
pub(crate) const IN_USE: u32 = 19;
pub(crate) const INSUFFICIENT_RESOURCES: u32 = 23;
pub(crate) const VERSION_MISMATCH: u32 = 25;

/// A simulated node in a directory of its own.
pub(crate) struct Sim {
    dir: tempfile::TempDir,
    pub(crate) node: SharedNode,
}

impl Sim {
    /// A node of these models with the library installed.
    pub(crate) fn new(models: &[&str]) -> Self {
        Self::with_spec(&NodeSpec::of(models, 7).expect("known models"))
    }

    pub(crate) fn with_spec(spec: &NodeSpec) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let node = OwnedNode::new(spec).expect("a node");
        let node = SharedNode::create(dir.path(), &node).expect("a node directory");
        let lib = dir.path().join("lib");
        std::fs::create_dir_all(&lib).expect("a directory for libraries");
        std::fs::copy(built_library(), lib.join("libnvidia-ml.so.1")).expect("the library copied");
        Self { dir, node }
    }

    /// The node directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The installed library.
    pub(crate) fn library_path(&self) -> PathBuf {
        self.dir.path().join("lib/libnvidia-ml.so.1")
    }

    /// The library, loaded from the node directory, not initialised.
    pub(crate) fn load(&self) -> NvmlLib {
        // SAFETY: the library has no initialisers with preconditions.
        unsafe { NvmlLib::new(self.library_path()) }.expect("the library loads")
    }

    /// The library, initialised.
    pub(crate) fn open(&self) -> NvmlLib {
        let lib = self.load();
        assert_eq!(nvml!(lib, nvmlInit_v2()), SUCCESS);
        lib
    }

    /// Changes the node from outside.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Node) -> T) -> T {
        self.node.with_unreaped(f).expect("the node's lock")
    }

    /// The node's clock is stepped from now on; moves it by `milliseconds`.
    pub(crate) fn step_clock(&self, milliseconds: u64) {
        self.with(|node| {
            node.header.clock_stepped = 1;
            node.header.clock_ns += milliseconds * 1_000_000;
        });
    }

    /// Waits until a call of `function` has begun.
    pub(crate) fn wait_for_call(&self, function: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.with(|node| node.calls.calls_of(function)) == 0 {
            assert!(Instant::now() < deadline, "nobody calls {function}");
            std::thread::yield_now();
        }
    }
}

/// The library that Cargo built for these tests: beside the test program.
pub(crate) fn built_library() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test program's path");
    path.pop();
    path.push("libnvidia_ml.so");
    assert!(path.is_file(), "{} is not built", path.display());
    path
}

/// Whether this process may change the node; says so when it may not.
pub(crate) fn may_change() -> bool {
    let anybody = std::env::var_os("GPUSIM_ANY_UID").is_some_and(|value| value == "1");
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !anybody && !root {
        println!("skipped: needs root or GPUSIM_ANY_UID=1");
    }
    anybody || root
}

/// The handle of the GPU with this index.
pub(crate) fn gpu(lib: &NvmlLib, index: u32) -> nvmlDevice_t {
    let mut device = std::ptr::null_mut();
    assert_eq!(
        nvml!(lib, nvmlDeviceGetHandleByIndex_v2(index, &raw mut device)),
        SUCCESS
    );
    device
}

/// What a call writes into a character buffer.
pub(crate) fn text(call: impl FnOnce(*mut std::ffi::c_char, u32) -> u32) -> String {
    let mut buffer = [0u8; 96];
    assert_eq!(call(buffer.as_mut_ptr().cast(), 96), SUCCESS);
    let text = std::ffi::CStr::from_bytes_until_nul(&buffer).expect("terminated");
    text.to_str().expect("text").to_owned()
}
