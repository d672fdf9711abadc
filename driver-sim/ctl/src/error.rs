//! What gpusim can fail with.

use std::error::Error;
use std::io;

use gpushared_driver_sim::Code;
use gpushared_driver_sim_state::StateError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The node directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The model refused.
    #[error("{doing}")]
    Refused {
        /// What was done.
        doing: String,
        /// What the model answered.
        source: Code,
    },
    /// The program to run as a client.
    #[error("running {program}")]
    Program {
        /// Its name.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("writing the output")]
    Output(#[from] io::Error),
}

/// The error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
