//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gpushared_driver_sim::{GpuModel, NodeSpec};

/// Makes, shows, breaks and heals a simulated GPU node.
#[derive(Debug, Parser)]
#[command(name = "gpusim", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a node directory: state, driver files, libraries.
    Init(Init),
    /// Shows GPUs, instances, clients and faults.
    Show {
        dir: PathBuf,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// MIG mode and instances.
    #[command(subcommand)]
    Mig(Mig),
    /// Resets a GPU.
    Reset(Target),
    /// Reboots the node.
    Reboot { dir: PathBuf },
    /// Raises an Xid.
    Xid {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        xid: u64,
        #[arg(long)]
        gi: Option<u32>,
        #[arg(long, requires = "gi")]
        ci: Option<u32>,
    },
    /// Adds memory errors.
    Ecc {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value = "0")]
        volatile_uncorrected: u64,
        #[arg(long, default_value = "0")]
        volatile_corrected: u64,
    },
    /// The GPU falls off the bus.
    Lose(Target),
    /// The GPU is pulled out.
    Unplug(Target),
    /// The GPU needs a reset before it can be used again.
    RequireReset(Target),
    /// Unloads, loads or replaces the driver.
    Driver(Driver),
    /// Makes a function fail or take its time.
    Fault(Fault),
    /// Undoes loss, unplugging, reset-required; without --gpu also faults and the driver's state.
    Heal {
        dir: PathBuf,
        #[arg(long)]
        gpu: Option<u32>,
    },
    /// Runs a program that counts as a client of a GPU for as long as it runs.
    Client(Client),
    /// Shows which driver functions were called.
    Calls {
        dir: PathBuf,
        /// Forget all calls.
        #[arg(long)]
        clear: bool,
        /// Show the last N calls one by one, too.
        #[arg(long, default_value = "0")]
        last: usize,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Installs the libraries again.
    Libs {
        dir: PathBuf,
        #[arg(long)]
        lib_dir: Option<PathBuf>,
    },
    /// Lists the GPU models that can be simulated.
    Models,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// A GPU of a node directory.
#[derive(Debug, Args)]
pub(crate) struct Target {
    pub(crate) dir: PathBuf,
    /// Slot of the GPU, as `gpusim show` numbers them.
    #[arg(long)]
    pub(crate) gpu: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    pub(crate) dir: PathBuf,
    /// Models and counts, in PCI order: h100-80gb:8,a30:2
    #[arg(long, value_parser = parse_gpus)]
    pub(crate) gpu: Gpus,
    #[arg(long, default_value = NodeSpec::DEFAULT_DRIVER)]
    pub(crate) driver: String,
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,
    /// Where the built libraries are; beside gpusim by default.
    #[arg(long)]
    pub(crate) lib_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mig {
    /// Switches MIG mode on.
    Enable(Target),
    /// Switches MIG mode off.
    Disable(Target),
    /// Creates GPU instances, each with the compute instance that takes all of it.
    Create {
        #[command(flatten)]
        target: Target,
        /// Name or id of the profile.
        #[arg(long)]
        profile: String,
        /// First memory slice; the driver's choice by default.
        #[arg(long)]
        start: Option<u32>,
        #[arg(long, default_value = "1")]
        count: u32,
    },
    /// Destroys GPU instances with their compute instances.
    Destroy {
        #[command(flatten)]
        target: Target,
        #[arg(long, required_unless_present = "all", conflicts_with = "all")]
        gi: Option<u32>,
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Driver {
    pub(crate) dir: PathBuf,
    /// rmmod
    #[arg(long, group = "driver_action", required_unless_present_any = ["mismatch", "load"])]
    pub(crate) unload: bool,
    /// The libraries were upgraded, the kernel module was not.
    #[arg(long, group = "driver_action")]
    pub(crate) mismatch: bool,
    /// modprobe
    #[arg(long, group = "driver_action")]
    pub(crate) load: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Fault {
    pub(crate) dir: PathBuf,
    /// Name of the function, * for all.
    #[arg(long)]
    pub(crate) function: String,
    /// NVML return code; 0 = only delay.
    #[arg(long, default_value = "0")]
    pub(crate) code: u32,
    /// How many calls; all by default.
    #[arg(long)]
    pub(crate) count: Option<u32>,
    /// Calls to let through first.
    #[arg(long, default_value = "0")]
    pub(crate) skip: u32,
    #[arg(long, default_value = "0")]
    pub(crate) delay_ms: u32,
    /// Only calls on this GPU.
    #[arg(long)]
    pub(crate) gpu: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Client {
    #[command(flatten)]
    pub(crate) target: Target,
    #[arg(long, requires = "ci")]
    pub(crate) gi: Option<u32>,
    #[arg(long, requires = "gi")]
    pub(crate) ci: Option<u32>,
    /// 2GiB, 512MiB or bytes
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    pub(crate) memory: u64,
    /// Percent of the device.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) busy: u32,
    #[arg(long, value_enum, default_value = "compute")]
    pub(crate) kind: Kind,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Compute,
    Graphics,
    Mps,
    /// Keeps the device open only, like a monitor.
    Holder,
}

/// Positions in [`GpuModel::all`], one per GPU.
#[derive(Clone, Debug)]
pub(crate) struct Gpus(pub(crate) Vec<u32>);

fn parse_gpus(text: &str) -> Result<Gpus, String> {
    let mut gpus = Vec::new();
    for part in text.split(',') {
        let (key, count) = part.split_once(':').unwrap_or((part, "1"));
        let model = GpuModel::find(key)
            .ok_or_else(|| format!("no GPU model '{key}' (gpusim models lists them)"))?;
        let count: usize = count
            .parse()
            .map_err(|_| format!("'{count}' is not a number"))?;
        if count > gpushared_driver_sim::MAX_GPUS {
            return Err(format!("at most {} GPUs", gpushared_driver_sim::MAX_GPUS));
        }
        gpus.extend(std::iter::repeat_n(model, count));
    }
    if gpus.len() > gpushared_driver_sim::MAX_GPUS {
        return Err(format!("at most {} GPUs", gpushared_driver_sim::MAX_GPUS));
    }
    Ok(Gpus(gpus))
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("'{unit}' is not B, KiB, MiB or GiB")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("'{digits}' is not a number"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bytes_have_binary_units_or_none() {
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("17"), Ok(17));
        parse_bytes("2GB").unwrap_err();
        parse_bytes("99999999999GiB").unwrap_err();
    }

    #[test]
    fn gpus_are_counted_and_refused_beyond_the_maximum() {
        assert_eq!(parse_gpus("h100-80gb:2,t4").map(|gpus| gpus.0.len()), Ok(3));
        parse_gpus("h100-80gb:17").unwrap_err();
        assert!(parse_gpus("a100").is_err_and(|text| text.contains("a100")));
    }
}
