//! Versions of the system, names of processes, things that a simulated node has none of.

use gpushared_driver_sim::Code;

use crate::abi::device::DriverBranchV1;
use crate::abi::version_of;
use crate::entry::entries;
use crate::pointer::{Out, text_array};

entries! {
    /// Version of the kernel driver.
    fn nvmlSystemGetDriverVersion(version: Out<u8>, length: u32) |cx| {
        version.text(length, cx.node.header.driver_version.as_str())
    }

    /// Version of this library.
    fn nvmlSystemGetNVMLVersion(version: Out<u8>, length: u32) |cx| {
        version.text(length, cx.node.header.nvml_version.as_str())
    }

    /// Newest CUDA version that the driver runs.
    fn nvmlSystemGetCudaDriverVersion(version: Out<u32>) |cx| {
        version.set(cx.node.header.cuda_version)
    }

    /// The same, asked of the libcuda that is installed.
    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<u32>) |cx| {
        version.set(cx.node.header.cuda_version)
    }

    /// Branch of the driver: `r570_00`.
    fn nvmlSystemGetDriverBranch(branch: Out<DriverBranchV1>, _length: u32) |cx| {
        let version = branch.cast::<u32>().get()?;
        if version != version_of::<DriverBranchV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        branch.set(DriverBranchV1 { version, branch: text_array(&format!("r{}_00", cx.driver().0)) })
    }

    /// Name of a process: that of its client, else what the kernel says.
    fn nvmlSystemGetProcessName(pid: u32, name: Out<u8>, length: u32) |cx| {
        name.require()?;
        if length == 0 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let client = cx.node.clients.iter().find(|client| client.pid == pid && pid != 0);
        let found = match client.filter(|client| !client.name.is_empty()) {
            Some(client) => client.name.as_str().to_owned(),
            None => std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .map_err(|_| Code::NOT_FOUND)?
                .trim_end()
                .to_owned(),
        };
        // Like the real one: a name that does not fit is cut.
        let room = (length as usize - 1).min(found.len());
        let mut end = room;
        while !found.is_char_boundary(end) {
            end -= 1;
        }
        name.text(length, &found[..end])
    }

    /// No S-class units.
    fn nvmlUnitGetCount(count: Out<u32>) |_| {
        count.set(0)
    }

    /// No excluded GPUs.
    fn nvmlGetExcludedDeviceCount(count: Out<u32>) |_| {
        count.set(0)
    }
}
