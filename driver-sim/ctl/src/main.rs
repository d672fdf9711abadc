//! `gpusim`: makes, shows, breaks and heals a simulated GPU node.
//!
//! Works on a node directory (`gpushared-driver-sim-state`); every process that has the node mapped sees a change at
//! once. Exit code 0 on success, 64 for a wrong command line, 1 for everything else, with one line on stderr.
#![forbid(unsafe_code)]

mod args;
mod error;
mod run;
mod show;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Arguments;
use crate::error::CtlError;

const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let help = !error.use_stderr();
            // Nothing can be done if the terminal is gone.
            let _printed = error.print();
            return if help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(USAGE)
            };
        }
    };
    let mut out = io::stdout().lock();
    match run::run(&arguments.command, &mut out)
        .and_then(|()| out.flush().map_err(CtlError::Output))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _printed = writeln!(io::stderr(), "gpusim: {}", error::chain(&error));
            if matches!(error, CtlError::Usage(_)) {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
