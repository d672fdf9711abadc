//! Device memory as accounting: what is allocated counts against the GPU or GPU instance, and NVML shows it.

use crate::context::current;
use crate::entry::entries;
use crate::pointer::Out;

entries! {
    /// Allocates; the address is a number that nothing lies behind.
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) |cx| {
        address.require()?;
        let ordinal = current(cx)?;
        cx.reap();
        let allocated = cx.here.allocate(cx.node, ordinal, bytes as u64)?;
        address.set(allocated)
    }

    /// Frees; address 0 is no allocation and no error.
    fn cuMemFree_v2(address: u64) |cx| {
        if address == 0 {
            return Ok(());
        }
        cx.here.free(cx.node, address)
    }

    /// Free and total memory of the current device.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) |cx| {
        free.require()?;
        total.require()?;
        let ordinal = current(cx)?;
        cx.reap();
        let memory = cx.here.memory(cx.node, ordinal)?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        free.set(size(memory.free))?;
        total.set(size(memory.total - memory.reserved))
    }
}
