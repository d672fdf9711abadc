//! `cargo run --release -- demo`: the main job on a machine with nothing but Rust.
//!
//! Eight H100 that are not there (the driver simulator, loaded through the same `libnvidia-ml.so.1` door as a real
//! driver), the real daemon as a process of its own, and a kubelet stand-in that speaks the kubelet's protocols over
//! real sockets. Pods come, get slices and go; things break and heal. Ends by itself; exit code 0 only when
//! everything was as it should be.
#![forbid(unsafe_code)]

mod picture;
mod screen;
mod story;

use std::process::ExitCode;

use screen::Screen;

const USAGE: &str = "\
usage: cargo run --release -- demo

Runs gpushared on a simulated node of 8 H100 with a kubelet stand-in: pods come, get slices and go.
Needs no GPU, no Kubernetes and no root; everything happens in a temporary directory.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let screen = Screen::new();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["demo"] => {}
        ["-h" | "--help" | "help"] => {
            screen.raw(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            screen.raw(USAGE);
            return ExitCode::from(64);
        }
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.bad(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if runtime.block_on(story::tell(&screen)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
