//! Opening: each way in which it fails can be told from the others.

use gpushared_domain::ports::{DriverFault, ErrorClass, GpuDriver as _};
use gpushared_nvml::{NvmlDriver, NvmlSettings};

use crate::node::Sim;

#[test]
fn the_simulator_says_that_it_is_one() {
    let sim = Sim::new(&["h100-80gb"]);
    let mut driver = sim.open();
    let info = driver.info().unwrap();
    assert!(info.simulated);
    assert_eq!(info.driver_version, "570.124.06");
    assert_eq!(info.cuda_version, 12080);
    assert!(info.nvml_version.starts_with("12."), "{info:?}");
    // Without the marker it would be taken for a driver.
    let plain = Sim::new(&["h100-80gb"]).without(&["gpusim_is_simulated"]);
    assert!(!plain.open().info().unwrap().simulated);
}

#[test]
fn a_missing_library_is_named_with_the_loaders_reason() {
    let settings = NvmlSettings {
        library: Some("/nowhere/libnvidia-ml.so.1".into()),
        ..NvmlSettings::default()
    };
    let error = NvmlDriver::open(&settings).unwrap_err();
    assert_eq!(error.fault, DriverFault::LibraryMissing);
    assert_eq!(error.class(), ErrorClass::DriverTrouble);
    assert!(
        error.doing.contains("/nowhere/libnvidia-ml.so.1"),
        "{error}"
    );
}

#[test]
fn a_driver_that_is_not_loaded_and_one_that_was_replaced_are_told_apart() {
    let sim = Sim::new(&["h100-80gb"]);
    sim.with(|node| node.unload_driver().unwrap());
    let error = sim.try_open().unwrap_err();
    assert_eq!(error.fault, DriverFault::DriverNotLoaded);
    sim.with(gpushared_driver_sim::Node::mismatch_driver);
    let error = sim.try_open().unwrap_err();
    assert_eq!(error.fault, DriverFault::VersionMismatch);
    sim.with(gpushared_driver_sim::Node::load_driver);
    drop(sim.open());
}

#[test]
fn a_library_without_a_needed_function_is_refused_with_its_name() {
    for function in ["nvmlInit_v2", "nvmlDeviceGetMigMode"] {
        let sim = Sim::new(&["h100-80gb"]).without(&[function]);
        let error = sim.try_open().unwrap_err();
        assert_eq!(error.fault, DriverFault::FunctionMissing);
        assert!(error.doing.contains(function), "{error}");
    }
}
