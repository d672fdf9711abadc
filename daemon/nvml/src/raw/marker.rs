//! Does the library say that its GPUs are simulated?

use std::ffi::c_void;

use nvml_wrapper::Nvml;

/// A symbol that gpushared's simulator exports beside NVML's functions and no driver does. Its presence says it all.
const MARKER: &[u8] = b"gpusim_is_simulated\0";

/// Is the library that of the simulator?
pub(crate) fn is_simulated(nvml: &Nvml) -> bool {
    let library = &nvml.lib().__library;
    // SAFETY: the symbol is looked up and never called or followed, so its type does not matter.
    unsafe { library.get::<*const c_void>(MARKER) }.is_ok()
}
