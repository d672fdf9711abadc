//! How much of recorded requests for MIG devices the placement rule accepts, beside first fit and the rule as it was
//! published, and how long one decision takes on a node of eight GPUs.
//!
//! The traces are a model, not hardware: `benches/data/mig-traces/README.md`. A policy's score is the share of the
//! requested slots that it accepts, as a mean over the traces. The run fails unless every published score comes out
//! exactly. A decision that is timed is one lookup or search over all GPUs; what departs is taken away before.
//!
//! The same comparison on fresh traces of the same mixes (`fresh`) shows whether the rule is good at large or only on
//! the recorded ones.
//!
//! `--decisions FILE` writes `request,gpu,start` for one trace, refusals with empty fields; `--policy` and `--trace`
//! choose another policy than `ours` and another trace than `uniform-0.6`.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use gpushared_benches::figure::{Beside, Better, Figure, Samples, Target, note};
use gpushared_benches::fresh_traces;
use gpushared_benches::replay::{Decision, Policy, Replay, replay};
use gpushared_benches::traces::{Trace, read_all};

/// The published mean of grad-active, rounded down.
const LEAST_MEAN: f64 = 84.28;
/// A decision lies in the path of an Allocate, which is to take well under a millisecond.
const MOST_MICROSECONDS: f64 = 5.0;
const FRESH_SEED: u64 = 1;

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let traces = read_all()?;
    if let Some(file) = &arguments.decisions {
        let trace = traces.iter().find(|trace| trace.name == arguments.trace);
        let trace = trace.with_context(|| format!("no trace is named {:?}", arguments.trace))?;
        let replayed = replay(trace, arguments.policy)?;
        fs::write(file, rows(&replayed.decisions)).context("writing the decisions")?;
    }
    let results = replay_all(&traces)?;
    compare_with_published(&results, &traces)?;
    print_accepted("recorded", Target::AtLeast(LEAST_MEAN), &results, &traces)?;
    let fresh = fresh_traces::generate(FRESH_SEED);
    let on_fresh = replay_all(&fresh)?;
    print_accepted("fresh", Target::TimesBetter(1.0), &on_fresh, &fresh)?;
    print_times(&results)
}

fn replay_all(traces: &[Trace]) -> Result<Vec<PolicyResult>> {
    let policies = Policy::ALL.into_iter();
    policies
        .map(|policy| PolicyResult::of(policy, traces))
        .collect()
}

/// What was asked for on the command line.
#[derive(Debug)]
struct Arguments {
    decisions: Option<PathBuf>,
    policy: Policy,
    trace: String,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            decisions: None,
            policy: Policy::Ours,
            trace: "uniform-0.6".to_owned(),
        };
        while let Some(word) = words.next() {
            let value = words.next();
            let value = value.with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--decisions" => arguments.decisions = Some(value.into()),
                "--trace" => arguments.trace = value,
                "--policy" => {
                    let named = Policy::ALL.into_iter().find(|p| p.name() == value);
                    arguments.policy = named.with_context(|| format!("no policy {value:?}"))?;
                }
                _ => bail!("unknown argument {word:?}"),
            }
        }
        Ok(arguments)
    }
}

fn rows(decisions: &[Decision]) -> String {
    let mut text = "request,gpu,start\n".to_owned();
    for (request, decision) in decisions.iter().enumerate() {
        let row = decision.map_or(format!("{request},,"), |(gpu, start)| {
            format!("{request},{gpu},{start}")
        });
        text.push_str(&row);
        text.push('\n');
    }
    text
}

/// One policy on all traces.
#[derive(Debug)]
struct PolicyResult {
    policy: Policy,
    replays: Vec<Replay>,
}

impl PolicyResult {
    fn of(policy: Policy, traces: &[Trace]) -> Result<Self> {
        let replays = traces.iter().map(|trace| replay(trace, policy));
        Ok(Self {
            policy,
            replays: replays.collect::<Result<_>>()?,
        })
    }

    /// Share of the requested slots of each trace, in percent.
    fn scores(&self, traces: &[Trace]) -> Vec<f64> {
        let replays = self.replays.iter().zip(traces);
        replays
            .map(|(replay, trace)| {
                100.0 * f64::from(replay.accepted.slots) / f64::from(trace.slots)
            })
            .collect()
    }

    fn mean(&self, traces: &[Trace]) -> f64 {
        let scores = self.scores(traces);
        let count = u32::try_from(scores.len()).unwrap_or(u32::MAX);
        scores.iter().sum::<f64>() / f64::from(count)
    }

    fn times(&self) -> Samples {
        let mut all = Samples::default();
        for replay in &self.replays {
            all.extend(&replay.times);
        }
        all
    }
}

fn compare_with_published(results: &[PolicyResult], traces: &[Trace]) -> Result<()> {
    let published = |result: &&PolicyResult| Policy::PUBLISHED.contains(&result.policy);
    for result in results.iter().filter(published) {
        for (replay, trace) in result.replays.iter().zip(traces) {
            let (name, expected) = (result.policy.name(), trace.published(result.policy.name())?);
            ensure!(
                replay.accepted == expected,
                "{name} on {}: {:?} instead of {expected:?}",
                trace.name,
                replay.accepted
            );
        }
    }
    Ok(())
}

fn of(results: &[PolicyResult], policy: Policy) -> Result<&PolicyResult> {
    let result = results.iter().find(|result| result.policy == policy);
    result.with_context(|| format!("{} was replayed", policy.name()))
}

/// The mean of ours beside each other policy's.
fn print_accepted(
    which: &str,
    target: Target,
    results: &[PolicyResult],
    traces: &[Trace],
) -> Result<()> {
    for result in results {
        let mut line = format!("{which}: {:12}", result.policy.name());
        for score in result.scores(traces) {
            write!(line, " {score:5.2}")?;
        }
        note(&format!("{line}  mean {:.3} %", result.mean(traces)));
    }
    for policy in Policy::PUBLISHED {
        let figure = Figure {
            bench: format!("placement.{which}_slots_beside_{}", policy.name()),
            ours: Some(of(results, Policy::Ours)?.mean(traces)),
            beside: Some(Beside::Peer(of(results, policy)?.mean(traces))),
            unit: "%",
            target: Some(target),
            better: Better::Higher,
        };
        figure.print()?;
    }
    Ok(())
}

/// Ours beside the cheapest policy's.
fn print_times(results: &[PolicyResult]) -> Result<()> {
    let ours = of(results, Policy::Ours)?.times();
    let peer = of(results, Policy::LexFf)?.times();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = Figure {
            bench: format!("placement.decision_{name}"),
            ours: ours.quantile(share),
            beside: peer.quantile(share).map(Beside::Peer),
            unit: "us",
            target: Some(Target::AtMost(MOST_MICROSECONDS)),
            better: Better::Lower,
        };
        figure.print()?;
    }
    Ok(())
}
