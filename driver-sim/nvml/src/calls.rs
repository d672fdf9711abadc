//! The implemented functions, one file per family. A call is: decode handles, ask the model, write the answer.

mod clocks;
mod compute_instance;
mod device;
mod ecc;
mod event;
mod fabric;
mod field;
mod gpm;
mod gpu_instance;
mod identity;
mod library;
mod limits;
mod memory;
mod mig_device;
mod mig_mode;
mod modes;
mod pcie;
mod power;
mod process;
mod process_utilization;
mod stub;
mod system;
mod topology;
mod utilization;
