//! Request traces made on the spot from the same six mixes as the recorded ones, with other random numbers, to see
//! whether what is better on 12 recorded traces is better at large.
//!
//! Exponential times between arrivals and of life. The generator is SplitMix64 (public domain), so a seed gives the
//! same trace on every run.

use crate::replay::GPUS;
use crate::traces::{PROFILES, Request, Trace, TraceProfile};

const REQUESTS: usize = 20_000;
const LOADS: [f64; 4] = [0.6, 0.8, 0.9, 1.0];
const MEAN_LIFE_US: f64 = 600e6;
const SLOTS_PER_GPU: u32 = 8;

static ALL: [TraceProfile; 6] = PROFILES;

/// Shares of 1g, 1gd, 2g, 3g, 4g, 7g; they need not add up to one.
const MIXES: [(&str, [f64; 6]); 6] = [
    ("uniform", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ("small", [0.50, 0.10, 0.22, 0.10, 0.05, 0.03]),
    ("big", [0.10, 0.05, 0.15, 0.30, 0.25, 0.15]),
    ("bimodal", [0.60, 0.0, 0.0, 0.15, 0.0, 0.25]),
    ("infer", [0.40, 0.10, 0.25, 0.25, 0.0, 0.0]),
    ("eqslots", [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]),
];

/// One trace of each mix and load.
pub fn generate(seed: u64) -> Vec<Trace> {
    let mut random = Random(seed);
    let mut traces = Vec::new();
    for (mix, shares) in &MIXES {
        for load in LOADS {
            traces.push(trace(format!("{mix}-{load}"), shares, load, &mut random));
        }
    }
    traces
}

fn trace(name: String, shares: &[f64; 6], load: f64, random: &mut Random) -> Trace {
    let offered: Vec<(f64, &'static TraceProfile)> = shares
        .iter()
        .copied()
        .zip(&ALL)
        .filter(|(share, _)| *share > 0.0)
        .collect();
    let all: f64 = offered.iter().map(|(share, _)| share).sum();
    let slots = |(share, profile): &(f64, &TraceProfile)| share / all * f64::from(profile.slots);
    let mean_slots: f64 = offered.iter().map(slots).sum();
    let node_slots = f64::from(SLOTS_PER_GPU) * f64::from(u32::try_from(GPUS).unwrap_or(0));
    let mean_gap_us = MEAN_LIFE_US * mean_slots / (load * node_slots);
    let mut arrive_us = 0;
    let mut requests = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        arrive_us += random.time_us(mean_gap_us);
        let mut rest = random.unit() * all;
        let wanted = offered.iter().find(|(share, _)| {
            rest -= share;
            rest < 0.0
        });
        // Rounding may leave a crumb after the last share.
        let Some((_, profile)) = wanted.or(offered.last()) else {
            continue;
        };
        requests.push(Request {
            arrive_us,
            depart_us: arrive_us + random.time_us(MEAN_LIFE_US),
            profile,
        });
    }
    let offered = offered.iter().map(|(_, profile)| profile.id).collect();
    Trace::new(name, offered, requests)
}

#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 to 1, 1 left out.
    fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// Exponential, in whole microseconds.
    fn time_us(&mut self, mean_us: f64) -> u64 {
        let time = -(1.0 - self.unit()).ln() * mean_us;
        std::time::Duration::from_secs_f64(time / 1e6)
            .as_micros()
            .try_into()
            .unwrap_or(u64::MAX)
    }
}
