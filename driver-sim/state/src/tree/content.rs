//! What the tree should hold for a node: paths and contents, no file system.

use std::fmt::Write as _;
use std::path::PathBuf;

use gpushared_driver_sim::{DriverState, Gpu, GpuModel, GpuSlot, MigDevice, Node};

use super::{Entry, Tree};

/// Major of `/dev/nvidia*`, assigned to NVIDIA.
const FRONTEND_MAJOR: u32 = 195;
/// Majors that the kernel gives out as it likes; these are typical.
const UVM_MAJOR: u32 = 510;
const CAPS_MAJOR: u32 = 508;
/// NVIDIA's PCI vendor id.
const VENDOR: u16 = 0x10DE;
/// 3D controller.
const CLASS: u32 = 0x03_02_00;

/// `DeviceFileMode` of capability files, decimal as in the driver's files.
const MODE_OWNER: u32 = 0o400;
const MODE_ALL: u32 = 0o444;

/// The tree of `node`.
pub(super) fn tree(node: &Node) -> Tree {
    let mut tree = Tree::new();
    let loaded = node.driver_state() != DriverState::Unloaded;
    file(&mut tree, "proc/devices", devices(loaded));
    file(&mut tree, "proc/modules", modules(loaded));
    if loaded {
        driver(&mut tree, node);
    }
    let _existing = tree.insert("sys/bus/pci/drivers/nvidia".into(), Entry::Directory);
    for slot in node.present() {
        let Ok(gpu) = node.gpu_any(slot) else {
            continue;
        };
        let Ok(model) = gpu.model() else { continue };
        pci(&mut tree, gpu, model, loaded);
        device(
            &mut tree,
            format!("dev/nvidia{}", gpu.minor),
            FRONTEND_MAJOR,
            gpu.minor,
            0o666,
        );
        if loaded {
            let path = format!(
                "proc/driver/nvidia/gpus/{}/information",
                gpu.pci_sysfs_name()
            );
            file(&mut tree, path, information(node, gpu, model));
            capabilities(&mut tree, slot, gpu);
        }
    }
    tree
}

fn file(tree: &mut Tree, path: impl Into<PathBuf>, content: String) {
    let _existing = tree.insert(path.into(), Entry::File(content.into_bytes()));
}

fn device(tree: &mut Tree, path: impl Into<PathBuf>, major: u32, minor: u32, mode: u32) {
    let _existing = tree.insert(path.into(), Entry::Device { major, minor, mode });
}

/// What is there once, whatever the GPUs.
fn driver(tree: &mut Tree, node: &Node) {
    let version = node.header.driver_version;
    let text = format!(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (simulated)\n\
         GCC version:  gcc version 12.3.0\n"
    );
    file(tree, "proc/driver/nvidia/version", text);
    let params = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n";
    file(tree, "proc/driver/nvidia/params", params.to_owned());
    let minors = PathBuf::from("proc/driver/nvidia-caps/mig-minors");
    let _existing = tree.insert(minors, Entry::Fixed(mig_minors));
    capability(
        tree,
        "proc/driver/nvidia/capabilities/mig/config".into(),
        1,
        MODE_OWNER,
    );
    capability(
        tree,
        "proc/driver/nvidia/capabilities/mig/monitor".into(),
        2,
        MODE_ALL,
    );
    device(tree, "dev/nvidiactl", FRONTEND_MAJOR, 255, 0o666);
    device(tree, "dev/nvidia-modeset", FRONTEND_MAJOR, 254, 0o666);
    device(tree, "dev/nvidia-uvm", UVM_MAJOR, 0, 0o666);
    device(tree, "dev/nvidia-uvm-tools", UVM_MAJOR, 1, 0o666);
}

/// The access file of a capability and its device node.
fn capability(tree: &mut Tree, path: String, minor: u32, mode: u32) {
    let text = format!("DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n");
    file(tree, path, text);
    device(
        tree,
        format!("dev/nvidia-caps/nvidia-cap{minor}"),
        CAPS_MAJOR,
        minor,
        mode,
    );
}

fn capabilities(tree: &mut Tree, slot: GpuSlot, gpu: &Gpu) {
    let root = format!("proc/driver/nvidia/capabilities/gpu{}/mig", gpu.minor);
    let _existing = tree.insert(root.clone().into(), Entry::Directory);
    for gi in gpu.instances() {
        let path = format!("{root}/gi{}", gi.id);
        let Ok(minor) = gpu.gi_capability_minor(gi.id()) else {
            continue;
        };
        capability(tree, format!("{path}/access"), minor, MODE_ALL);
        for ci in gi.compute_instances() {
            let device = MigDevice {
                gpu: slot,
                gi: gi.id(),
                ci: ci.id(),
            };
            let Ok(ci_minor) = gpu.ci_capability_minor(device) else {
                continue;
            };
            capability(
                tree,
                format!("{path}/ci{}/access", ci.id),
                ci_minor,
                MODE_ALL,
            );
        }
    }
}

/// `/proc/driver/nvidia-caps/mig-minors`: every capability that could ever exist (`nv-caps.c`).
fn mig_minors() -> Vec<u8> {
    let mut text = String::from("config 1\nmonitor 2\n");
    for gpu in 0..32u32 {
        for gi in 0..15u32 {
            let access = 3 + 135 * gpu + 9 * gi;
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "gpu{gpu}/gi{gi}/access {access}");
            for ci in 0..8u32 {
                let minor = access + 1 + ci;
                let _infallible = writeln!(text, "gpu{gpu}/gi{gi}/ci{ci}/access {minor}");
            }
        }
    }
    text.into_bytes()
}

fn devices(loaded: bool) -> String {
    let mut text = String::from("Character devices:\n  1 mem\n  5 /dev/tty\n 10 misc\n");
    if loaded {
        let _infallible = write!(
            text,
            "{FRONTEND_MAJOR} nvidia-frontend\n{CAPS_MAJOR} nvidia-caps\n{UVM_MAJOR} nvidia-uvm\n"
        );
    }
    text.push_str("\nBlock devices:\n259 blkext\n");
    text
}

fn modules(loaded: bool) -> String {
    let mut text = String::new();
    if loaded {
        text.push_str("nvidia_uvm 4935680 0 - Live 0x0000000000000000 (OE)\n");
        text.push_str("nvidia_modeset 1720320 0 - Live 0x0000000000000000 (OE)\n");
        let module = "nvidia 11591680 2 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (OE)\n";
        text.push_str(module);
    }
    text.push_str("overlay 151552 0 - Live 0x0000000000000000\n");
    text
}

fn information(node: &Node, gpu: &Gpu, model: &GpuModel) -> String {
    format!(
        "Model: \t\t {}\nIRQ:   \t\t {}\nGPU UUID: \t {}\nVideo BIOS: \t {}\nBus Type: \t PCIe\n\
         DMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t {}\nDevice Minor: \t {}\n\
         GPU Firmware: \t {}\nGPU Excluded:\t No\n",
        model.name,
        gpu.minor.wrapping_add(64),
        gpu.uuid(),
        model.vbios,
        gpu.pci_sysfs_name(),
        gpu.minor,
        if model.gsp == 1 {
            node.header.driver_version.as_str()
        } else {
            "N/A"
        },
    )
}

fn pci(tree: &mut Tree, gpu: &Gpu, model: &GpuModel, bound: bool) {
    let root = format!("sys/bus/pci/devices/{}", gpu.pci_sysfs_name());
    let mut put = |name: &str, text: String| file(tree, format!("{root}/{name}"), text);
    put("vendor", format!("{VENDOR:#06x}\n"));
    put("device", format!("{:#06x}\n", model.device_id));
    put("class", format!("{CLASS:#08x}\n"));
    put("subsystem_vendor", format!("{VENDOR:#06x}\n"));
    put("subsystem_device", format!("{:#06x}\n", model.subsystem_id));
    put("numa_node", format!("{}\n", gpu.numa_node));
    put("resource", resources(gpu, model));
    let config = PathBuf::from(format!("{root}/config"));
    let _existing = tree.insert(config, Entry::File(config_space(model)));
    if bound {
        let driver = PathBuf::from(format!("{root}/driver"));
        let _existing = tree.insert(driver, Entry::Link("../../drivers/nvidia"));
    }
}

/// BAR0 registers, BAR1 memory, BAR3; thirteen lines as in sysfs.
fn resources(gpu: &Gpu, model: &GpuModel) -> String {
    // Sixteen GPUs at most; a damaged minor number must not overflow.
    let position = u64::from(gpu.minor & 0xF);
    let base = 0x2_0000_0000_0000u64 + (position << 40);
    let bar1 = (model.bar1_mib << 20) - 1;
    let registers = 0xB000_0000 + (position << 25);
    let mut lines = [(0, 0, 0); 13];
    lines[0] = (registers, registers + 0xFF_FFFF, 0x40200);
    lines[1] = (base, base + bar1, 0x14_220C);
    lines[3] = (base + (1 << 39), base + (1 << 39) + 0x1FF_FFFF, 0x14_220C);
    lines
        .iter()
        .fold(String::new(), |mut text, (start, end, flags)| {
            let _infallible = writeln!(text, "{start:#018x} {end:#018x} {flags:#018x}");
            text
        })
}

/// The first 256 bytes of PCI configuration space, as far as they say who the device is.
fn config_space(model: &GpuModel) -> Vec<u8> {
    let mut space = vec![0; 256];
    let low_half = |word: u32| u16::try_from(word & 0xFFFF).unwrap_or(0);
    let mut put = |at: usize, word: u16| space[at..at + 2].copy_from_slice(&word.to_le_bytes());
    put(0x00, VENDOR);
    put(0x02, low_half(model.device_id));
    // Memory space and bus mastering on; capabilities list present.
    put(0x04, 0x0406);
    put(0x06, 0x0010);
    put(0x0A, low_half(CLASS >> 8));
    put(0x2C, VENDOR);
    put(0x2E, low_half(model.subsystem_id));
    // Revision A1.
    space[0x08] = 0xA1;
    space
}
