//! `gpushared`: the daemon's command line. Settings live in the configuration file.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gpushared_daemon::config::Config;
use gpushared_daemon::exit::Exit;
use gpushared_daemon::{run, telemetry};

const DEFAULT_CONFIG: &str = "/etc/gpushared/config.yaml";

/// Shares the GPUs of a Kubernetes node.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run {
        /// Configuration file; a missing default file is an empty one.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Check a configuration file and say all that is wrong with it.
    CheckConfig {
        /// Configuration file.
        #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // a closed terminal is no reason to change the exit code
            error.print().ok();
            return exit.into();
        }
    };
    match arguments.command {
        Command::Run { config } => start(&config).into(),
        Command::CheckConfig { config } => match load(&config) {
            Ok(_) => {
                say(&format!("{}: ok", config.display()));
                Exit::Ok.into()
            }
            Err(exit) => exit.into(),
        },
    }
}

fn start(path: &Path) -> Exit {
    let config = match load(path) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let level = match telemetry::init(config.log_level, config.log_format) {
        Ok(level) => level,
        Err(error) => {
            say(&format!("gpushared: starting the log: {error}"));
            return Exit::Internal;
        }
    };
    match run::run(config, path, &level) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!(exit_code = error.exit as u8, "{error}");
            error.exit
        }
    }
}

/// Reads and checks a file; says all its mistakes on standard error.
fn load(path: &Path) -> Result<Config, Exit> {
    run::load_config(path, Path::new(DEFAULT_CONFIG)).map_err(|mistakes| {
        for mistake in mistakes {
            say(&mistake);
        }
        Exit::Usage
    })
}

fn say(text: &str) {
    use std::io::Write as _;
    // nobody left to tell
    writeln!(std::io::stderr(), "{text}").ok();
}
