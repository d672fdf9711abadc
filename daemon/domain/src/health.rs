//! Health of slices: conditions come from events and probes, and go by a rule, never by a restart.
//!
//! A condition lies on a whole GPU (then it counts for each of its slices) or on one MIG place. How it ends:
//!
//! | recovery | ends when |
//! |---|---|
//! | `when-probed` | the next probe of the GPU succeeds |
//! | `after-quiet` | probes succeed and nothing of the kind was seen for the quiet period |
//! | `after-reset` | a reset was seen: the GPU was gone and is back, its volatile error counters fell, or the node booted; or an operator cleared it |
//!
//! The book is journalled, so that a restart of the daemon makes nothing healthy. Times are Unix seconds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::device_id::PluginDeviceId;
use crate::ids::GpuUuid;
use crate::slice::Place;
use crate::xid::{XidClass, XidTable};

/// Why a slice may not be given out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The GPU does not answer: fallen off the bus or unplugged.
    Lost,
    /// The driver wants a reset first.
    ResetRequired,
    /// The driver answered a probe with another error.
    ProbeFailed(String),
    /// A critical Xid.
    Xid(u64),
    /// Row remapping failed: the board has run out of spare rows.
    RemapFailure,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("GPU is lost"),
            Self::ResetRequired => f.write_str("GPU needs a reset"),
            Self::ProbeFailed(text) => write!(f, "probe failed: {text}"),
            Self::Xid(xid) => write!(f, "Xid {xid}"),
            Self::RemapFailure => f.write_str("row remapping failed"),
        }
    }
}

/// How a condition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// The next good probe.
    WhenProbed,
    /// Good probes and the quiet period.
    AfterQuiet,
    /// A reset or an operator.
    AfterReset,
}

/// One reason for being unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What happened.
    pub cause: Cause,
    /// How it ends.
    pub recovery: Recovery,
    /// When it was first seen.
    pub since: u64,
    /// When it was last seen.
    pub last: u64,
    /// How often.
    pub count: u64,
}

/// What a look at a GPU said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answers.
    Answers {
        /// Volatile uncorrected ECC errors; fall to zero at a reset. `None` without ECC.
        volatile_uncorrected: Option<u64>,
        /// Row remapping failed.
        remap_failed: bool,
    },
    /// It is gone.
    Lost,
    /// It wants a reset.
    ResetRequired,
    /// It answered with something else.
    Failed(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    volatile_uncorrected: Option<u64>,
    gone: bool,
}

/// The conditions of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthBook {
    boot_id: String,
    conditions: BTreeMap<PluginDeviceId, Vec<Condition>>,
    seen: BTreeMap<GpuUuid, Seen>,
}

impl HealthBook {
    /// The node runs under this boot id: conditions that a reset or time cures end with a new one.
    pub fn boot(&mut self, boot_id: &str) {
        if self.boot_id != boot_id {
            if !self.boot_id.is_empty() {
                self.conditions.clear();
                self.seen.clear();
            }
            boot_id.clone_into(&mut self.boot_id);
        }
    }

    /// A critical Xid on a place (a whole GPU where the driver named no instance). Says what class it has;
    /// only [`XidClass::Ignored`] changes nothing.
    pub fn xid(&mut self, now: u64, place: Place, xid: u64, table: &XidTable) -> XidClass {
        let class = table.class(xid);
        let recovery = match class {
            XidClass::Ignored => return class,
            XidClass::Suspect => Recovery::AfterQuiet,
            XidClass::NeedsReset => Recovery::AfterReset,
        };
        self.raise(now, place, Cause::Xid(xid), recovery);
        class
    }

    /// A look at a GPU. Ends what may end now. Says whether anything about the GPU's health changed.
    pub fn probe(&mut self, now: u64, gpu: &GpuUuid, probe: Probe, quiet_period: u64) -> bool {
        let before = self.of_gpu(gpu);
        match probe {
            Probe::Answers {
                volatile_uncorrected,
                remap_failed,
            } => {
                self.answered(now, gpu, volatile_uncorrected, quiet_period);
                if remap_failed {
                    self.raise(
                        now,
                        Place::Gpu(gpu.clone()),
                        Cause::RemapFailure,
                        Recovery::AfterReset,
                    );
                }
            }
            Probe::Lost => {
                self.seen.entry(gpu.clone()).or_default().gone = true;
                self.failed(now, gpu, Cause::Lost);
            }
            Probe::ResetRequired => self.failed(now, gpu, Cause::ResetRequired),
            Probe::Failed(text) => self.failed(now, gpu, Cause::ProbeFailed(text)),
        }
        before != self.of_gpu(gpu)
    }

    /// An operator says that the GPU and its slices are well. Says how many conditions that ended.
    pub fn clear(&mut self, gpu: &GpuUuid) -> usize {
        let before = self.count();
        self.conditions.retain(|id, _| id.place().gpu() != gpu);
        before - self.count()
    }

    /// Why the place may not be given out: its own conditions and those of its GPU.
    pub fn of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Condition> {
        self.conditions
            .iter()
            .filter(move |(id, _)| {
                id.place() == place || *id.place() == Place::Gpu(place.gpu().clone())
            })
            .flat_map(|(_, conditions)| conditions)
    }

    /// Can the place be given out?
    #[must_use]
    pub fn is_healthy(&self, place: &Place) -> bool {
        self.of(place).next().is_none()
    }

    /// All conditions that stand.
    #[must_use]
    pub fn count(&self) -> usize {
        self.conditions.values().map(Vec::len).sum()
    }

    /// Causes that stand on a GPU or any place of it, without times.
    fn of_gpu(&self, gpu: &GpuUuid) -> Vec<(PluginDeviceId, Cause)> {
        self.conditions
            .iter()
            .filter(|(id, _)| id.place().gpu() == gpu)
            .flat_map(|(id, list)| {
                list.iter()
                    .map(|condition| (id.clone(), condition.cause.clone()))
            })
            .collect()
    }

    fn raise(&mut self, now: u64, place: Place, cause: Cause, recovery: Recovery) {
        let list = self.conditions.entry(place.into()).or_default();
        if let Some(known) = list.iter_mut().find(|condition| condition.cause == cause) {
            known.last = now;
            known.count = known.count.saturating_add(1);
            known.recovery = recovery;
        } else {
            list.push(Condition {
                cause,
                recovery,
                since: now,
                last: now,
                count: 1,
            });
        }
    }

    fn failed(&mut self, now: u64, gpu: &GpuUuid, cause: Cause) {
        let place = Place::Gpu(gpu.clone());
        if let Some(list) = self
            .conditions
            .get_mut(&PluginDeviceId::from(place.clone()))
        {
            list.retain(|known| known.recovery != Recovery::WhenProbed || known.cause == cause);
        }
        self.raise(now, place, cause, Recovery::WhenProbed);
    }

    fn answered(&mut self, now: u64, gpu: &GpuUuid, uncorrected: Option<u64>, quiet_period: u64) {
        let seen = self.seen.entry(gpu.clone()).or_default();
        let fell =
            matches!((seen.volatile_uncorrected, uncorrected), (Some(was), Some(is)) if is < was);
        let was_reset = seen.gone || fell;
        *seen = Seen {
            volatile_uncorrected: uncorrected,
            gone: false,
        };
        for (id, list) in &mut self.conditions {
            if id.place().gpu() == gpu {
                list.retain_mut(|condition| match condition.recovery {
                    Recovery::WhenProbed => false,
                    Recovery::AfterQuiet => {
                        // a clock that was set back must not stretch the quiet period until it has caught up
                        condition.last = condition.last.min(now);
                        !was_reset && now.saturating_sub(condition.last) < quiet_period
                    }
                    Recovery::AfterReset => !was_reset,
                });
            }
        }
        self.conditions.retain(|_, list| !list.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mig::MigProfileId;

    const QUIET: u64 = 60;

    fn gpu(n: u32) -> GpuUuid {
        format!("GPU-00000000-0000-0000-0000-{n:012}")
            .parse()
            .expect("valid")
    }

    fn mig(n: u32, start: u32) -> Place {
        Place::Mig {
            gpu: gpu(n),
            profile: MigProfileId(19),
            start,
        }
    }

    fn good() -> Probe {
        Probe::Answers {
            volatile_uncorrected: Some(0),
            remap_failed: false,
        }
    }

    #[test]
    fn an_xid_of_one_instance_touches_that_place_alone() {
        let mut book = HealthBook::default();
        book.xid(10, mig(0, 3), 109, &XidTable::default());
        assert!(!book.is_healthy(&mig(0, 3)));
        for healthy in [mig(0, 2), mig(1, 3), Place::Gpu(gpu(0))] {
            assert!(book.is_healthy(&healthy), "{healthy:?}");
        }
    }

    #[test]
    fn an_xid_of_the_gpu_counts_for_each_of_its_places() {
        let mut book = HealthBook::default();
        book.xid(10, Place::Gpu(gpu(0)), 79, &XidTable::default());
        for place in [mig(0, 0), mig(0, 6), Place::Gpu(gpu(0))] {
            assert!(!book.is_healthy(&place), "{place:?}");
        }
        assert!(book.is_healthy(&mig(1, 0)));
    }

    #[test]
    fn a_suspect_gpu_recovers_after_the_quiet_period_and_not_before() {
        let mut book = HealthBook::default();
        book.xid(100, mig(0, 0), 109, &XidTable::default());
        assert!(!book.probe(159, &gpu(0), good(), QUIET));
        book.xid(159, mig(0, 0), 109, &XidTable::default());
        assert!(!book.probe(200, &gpu(0), good(), QUIET));
        assert!(book.probe(219, &gpu(0), good(), QUIET));
        assert!(book.is_healthy(&mig(0, 0)));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stretch_the_quiet_period() {
        let mut book = HealthBook::default();
        book.xid(1_000_000, mig(0, 0), 109, &XidTable::default());
        assert!(!book.probe(100, &gpu(0), good(), QUIET));
        assert!(!book.probe(159, &gpu(0), good(), QUIET));
        assert!(book.probe(160, &gpu(0), good(), QUIET));
    }

    #[test]
    fn a_gpu_that_needs_a_reset_stays_unhealthy_until_one_is_seen() {
        let mut book = HealthBook::default();
        let place = Place::Gpu(gpu(0));
        book.xid(100, place.clone(), 79, &XidTable::default());
        book.probe(1_000_000, &gpu(0), good(), QUIET);
        assert!(!book.is_healthy(&place));
        book.probe(1_000_001, &gpu(0), Probe::Lost, QUIET);
        book.probe(1_000_002, &gpu(0), good(), QUIET);
        assert!(book.is_healthy(&place));
    }

    #[test]
    fn falling_error_counters_tell_a_reset() {
        let mut book = HealthBook::default();
        let counted = |errors| Probe::Answers {
            volatile_uncorrected: Some(errors),
            remap_failed: false,
        };
        book.probe(1, &gpu(0), counted(0), QUIET);
        book.xid(2, Place::Gpu(gpu(0)), 48, &XidTable::default());
        book.probe(3, &gpu(0), counted(2), QUIET);
        assert!(!book.is_healthy(&mig(0, 0)));
        book.probe(4, &gpu(0), counted(0), QUIET);
        assert!(book.is_healthy(&mig(0, 0)));
    }

    #[test]
    fn a_lost_gpu_is_healthy_with_the_first_good_probe() {
        let mut book = HealthBook::default();
        assert!(book.probe(1, &gpu(0), Probe::Lost, QUIET));
        assert!(!book.probe(2, &gpu(0), Probe::Lost, QUIET));
        assert!(!book.is_healthy(&mig(0, 1)));
        assert!(book.probe(3, &gpu(0), good(), QUIET));
        assert_eq!(book.count(), 0);
    }

    #[test]
    fn one_failed_probe_replaces_another() {
        let mut book = HealthBook::default();
        book.probe(1, &gpu(0), Probe::Failed("timeout".into()), QUIET);
        book.probe(2, &gpu(0), Probe::ResetRequired, QUIET);
        let causes: Vec<_> = book
            .of(&Place::Gpu(gpu(0)))
            .map(|c| c.cause.clone())
            .collect();
        assert_eq!(causes, [Cause::ResetRequired]);
    }

    #[test]
    fn a_restart_of_the_daemon_keeps_conditions_and_a_reboot_ends_them() {
        let mut book = HealthBook::default();
        book.boot("a");
        book.xid(1, mig(0, 0), 79, &XidTable::default());
        book.boot("a");
        assert!(!book.is_healthy(&mig(0, 0)));
        book.boot("b");
        assert!(book.is_healthy(&mig(0, 0)));
    }

    #[test]
    fn an_operator_clears_one_gpu_only() {
        let mut book = HealthBook::default();
        book.xid(1, mig(0, 0), 79, &XidTable::default());
        book.xid(1, Place::Gpu(gpu(0)), 48, &XidTable::default());
        book.xid(1, mig(1, 0), 79, &XidTable::default());
        assert_eq!(book.clear(&gpu(0)), 2);
        assert!(book.is_healthy(&mig(0, 0)));
        assert!(!book.is_healthy(&mig(1, 0)));
    }
}
