//! What every case is wrapped in: one line of outcome, a skip that says why, logs of a failure.

use std::any::Any;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// What `tests/node/run` tells the cases.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// Folder of the built components.
    pub(crate) components: PathBuf,
    /// The run's own temporary folder. Its path is short: sockets lie in it.
    pub(crate) dir: PathBuf,
    /// The image that pods use, as a docker archive.
    pub(crate) image: PathBuf,
    /// The cgroup under which all pods of the run live, made by `run` in every hierarchy.
    pub(crate) cgroup: String,
    /// Folder for the logs of failed cases.
    pub(crate) logs: PathBuf,
    /// The daemon under test.
    pub(crate) gpushared: PathBuf,
    /// The simulator's command line.
    pub(crate) gpusim: PathBuf,
}

impl Setting {
    fn from_environment() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            components: path("NODE_COMPONENTS")?,
            dir: path("NODE_DIR")?,
            image: path("NODE_IMAGE")?,
            cgroup: std::env::var("NODE_CGROUP").ok()?,
            logs: path("NODE_LOGS")?,
            gpushared: path("NODE_GPUSHARED")?,
            gpusim: path("NODE_GPUSIM")?,
        })
    }
}

/// The payload of the panic that ends a skipped case.
struct Skipped(String);

/// Ends the case: it cannot be done here, for this reason.
pub(crate) fn skip(why: impl Into<String>) -> ! {
    panic_any(Skipped(why.into()))
}

/// Runs one case and reports it.
pub(crate) fn case(name: &str, body: impl FnOnce(&Setting)) {
    let Some(setting) = Setting::from_environment() else {
        report(&format!("skipped {name}: start it by tests/node/run"));
        return;
    };
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&setting)));
    let seconds = start.elapsed().as_secs_f32();
    match outcome {
        Ok(()) => report(&format!("passed  {name} ({seconds:.1} s)")),
        Err(payload) => match payload.downcast::<Skipped>() {
            Ok(skipped) => report(&format!("skipped {name}: {}", skipped.0)),
            Err(payload) => {
                report(&format!(
                    "FAILED  {name} ({seconds:.1} s): {}",
                    text(&*payload)
                ));
                resume_unwind(payload);
            }
        },
    }
}

/// A measured figure, shown under the case's line.
pub(crate) fn figure(text: &str) {
    report(&format!("        {text}"));
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
}

/// Lines go to a file that `run` shows and counts: what libtest prints around them is of no use
/// to it.
fn report(line: &str) {
    if let Some(path) = std::env::var_os("NODE_RESULTS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("the results file");
        writeln!(file, "{line}").expect("a line in the results file");
    } else {
        println!("{line}");
    }
}
