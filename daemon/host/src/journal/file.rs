//! The journal's file operations, each a point at which a test can let the process die.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Into the page cache.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(path, bytes).map(drop)
}

/// Onto the disk.
pub(super) fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = write_all(path, bytes)?;
    point()?;
    file.sync_all()
}

fn write_all(path: &Path, bytes: &[u8]) -> io::Result<File> {
    point()?;
    let mut file = File::create(path)?;
    // A crash in the middle leaves any part of it.
    #[cfg(test)]
    if let Err(error) = point() {
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)?;
    Ok(file)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    point()?;
    fs::rename(from, to)?;
    point()
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames to `<path>.corrupt-<now>`, with a number where that is taken.
pub(super) fn move_aside(path: &Path, now: u64) -> io::Result<PathBuf> {
    let mut attempt = 0_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{now}"));
        if attempt > 0 {
            name.push(format!("-{attempt}"));
        }
        let target = PathBuf::from(name);
        if target.try_exists()? {
            attempt += 1;
            continue;
        }
        rename(path, &target)?;
        return Ok(target);
    }
}

#[cfg(not(test))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "in tests a point can be where the process dies"
)]
fn point() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use crash::point;

/// Lets this thread's journal "die" at a chosen point.
#[cfg(test)]
pub(super) mod crash {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static POINTS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// After `points` more points every operation fails; `None` for never.
    pub(in crate::journal) fn after(points: Option<u32>) {
        POINTS_LEFT.set(points);
    }

    pub(in crate::journal) fn point() -> io::Result<()> {
        match POINTS_LEFT.get() {
            Some(0) => Err(io::Error::other("the process died here")),
            Some(left) => {
                POINTS_LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
