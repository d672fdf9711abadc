//! `gpusharectl`: what operators ask of the gpushared daemon on this node.
//!
//! Exit codes: 0 done, 64 wrong command line, 69 the daemon does not answer, 70 its answer is not understood.
#![forbid(unsafe_code)]

mod admin_client;
mod table;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand, ValueEnum};
use gpushared_domain::ids::GpuUuid;
use gpushared_domain::status::NodeStatus;

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const NOT_UNDERSTOOD: u8 = 70;

/// Asks the gpushared daemon on this node.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The daemon's admin socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/gpushared/admin.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show GPUs, slices, leases, holders and health.
    Status {
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Say that a GPU is well again, after a repair that the daemon could not see.
    ClearHealth {
        /// UUID of the GPU.
        #[arg(value_name = "GPU-UUID")]
        gpu: GpuUuid,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For scripts; the form is stable.
    Json,
}

/// An error for the operator and the exit code.
struct Failure(u8, String);

fn failure(code: u8, error: &dyn Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure(code, text)
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // a closed terminal is no reason to change the exit code
            error.print().ok();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match answer(&arguments) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(_) => NOT_UNDERSTOOD.into(),
        },
        Err(Failure(code, text)) => {
            // nobody left to tell
            writeln!(io::stderr(), "gpusharectl: {text}").ok();
            code.into()
        }
    }
}

fn answer(arguments: &Arguments) -> Result<String, Failure> {
    let ask = |method, path: &str| {
        admin_client::ask(&arguments.socket, method, path)
            .map_err(|error| failure(UNAVAILABLE, &error))
    };
    match &arguments.command {
        Command::Status { output } => {
            let body = ask("GET", "/status")?;
            let status: NodeStatus =
                serde_json::from_str(&body).map_err(|error| failure(NOT_UNDERSTOOD, &error))?;
            match output {
                Output::Json => serde_json::to_string_pretty(&status)
                    .map(|text| text + "\n")
                    .map_err(|error| failure(NOT_UNDERSTOOD, &error)),
                Output::Table => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH);
                    Ok(table::node(
                        &status,
                        now.map_or(0, |elapsed| elapsed.as_secs()),
                    ))
                }
            }
        }
        Command::ClearHealth { gpu } => ask("POST", &format!("/gpus/{gpu}/health/clear")),
    }
}
