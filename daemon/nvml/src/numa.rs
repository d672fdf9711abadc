//! The NUMA node of a PCI device, from sysfs.

use std::fs;
use std::path::Path;

use gpushared_domain::ids::PciAddress;

/// The node, or `None` where the machine does not tell (no such file, or −1).
pub(crate) fn node_of(sysroot: &Path, pci: &PciAddress) -> Option<u32> {
    let file = sysroot
        .join("sys/bus/pci/devices")
        .join(pci.as_str())
        .join("numa_node");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_and_a_missing_file_are_no_node() {
        let root = tempfile::tempdir().unwrap();
        let pci = PciAddress::from_nvml("00000000:1B:00.0").unwrap();
        assert_eq!(node_of(root.path(), &pci), None);
        let folder = root.path().join("sys/bus/pci/devices/0000:1b:00.0");
        fs::create_dir_all(&folder).unwrap();
        for (text, node) in [("-1\n", None), ("1\n", Some(1)), ("", None)] {
            fs::write(folder.join("numa_node"), text).unwrap();
            assert_eq!(node_of(root.path(), &pci), node, "{text:?}");
        }
    }
}
