//! From the library's answers to the domain's: the only place that gives an NVML code a meaning.

use gpushared_domain::health::Probe;
use gpushared_domain::ports::{DriverFault, GpuDriverError};

use crate::raw::{Refusal, code};

/// What a refusal means.
pub(crate) fn fault(refusal: &Refusal) -> DriverFault {
    let Refusal::Code(number) = refusal else {
        return match refusal {
            Refusal::NoFunction(_) => DriverFault::FunctionMissing,
            Refusal::Malformed(_) | Refusal::Code(_) => DriverFault::Other(code::UNKNOWN),
        };
    };
    match *number {
        code::INVALID_ARGUMENT => DriverFault::InvalidArgument,
        code::NOT_SUPPORTED => DriverFault::NotSupported,
        code::NO_PERMISSION => DriverFault::NoPermission,
        code::NOT_FOUND | code::GPU_NOT_FOUND => DriverFault::NotFound,
        code::DRIVER_NOT_LOADED => DriverFault::DriverNotLoaded,
        code::TIMEOUT => DriverFault::Timeout,
        code::LIBRARY_NOT_FOUND => DriverFault::LibraryMissing,
        code::FUNCTION_NOT_FOUND => DriverFault::FunctionMissing,
        code::GPU_IS_LOST => DriverFault::GpuLost,
        code::RESET_REQUIRED => DriverFault::ResetRequired,
        code::LIB_RM_VERSION_MISMATCH => DriverFault::VersionMismatch,
        code::IN_USE => DriverFault::InUse,
        code::INSUFFICIENT_RESOURCES => DriverFault::InsufficientResources,
        other => DriverFault::Other(other),
    }
}

/// An error for what was being done. A missing function's name, and what was malformed, have no place in the fault and
/// go with what was being done.
pub(crate) fn error(doing: impl Into<String>, refusal: &Refusal) -> GpuDriverError {
    let doing = doing.into();
    let doing = match refusal {
        Refusal::NoFunction(name) => format!(
            "{doing} with {name} (gpushared needs driver R450 or later, R470 or later for MIG)"
        ),
        Refusal::Malformed(what) => format!("{doing} ({what})"),
        Refusal::Code(_) => doing,
    };
    GpuDriverError::new(doing, fault(refusal))
}

/// What a refused look at a GPU says about it.
pub(crate) fn probe(refusal: &Refusal) -> Probe {
    match fault(refusal) {
        DriverFault::GpuLost | DriverFault::NotFound => Probe::Lost,
        DriverFault::ResetRequired => Probe::ResetRequired,
        other => Probe::Failed(other.to_string()),
    }
}

/// Is the driver as a whole in trouble, so that asking about the next GPU is of no use?
pub(crate) fn is_of_driver(refusal: &Refusal) -> bool {
    refusal.is(&[
        code::UNINITIALIZED,
        code::DRIVER_NOT_LOADED,
        code::LIB_RM_VERSION_MISMATCH,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpushared_domain::ports::ErrorClass;

    #[test]
    fn every_code_of_the_header_has_a_meaning() {
        for (number, expected) in [
            (2, DriverFault::InvalidArgument),
            (3, DriverFault::NotSupported),
            (4, DriverFault::NoPermission),
            (6, DriverFault::NotFound),
            (9, DriverFault::DriverNotLoaded),
            (10, DriverFault::Timeout),
            (12, DriverFault::LibraryMissing),
            (13, DriverFault::FunctionMissing),
            (15, DriverFault::GpuLost),
            (16, DriverFault::ResetRequired),
            (18, DriverFault::VersionMismatch),
            (19, DriverFault::InUse),
            (23, DriverFault::InsufficientResources),
            (28, DriverFault::NotFound),
            (29, DriverFault::Other(29)),
            (999, DriverFault::Other(999)),
        ] {
            assert_eq!(fault(&Refusal::Code(number)), expected, "{number}");
        }
    }

    #[test]
    fn a_missing_function_is_told_with_its_name_and_the_driver_that_has_it() {
        let refusal = Refusal::NoFunction("nvmlDeviceGetMigMode".to_owned());
        let error = error("opening the library", &refusal);
        assert_eq!(error.fault, DriverFault::FunctionMissing);
        assert!(error.doing.contains("nvmlDeviceGetMigMode"), "{error}");
        assert!(error.doing.contains("R450"), "{error}");
    }

    #[test]
    fn a_lost_gpu_and_one_that_wants_a_reset_are_told_apart() {
        assert_eq!(probe(&Refusal::Code(15)), Probe::Lost);
        assert_eq!(probe(&Refusal::Code(28)), Probe::Lost);
        assert_eq!(probe(&Refusal::Code(16)), Probe::ResetRequired);
        assert!(matches!(probe(&Refusal::Code(999)), Probe::Failed(_)));
        let lost = error("probing", &Refusal::Code(15));
        assert_eq!(lost.class(), ErrorClass::GpuTrouble);
    }
}
