//! The simulated driver libraries under the node directory, under the names that programs look for.
//!
//! `lib/` is for `LD_LIBRARY_PATH`; `usr/lib/<machine>-linux-gnu/` holds the same files where NVIDIA's tools look
//! below a driver root. Files are replaced by rename: a process that has the old file mapped keeps it.

use std::env::consts::ARCH;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::StateError;

/// Built name, installed name, and whether the name without a version is installed, too (cudarc asks for it first).
const LIBRARIES: [(&str, &str, bool); 2] = [
    ("libnvidia_ml.so", "libnvidia-ml.so", false),
    ("libcuda.so", "libcuda.so", true),
];

/// Copies the libraries that Cargo built into `from` (or `from/deps`) into the node directory.
///
/// # Errors
/// [`StateError::Io`]: a library is not there, or a file cannot be written.
pub fn install_libraries(dir: &Path, from: &Path, driver: &str) -> Result<(), StateError> {
    let places = [
        PathBuf::from("lib"),
        PathBuf::from(format!("usr/lib/{ARCH}-linux-gnu")),
    ];
    for (built, installed, bare) in LIBRARIES {
        let source = find(from, built)?;
        for place in &places {
            let place = dir.join(place);
            fs::create_dir_all(&place).map_err(failed("creating", &place))?;
            let mut names = vec![format!("{installed}.{driver}"), format!("{installed}.1")];
            if bare {
                names.push(installed.to_owned());
            }
            for name in names {
                let target = place.join(&name);
                let temporary = place.join(format!(".{name}.new"));
                fs::copy(&source, &temporary).map_err(failed("copying to", &temporary))?;
                fs::rename(&temporary, &target).map_err(failed("writing", &target))?;
            }
        }
    }
    Ok(())
}

fn find(from: &Path, built: &str) -> Result<PathBuf, StateError> {
    let candidates = [from.join(built), from.join("deps").join(built)];
    let found = candidates
        .iter()
        .find(|candidate| candidate.is_file())
        .cloned();
    found.ok_or_else(|| failed("looking for", &candidates[0])(io::ErrorKind::NotFound.into()))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StateError + 'a {
    move |source| StateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_get_the_names_that_programs_look_for() {
        let built = tempfile::tempdir().unwrap();
        let node = tempfile::tempdir().unwrap();
        fs::create_dir(built.path().join("deps")).unwrap();
        fs::write(built.path().join("libnvidia_ml.so"), "nvml").unwrap();
        fs::write(built.path().join("deps/libcuda.so"), "cuda").unwrap();
        install_libraries(node.path(), built.path(), "570.124.06").unwrap();
        for name in ["libcuda.so", "libcuda.so.1", "libcuda.so.570.124.06"] {
            assert_eq!(
                fs::read_to_string(node.path().join("lib").join(name)).unwrap(),
                "cuda"
            );
        }
        let driver_root = node.path().join(format!("usr/lib/{ARCH}-linux-gnu"));
        for name in ["libnvidia-ml.so.1", "libnvidia-ml.so.570.124.06"] {
            assert_eq!(fs::read_to_string(driver_root.join(name)).unwrap(), "nvml");
        }
    }

    #[test]
    fn a_library_that_was_not_built_is_an_error_that_names_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = install_libraries(empty.path(), empty.path(), "1").unwrap_err();
        assert!(error.to_string().contains("libnvidia_ml.so"), "{error}");
    }
}
