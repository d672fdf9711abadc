//! Figures: quantiles of samples, and the JSON line that a bench prints for each figure.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Which way a figure should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The smaller the better.
    Lower,
    /// The greater the better.
    Higher,
}

/// What a figure of ours has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
    /// This many times better than the peer.
    TimesBetter(f64),
}

/// What the other column holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Beside {
    /// A program that does the same work.
    Peer(f64),
    /// The work without us.
    Bare(f64),
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name, `bench.what`.
    pub bench: String,
    /// Ours, if it was measured.
    pub ours: Option<f64>,
    /// What stands beside it, if it was measured.
    pub beside: Option<Beside>,
    /// Unit of both.
    pub unit: &'static str,
    /// What ours has to reach, if anything.
    pub target: Option<Target>,
    /// Which way it should go.
    pub better: Better,
}

impl Figure {
    /// Whether the target is reached; nothing to say where a number is missing.
    pub fn met(&self) -> Option<bool> {
        let ours = self.ours?;
        match (self.target?, self.beside) {
            (Target::AtMost(limit), _) => Some(ours <= limit),
            (Target::AtLeast(limit), _) => Some(ours >= limit),
            (Target::TimesBetter(times), Some(Beside::Peer(peer))) => Some(match self.better {
                Better::Lower => peer >= ours * times,
                Better::Higher => ours >= peer * times,
            }),
            (Target::TimesBetter(_), _) => None,
        }
    }

    /// The line: `bench`, `ours`, `peer` or `bare`, `unit`, `target`, `better`, and `met` where there is a target.
    pub fn line(&self) -> String {
        let mut line = Map::new();
        line.insert("bench".into(), json!(self.bench));
        line.insert("ours".into(), number(self.ours));
        let (column, value) = match self.beside {
            Some(Beside::Bare(value)) => ("bare", Some(value)),
            Some(Beside::Peer(value)) => ("peer", Some(value)),
            None => ("peer", None),
        };
        line.insert(column.into(), number(value));
        line.insert("unit".into(), json!(self.unit));
        let target = self.target.map(|target| match target {
            Target::AtMost(limit) => json!({"at_most": limit}),
            Target::AtLeast(limit) => json!({"at_least": limit}),
            Target::TimesBetter(times) => json!({"times_better": times}),
        });
        line.insert("target".into(), target.unwrap_or(Value::Null));
        let better = match self.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
        };
        line.insert("better".into(), json!(better));
        if self.target.is_some() {
            line.insert("met".into(), json!(self.met()));
        }
        Value::Object(line).to_string()
    }

    /// Prints the line.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self) -> Result<()> {
        writeln!(std::io::stdout().lock(), "{}", self.line()).context("printing a figure")
    }
}

/// Three decimals are more than any of these measurements is good for.
fn number(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| json!((value * 1e3).round() / 1e3))
}

/// Says something about the measurement on standard error.
pub fn note(text: &str) {
    // A closed standard error leaves nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Samples of one quantity.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Adds all of another quantity.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `share` (0 to 1) of all samples do not exceed: 0.5 is the median, 1 the
    /// greatest sample. Nothing without samples.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = sorted
            .iter()
            .enumerate()
            .find(|(index, _)| count(index + 1) >= share * count(sorted.len()));
        place.map(|(_, sample)| *sample)
    }
}

/// Exact up to 2^32, which no run of a bench reaches.
fn count(samples: usize) -> f64 {
    u32::try_from(samples).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(all: &[f64]) -> Samples {
        Samples(all.to_vec())
    }

    fn figure(ours: f64, beside: Option<Beside>, target: Target, better: Better) -> Figure {
        let (ours, target) = (Some(ours), Some(target));
        Figure {
            bench: "a.b".into(),
            ours,
            beside,
            unit: "ms",
            target,
            better,
        }
    }

    #[test]
    fn quantiles_are_samples_by_nearest_rank() {
        let all = samples(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(all.quantile(0.5), Some(3.0));
        assert_eq!(all.quantile(0.99), Some(5.0));
        assert_eq!(all.quantile(1.0), Some(5.0));
        assert_eq!(all.quantile(0.2), Some(1.0));
        assert_eq!(samples(&[]).quantile(0.5), None);
    }

    #[test]
    fn a_ratio_is_judged_in_the_direction_of_better() {
        let three = Target::TimesBetter(3.0);
        let peer = |value| Some(Beside::Peer(value));
        assert_eq!(
            figure(10.0, peer(30.0), three, Better::Lower).met(),
            Some(true)
        );
        assert_eq!(
            figure(10.0, peer(29.0), three, Better::Lower).met(),
            Some(false)
        );
        assert_eq!(
            figure(30.0, peer(10.0), three, Better::Higher).met(),
            Some(true)
        );
        assert_eq!(figure(10.0, None, three, Better::Lower).met(), None);
    }

    #[test]
    fn a_line_names_the_column_beside_ours() {
        let bare = figure(
            1.23456,
            Some(Beside::Bare(1.0)),
            Target::AtMost(2.0),
            Better::Lower,
        );
        assert_eq!(
            bare.line(),
            r#"{"bare":1.0,"bench":"a.b","better":"lower","met":true,"ours":1.235,"target":{"at_most":2.0},"unit":"ms"}"#
        );
    }
}
