//! What the reader sees: steps, facts and checks; colours only on a terminal.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

/// The terminal, and how many checks held.
#[derive(Debug)]
pub(crate) struct Screen {
    colours: bool,
    start: Instant,
    good: Cell<usize>,
    bad: Cell<usize>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            colours: stdout().is_terminal(),
            start: Instant::now(),
            good: Cell::new(0),
            bad: Cell::new(0),
        }
    }

    /// Text as it is.
    pub(crate) fn raw(&self, text: &str) {
        let mut out = stdout().lock();
        // a reader that went away is no fault of the demo
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .ok();
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What happens next.
    pub(crate) fn step(&self, text: &str) {
        let clock = self.paint(
            "2",
            &format!("{:5.1} s", self.start.elapsed().as_secs_f64()),
        );
        self.raw(&format!("\n{clock}  {}\n", self.paint("1", text)));
    }

    /// Something to know.
    pub(crate) fn fact(&self, text: &str) {
        self.raw(&format!("         {text}\n"));
    }

    /// A claim that must hold.
    pub(crate) fn check(&self, claim: &str, holds: bool) {
        if holds {
            self.good.set(self.good.get() + 1);
            self.raw(&format!("       {} {claim}\n", self.paint("32", "✓")));
        } else {
            self.bad(claim);
        }
    }

    /// A claim that does not hold.
    pub(crate) fn bad(&self, claim: &str) {
        self.bad.set(self.bad.get() + 1);
        self.raw(&format!(
            "       {} {claim}\n",
            self.paint("31", "✗ NOT SO:")
        ));
    }

    /// How many claims held and how many did not.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.good.get(), self.bad.get())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
