//! The log: to standard error, as text for people or JSON for machines.

use std::error::Error;
use std::fmt;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

use crate::config::{LogFormat, LogLevel};

/// Changes the level of a running log.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<Targets, tracing_subscriber::Registry>);

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelHandle")
    }
}

impl LevelHandle {
    /// Logs at this level from here on.
    pub fn set(&self, level: LogLevel) {
        // the only error is a subscriber that is gone, and then nobody reads the log
        self.0.reload(targets(level)).ok();
    }
}

/// The level is that of our crates; libraries only warn, since their debug lines drown ours.
fn targets(level: LogLevel) -> Targets {
    let libraries = level.0.min(LevelFilter::WARN);
    Targets::new()
        .with_default(libraries)
        .with_target("gpushared", level.0)
}

/// Begins the log; once in a process.
///
/// # Errors
/// When the process has a log already.
pub fn init(
    level: LogLevel,
    format: LogFormat,
) -> Result<LevelHandle, tracing_subscriber::util::TryInitError> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry
            .with(layer.with_ansi(colours).with_target(false))
            .try_init()?,
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(LevelHandle(handle))
}

/// An error with all its causes in one line: no Display of ours repeats its source.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;
    use gpushared_domain::ports::{DriverFault, GpuDriverError};

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = GpuDriverError::new("reading the inventory", DriverFault::GpuLost);
        assert_eq!(
            Chain(&error).to_string(),
            "reading the inventory: GPU is lost"
        );
    }
}
