//! Replays a trace with a placement policy: eight empty GPUs, what departs goes before the next request is looked at.
//!
//! A policy sees what lies where and the wanted profile, never the future. The first-fit policies are here only to
//! compare with; gpushared's own rule is `gpushared_domain::mig::placement`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use anyhow::{Context, Result};
use gpushared_domain::mig::MigProfileId;
use gpushared_domain::mig::geometry::Geometry;
use gpushared_domain::mig::load::GpuLoad;
use gpushared_domain::mig::placement::{PlacementTable, TieBreak};

use crate::figure::Samples;
use crate::traces::{Accepted, Trace, TraceProfile, driver_profiles};

/// GPUs of the node.
pub const GPUS: usize = 8;

/// How a place is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// First GPU that fits, lowest start.
    LexFf,
    /// First GPU that fits, the driver's own order of starts.
    DriverFf,
    /// Least loss of room, then the fullest GPU.
    GradActive,
    /// What gpushared does: least loss of room, then least loss of returning room.
    Ours,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LexFf, Self::DriverFf, Self::GradActive, Self::Ours];
    /// Those whose scores are published.
    pub const PUBLISHED: [Self; 3] = [Self::LexFf, Self::DriverFf, Self::GradActive];

    /// Its name in `scores.json`, where it is there.
    pub fn name(self) -> &'static str {
        match self {
            Self::LexFf => "lex-ff",
            Self::DriverFf => "driver-ff",
            Self::GradActive => "grad-active",
            Self::Ours => "ours",
        }
    }
}

/// A GPU and the first slot there.
pub type Decision = Option<(usize, u32)>;

/// What came of a replay.
#[derive(Debug)]
pub struct Replay {
    /// What was placed.
    pub accepted: Accepted,
    /// By request; nothing is a refusal.
    pub decisions: Vec<Decision>,
    /// Time of each decision in microseconds.
    pub times: Samples,
}

/// Replays one trace.
///
/// # Errors
/// The policy chose a place where the instance may not lie.
pub fn replay(trace: &Trace, policy: Policy) -> Result<Replay> {
    let mut node = Node::new(trace, policy)?;
    let mut result = Replay {
        accepted: Accepted::default(),
        decisions: Vec::with_capacity(trace.requests.len()),
        times: Samples::default(),
    };
    for (number, request) in trace.requests.iter().enumerate() {
        node.depart(request.arrive_us)?;
        let begin = Instant::now();
        let decision = node.decide(request.profile);
        result.times.add(begin.elapsed().as_secs_f64() * 1e6);
        if let Some((gpu, start)) = decision {
            node.place(request.profile, gpu, start, request.depart_us)
                .with_context(|| format!("request {number} of {}", trace.name))?;
            result.accepted.requests += 1;
            result.accepted.slots += request.profile.slots;
        }
        result.decisions.push(decision);
    }
    Ok(result)
}

/// The GPUs and what lies on them.
#[derive(Debug)]
struct Node {
    policy: Policy,
    table: PlacementTable,
    loads: [GpuLoad; GPUS],
    instances: [Vec<(MigProfileId, u32)>; GPUS],
    /// Departures: when, GPU, first slot.
    ends: BinaryHeap<Reverse<(u64, usize, u32)>>,
}

impl Node {
    fn new(trace: &Trace, policy: Policy) -> Result<Self> {
        let geometry = Geometry::new(&driver_profiles())?;
        let tie_break = match policy {
            Policy::Ours => TieBreak::ReturningRoom,
            _ => TieBreak::FullestGpu,
        };
        Ok(Self {
            policy,
            table: PlacementTable::new(&geometry, &trace.offered, tie_break),
            loads: [GpuLoad::EMPTY; GPUS],
            instances: Default::default(),
            ends: BinaryHeap::new(),
        })
    }

    fn decide(&self, profile: &TraceProfile) -> Decision {
        match self.policy {
            Policy::LexFf => self.first_fit(profile.slots, profile.starts),
            Policy::DriverFf => self.first_fit(profile.slots, profile.driver_order),
            Policy::GradActive | Policy::Ours => {
                let choice = self.table.choose(&self.loads, profile.id);
                choice.map(|choice| (choice.gpu, choice.start))
            }
        }
    }

    fn first_fit(&self, slots: u32, starts: &[u32]) -> Decision {
        let free = |load: &GpuLoad, start: u32| load.occupied() >> start & ((1 << slots) - 1) == 0;
        self.loads.iter().enumerate().find_map(|(gpu, load)| {
            let start = starts.iter().find(|start| free(load, **start));
            start.map(|start| (gpu, *start))
        })
    }

    fn place(
        &mut self,
        profile: &TraceProfile,
        gpu: usize,
        start: u32,
        until_us: u64,
    ) -> Result<()> {
        self.loads[gpu].add(self.table.geometry(), profile.id, start)?;
        self.instances[gpu].push((profile.id, start));
        self.ends.push(Reverse((until_us, gpu, start)));
        Ok(())
    }

    /// Takes away what departs until `now_us`, that moment included.
    fn depart(&mut self, now_us: u64) -> Result<()> {
        while let Some(Reverse((end, gpu, start))) = self.ends.peek().copied() {
            if end > now_us {
                break;
            }
            self.ends.pop();
            self.instances[gpu].retain(|(_, other)| *other != start);
            let rest = self.instances[gpu].iter().copied();
            self.loads[gpu] = GpuLoad::of(self.table.geometry(), rest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::read_all;

    fn uniform() -> Trace {
        let mut traces = read_all().expect("the traces can be read").into_iter();
        let uniform = traces.find(|trace| trace.name == "uniform-0.6");
        uniform.expect("there is such a trace")
    }

    #[test]
    fn first_decisions_are_the_published_ones() {
        let trace = uniform();
        for (policy, places, first_refusal) in [
            (
                Policy::LexFf,
                "0,0 1,0 0,4 2,0 3,0 1,4 4,0 1,6 5,0 6,0 5,0 3,0 0,4 0,6 1,4 3,0",
                70,
            ),
            (
                Policy::DriverFf,
                "0,0 1,0 0,4 2,0 3,0 1,4 4,0 1,6 5,0 6,0 5,0 3,0 0,4 0,6 1,6 3,0",
                76,
            ),
            (
                Policy::GradActive,
                "0,0 1,0 0,4 2,0 3,0 1,6 4,0 1,4 5,0 6,0 5,0 3,0 0,4 0,6 1,6 3,0",
                168,
            ),
        ] {
            let decisions = replay(&trace, policy).expect("it runs").decisions;
            let first: Vec<String> = decisions
                .iter()
                .take(16)
                .flatten()
                .map(|(gpu, start)| format!("{gpu},{start}"))
                .collect();
            assert_eq!(first.join(" "), places, "{policy:?}");
            let refused = decisions.iter().position(Option::is_none);
            assert_eq!(refused, Some(first_refusal), "{policy:?}");
        }
    }

    #[test]
    fn published_scores_are_reproduced_exactly() {
        for trace in read_all().expect("the traces can be read") {
            for policy in Policy::PUBLISHED {
                let accepted = replay(&trace, policy).expect("it runs").accepted;
                let published = trace.published(policy.name()).expect("it is published");
                assert_eq!(accepted, published, "{policy:?} on {}", trace.name);
            }
        }
    }

    #[test]
    fn ours_accepts_more_than_the_published_rule_on_every_mix() {
        let traces = read_all().expect("the traces can be read");
        let slots = |mix: &str, policy| -> u32 {
            let of_mix = traces.iter().filter(|trace| trace.name.starts_with(mix));
            of_mix
                .map(|trace| replay(trace, policy).expect("it runs").accepted.slots)
                .sum()
        };
        for mix in ["uniform", "small", "big", "bimodal", "infer", "eqslots"] {
            let (ours, published) = (slots(mix, Policy::Ours), slots(mix, Policy::GradActive));
            assert!(ours > published, "{mix}: {ours} and {published}");
        }
    }
}
