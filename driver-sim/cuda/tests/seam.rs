//! The built C library as its clients see it: loaded from a node directory, called by exported name and through
//! `cuGetProcAddress`. What it does to the node is read from the node.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;

use gpushared_driver_sim::{ClientKind, GpuSlot, NO_INSTANCE, Node, NodeSpec, OwnedNode, Text};
use gpushared_driver_sim_state::{SharedNode, own_cgroup, pid_namespace};
use libloading::{Library, Symbol};

const SUCCESS: u32 = 0;
const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const NOT_INITIALIZED: u32 = 3;
const INVALID_DEVICE: u32 = 101;
const INVALID_CONTEXT: u32 = 201;
const NOT_FOUND: u32 = 500;
const UNKNOWN: u32 = 999;

/// Calls an exported function whose C signature is given.
macro_rules! cuda {
    ($lib:expr, $name:ident: fn($($ty:ty),*), ($($arg:expr),* $(,)?)) => {{
        type Function = unsafe extern "C" fn($($ty),*) -> u32;
        let name = concat!(stringify!($name), "\0").as_bytes();
        // SAFETY: the signature is the one of the driver.
        let function: Symbol<'_, Function> = unsafe { $lib.get(name) }.unwrap();
        // SAFETY: pointers are null or lead to live values of the right type.
        unsafe { function($($arg),*) }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sim {
        dir: tempfile::TempDir,
        node: SharedNode,
    }

    impl Sim {
        fn new(models: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let node = OwnedNode::new(&NodeSpec::of(models, 7).unwrap()).unwrap();
            let node = SharedNode::create(dir.path(), &node).unwrap();
            let lib = dir.path().join("lib");
            std::fs::create_dir_all(&lib).unwrap();
            std::fs::copy(built_library(), lib.join("libcuda.so.1")).unwrap();
            Self { dir, node }
        }

        fn load(&self) -> Library {
            // SAFETY: the library has no initialisers with preconditions.
            unsafe { Library::new(self.dir.path().join("lib/libcuda.so.1")) }.unwrap()
        }

        fn open(&self) -> Library {
            let lib = self.load();
            assert_eq!(cuda!(lib, cuInit: fn(u32), (0)), SUCCESS);
            lib
        }

        fn with<T>(&self, f: impl FnOnce(&mut Node) -> T) -> T {
            self.node.with_unreaped(f).unwrap()
        }
    }

    fn built_library() -> PathBuf {
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.push("libcuda.so");
        assert!(path.is_file(), "{} is not built", path.display());
        path
    }

    fn retain(lib: &Library, device: i32) -> usize {
        let mut context = 0usize;
        let answer = cuda!(
            lib,
            cuDevicePrimaryCtxRetain: fn(*mut usize, i32),
            (&raw mut context, device)
        );
        assert_eq!(answer, SUCCESS);
        assert_eq!(cuda!(lib, cuCtxSetCurrent: fn(usize), (context)), SUCCESS);
        context
    }

    #[test]
    fn nothing_but_versions_and_texts_works_before_init() {
        let sim = Sim::new(&["h100-80gb"]);
        let lib = sim.load();
        let mut number = 0;
        let answer = cuda!(lib, cuDeviceGetCount: fn(*mut i32), (&raw mut number));
        assert_eq!(answer, NOT_INITIALIZED);
        let answer = cuda!(lib, cuDriverGetVersion: fn(*mut i32), (&raw mut number));
        assert_eq!((answer, number), (SUCCESS, 12080));
        let mut text: *const c_char = std::ptr::null();
        let answer = cuda!(lib, cuGetErrorName: fn(u32, *mut *const c_char), (2, &raw mut text));
        assert_eq!(answer, SUCCESS);
        // SAFETY: the library answered SUCCESS, so this is one of its texts.
        let name = unsafe { CStr::from_ptr(text) };
        assert_eq!(name, c"CUDA_ERROR_OUT_OF_MEMORY");
    }

    #[test]
    fn a_context_makes_a_client_with_memory_and_its_end_removes_it() {
        let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
        let lib = sim.open();
        let mut address = 0u64;
        let answer = cuda!(lib, cuMemAlloc_v2: fn(*mut u64, usize), (&raw mut address, 1 << 30));
        assert_eq!(answer, INVALID_CONTEXT);
        retain(&lib, 1);
        let before = sim.with(|node| node.memory(GpuSlot::new(1)).unwrap().used);
        let answer = cuda!(lib, cuMemAlloc_v2: fn(*mut u64, usize), (&raw mut address, 1 << 30));
        assert_eq!(answer, SUCCESS);
        sim.with(|node| {
            let client = node.clients_on(GpuSlot::new(1)).next().unwrap();
            assert_eq!(
                (client.pid, client.kind()),
                (std::process::id(), Some(ClientKind::Compute))
            );
            assert_eq!(client.gi, NO_INSTANCE);
            assert_eq!(client.pid_namespace, pid_namespace());
            assert_eq!(client.cgroup.as_str(), own_cgroup().unwrap_or_default());
            assert_eq!(client.used_bytes, before + (1 << 30));
        });
        let (mut free, mut total) = (0usize, 0usize);
        let answer = cuda!(
            lib,
            cuMemGetInfo_v2: fn(*mut usize, *mut usize),
            (&raw mut free, &raw mut total)
        );
        assert_eq!(answer, SUCCESS);
        assert_eq!((total - free) as u64, before + (1 << 30));
        // A hard limit of the process's cgroup is what there is.
        sim.with(|node| {
            node.header.driver_version = Text::new("615.10");
            let own = own_cgroup().unwrap_or_else(|| "/".to_owned());
            node.clients[0].cgroup = Text::new(&own);
            node.set_memory_limits(GpuSlot::new(1), &own, 0, 2 << 30)
                .unwrap();
        });
        let answer = cuda!(
            lib,
            cuMemGetInfo_v2: fn(*mut usize, *mut usize),
            (&raw mut free, &raw mut total)
        );
        assert_eq!((answer, total), (SUCCESS, 2 << 30));
        assert_eq!(free as u64, (1 << 30) - before);
        let answer = cuda!(lib, cuMemAlloc_v2: fn(*mut u64, usize), (&raw mut address, 1 << 40));
        assert_eq!(answer, OUT_OF_MEMORY);
        assert_eq!(
            cuda!(lib, cuMemFree_v2: fn(u64), (address + 1)),
            INVALID_VALUE
        );
        assert_eq!(cuda!(lib, cuMemFree_v2: fn(u64), (address)), SUCCESS);
        assert_eq!(
            cuda!(lib, cuDevicePrimaryCtxRelease_v2: fn(i32), (1)),
            SUCCESS
        );
        assert_eq!(sim.with(|node| node.clients_on(GpuSlot::new(1)).count()), 0);
        assert_eq!(
            cuda!(lib, cuDevicePrimaryCtxRelease_v2: fn(i32), (1)),
            INVALID_CONTEXT
        );
        assert_eq!(
            cuda!(lib, cuDevicePrimaryCtxRelease_v2: fn(i32), (2)),
            INVALID_DEVICE
        );
    }

    #[test]
    fn a_mig_device_is_bounded_by_its_instance() {
        let sim = Sim::new(&["h100-80gb"]);
        let slot = GpuSlot::new(0);
        sim.with(|node| {
            node.set_mig_mode(slot, 1, 1).unwrap();
            let gi = node.create_gi(slot, 19, None, 1).unwrap();
            node.create_ci(slot, gi, 0, None, 1).unwrap();
        });
        let lib = sim.open();
        let mut name = [0u8; 96];
        let answer = cuda!(
            lib,
            cuDeviceGetName: fn(*mut u8, i32, i32),
            (name.as_mut_ptr(), 96, 0)
        );
        assert_eq!(answer, SUCCESS);
        let name = CStr::from_bytes_until_nul(&name).unwrap();
        assert_eq!(name, c"NVIDIA H100 80GB HBM3 MIG 1g.10gb");
        retain(&lib, 0);
        let mut address = 0u64;
        let answer = cuda!(lib, cuMemAlloc_v2: fn(*mut u64, usize), (&raw mut address, 10 << 30));
        assert_eq!(answer, OUT_OF_MEMORY);
        // The instance is held by its client.
        let device = sim.with(|node| node.mig_device_by_index(slot, 0)).unwrap();
        sim.with(|node| node.destroy_ci(device, 2)).unwrap_err();
        assert_eq!(
            cuda!(lib, cuDevicePrimaryCtxRelease_v2: fn(i32), (0)),
            SUCCESS
        );
        sim.with(|node| node.destroy_ci(device, 2)).unwrap();
    }

    #[test]
    fn a_lost_gpu_is_an_unknown_error_to_a_running_program() {
        let sim = Sim::new(&["h100-80gb"]);
        let lib = sim.open();
        retain(&lib, 0);
        sim.with(|node| node.lose_gpu(GpuSlot::new(0), 1)).unwrap();
        let mut address = 0u64;
        let answer = cuda!(lib, cuMemAlloc_v2: fn(*mut u64, usize), (&raw mut address, 512));
        assert_eq!(answer, UNKNOWN);
        assert_eq!(cuda!(lib, cuCtxSynchronize: fn(), ()), UNKNOWN);
    }

    #[test]
    fn functions_are_found_by_name_and_private_tables_are_refused() {
        type Lookup =
            unsafe extern "C" fn(*const c_char, *mut *const c_void, i32, u64, *mut i32) -> u32;
        let sim = Sim::new(&["h100-80gb"]);
        let lib = sim.open();
        // SAFETY: the signature is the one of the driver.
        let lookup: Symbol<'_, Lookup> = unsafe { lib.get(b"cuGetProcAddress_v2\0") }.unwrap();
        let find = |name: &CStr, version: i32| {
            let mut function = std::ptr::null();
            let mut result = -1;
            // SAFETY: a string and pointers to live values.
            let answer = unsafe {
                lookup(
                    name.as_ptr(),
                    &raw mut function,
                    version,
                    0,
                    &raw mut result,
                )
            };
            (answer, function, result)
        };
        // SAFETY: the address is only compared, never called.
        let exported: Symbol<'_, *const c_void> = unsafe { lib.get(b"cuMemAlloc_v2\0") }.unwrap();
        assert_eq!(find(c"cuMemAlloc", 3020), (SUCCESS, *exported, 0));
        assert_eq!(find(c"cuMemAlloc", 2000), (NOT_FOUND, std::ptr::null(), 2));
        assert_eq!(
            find(c"cuLaunchKernel", 4000),
            (NOT_FOUND, std::ptr::null(), 1)
        );
        // A version that the driver does not know, whatever the name.
        let newest = 12080;
        assert_eq!(find(c"cuMemAlloc", newest), (SUCCESS, *exported, 0));
        for name in [c"cuMemAlloc", c"cuLaunchKernel", c""] {
            assert_eq!(find(name, newest + 1).0, INVALID_VALUE);
        }
        sim.with(|node| node.header.cuda_version = 13000);
        assert_eq!(find(c"cuMemAlloc", 13000), (SUCCESS, *exported, 0));
        let mut table = std::ptr::dangling();
        let answer = cuda!(
            lib,
            cuGetExportTable: fn(*mut *const c_void, *const u8),
            (&raw mut table, [0u8; 16].as_ptr())
        );
        assert_eq!((answer, table), (NOT_FOUND, std::ptr::null()));
    }

    #[test]
    fn a_child_after_fork_is_not_initialised() {
        let sim = Sim::new(&["h100-80gb"]);
        let lib = sim.open();
        let mut count = 0;
        // SAFETY: the child calls functions of a library that no other thread uses, and _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let again = cuda!(lib, cuInit: fn(u32), (0));
            let answer = cuda!(lib, cuDeviceGetCount: fn(*mut i32), (&raw mut count));
            let answer = if again == answer {
                answer
            } else {
                UNKNOWN & 0xFF
            };
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(answer.cast_signed()) };
        }
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        assert_eq!(libc::WEXITSTATUS(status), NOT_INITIALIZED.cast_signed());
    }
}
