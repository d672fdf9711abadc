//! [`NvmlEvents`]: Xids, ECC errors and MIG changes, waited for on a thread of their own.

use std::time::Duration;

use gpushared_domain::ports::{DriverFault, GpuDriverError, GpuEvent, GpuEvents};

/// Events of all GPUs of the node.
#[derive(Debug)]
pub struct NvmlEvents {}

impl GpuEvents for NvmlEvents {
    fn wait(&mut self, _timeout: Duration) -> Result<Option<GpuEvent>, GpuDriverError> {
        Err(GpuDriverError::new("waiting", DriverFault::FunctionMissing))
    }
}
