//! Recorded requests for MIG devices of eight-slot GPUs, and what known policies accept of them.
//!
//! The files and their format: `benches/data/mig-traces/README.md`. Whatever is not as described there is an error.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use gpushared_domain::mig::{MigProfile, MigProfileId, Placement};
use serde_json::Value;

/// A profile of the traces.
#[derive(Debug)]
pub struct TraceProfile {
    /// Its name there.
    pub name: &'static str,
    /// The driver's number.
    pub id: MigProfileId,
    /// Memory slots.
    pub slots: u32,
    /// Where it may start.
    pub starts: &'static [u32],
    /// The same starts in the order in which the driver itself takes them.
    pub driver_order: &'static [u32],
}

const fn profile(
    name: &'static str,
    id: u32,
    slots: u32,
    starts: &'static [u32],
    driver_order: &'static [u32],
) -> TraceProfile {
    TraceProfile {
        name,
        id: MigProfileId(id),
        slots,
        starts,
        driver_order,
    }
}

/// All profiles of the traces.
pub const PROFILES: [TraceProfile; 6] = [
    profile("1g", 19, 1, &[0, 1, 2, 3, 4, 5, 6], &[6, 4, 5, 0, 1, 2, 3]),
    profile("1gd", 15, 2, &[0, 2, 4, 6], &[4, 0, 2, 6]),
    profile("2g", 14, 2, &[0, 2, 4], &[4, 0, 2]),
    profile("3g", 9, 4, &[0, 4], &[4, 0]),
    profile("4g", 5, 4, &[0], &[0]),
    profile("7g", 0, 8, &[0], &[0]),
];

/// The profiles as a driver would list them.
pub fn driver_profiles() -> Vec<MigProfile> {
    let of = |own: &TraceProfile| MigProfile {
        id: own.id,
        name: own.name.to_owned(),
        compute_slices: own.slots.min(7),
        max_instances: u32::try_from(own.starts.len()).unwrap_or(u32::MAX),
        memory_mib: 10_240 * u64::from(own.slots),
        multiprocessors: 14 * own.slots.min(7),
        placements: own
            .starts
            .iter()
            .map(|start| Placement {
                start: *start,
                size: own.slots,
            })
            .collect(),
    };
    PROFILES.iter().map(of).collect()
}

/// One request; the times are microseconds since the beginning of the trace.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// When it arrives.
    pub arrive_us: u64,
    /// When it goes if it was placed.
    pub depart_us: u64,
    /// What it asks for.
    pub profile: &'static TraceProfile,
}

/// Requests and slots that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// How many requests.
    pub requests: u32,
    /// Their slots.
    pub slots: u32,
}

/// One trace.
#[derive(Debug)]
pub struct Trace {
    /// Mix and load.
    pub name: String,
    /// The profiles that the node offers.
    pub offered: Vec<MigProfileId>,
    /// By arrival.
    pub requests: Vec<Request>,
    /// Slots of all requests.
    pub slots: u32,
    scores: Value,
}

impl Trace {
    /// A trace of which nothing was published.
    pub fn new(name: String, offered: Vec<MigProfileId>, requests: Vec<Request>) -> Self {
        let slots = requests.iter().map(|request| request.profile.slots).sum();
        Self {
            name,
            offered,
            requests,
            slots,
            scores: Value::Null,
        }
    }

    /// What the policy accepts of the trace according to its publication.
    ///
    /// # Errors
    /// Nothing was published for it.
    pub fn published(&self, policy: &str) -> Result<Accepted> {
        let accepted = &self.scores["accepted"][policy];
        match (number(&accepted[0]), number(&accepted[1])) {
            (Some(requests), Some(slots)) => Ok(Accepted { requests, slots }),
            _ => bail!("no score of {policy} for {}", self.name),
        }
    }
}

/// All traces, ascending by name.
///
/// # Errors
/// A file cannot be read or is not as described.
pub fn read_all() -> Result<Vec<Trace>> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "data", "mig-traces"]
        .iter()
        .collect();
    let text = fs::read_to_string(dir.join("scores.json")).context("reading scores.json")?;
    let scores: Value = serde_json::from_str(&text).context("parsing scores.json")?;
    let traces = scores["traces"]
        .as_object()
        .context("scores.json has traces")?;
    traces
        .iter()
        .map(|(name, scores)| read(&dir, name, scores).with_context(|| format!("trace {name}")))
        .collect()
}

fn read(dir: &Path, name: &str, scores: &Value) -> Result<Trace> {
    let file = File::open(dir.join(format!("{name}.csv.gz"))).context("opening the file")?;
    let mut text = String::new();
    let mut decoder = GzDecoder::new(file);
    decoder
        .read_to_string(&mut text)
        .context("decompressing the file")?;
    let rows = text.strip_prefix("arrive_us,depart_us,profile\n");
    let rows = rows.context("the first line")?.lines().enumerate();
    let requests: Vec<Request> = rows
        .map(|(number, row)| request(row).with_context(|| format!("request {number}: {row:?}")))
        .collect::<Result<_>>()?;
    let offered = scores["offered_profiles"].as_array().context("an offer")?;
    let offered: Vec<MigProfileId> = offered
        .iter()
        .map(|name| Ok(named(name.as_str().unwrap_or_default())?.id))
        .collect::<Result<_>>()?;
    let count = u32::try_from(requests.len())?;
    let mut trace = Trace::new(name.to_owned(), offered, requests);
    let expected = (number(&scores["requests"]), number(&scores["slots"]));
    if expected != (Some(count), Some(trace.slots)) {
        bail!(
            "{count} requests for {} slots are not what scores.json says",
            trace.slots
        );
    }
    trace.scores = scores.clone();
    Ok(trace)
}

fn request(row: &str) -> Result<Request> {
    let mut fields = row.split(',');
    let mut next = || fields.next().context("a field is missing");
    Ok(Request {
        arrive_us: next()?.parse()?,
        depart_us: next()?.parse()?,
        profile: named(next()?)?,
    })
}

fn named(name: &str) -> Result<&'static TraceProfile> {
    static ALL: [TraceProfile; 6] = PROFILES;
    let profile = ALL.iter().find(|profile| profile.name == name);
    profile.with_context(|| format!("unknown profile {name:?}"))
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}
