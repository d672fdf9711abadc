//! The simulator's two faces say the same: every case is a list of steps that runs on the port in process and on the
//! port over the C interface, each with a node of its own from the same seed, and the answers are compared.

mod cases;

use std::time::Duration;

use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId, GpuUuid};
use gpushared_domain::mig::{MigProfileId, Placement};
use gpushared_domain::ports::{GpuDriver, GpuDriverError, GpuEvents, MigSwitch};
use gpushared_driver_sim::{Node, NodeSpec, OwnedNode, SimDriver};

use crate::node::{Sim, may_change};

const SHORT: Duration = Duration::from_millis(5);
/// More than any case has; a port that fails at every wait must not wait for ever.
const EVENTS: usize = 8;

/// GPUs by index of the node, instances by order of their creation in the case.
#[derive(Clone, Copy, Debug)]
enum Step {
    Info,
    Observe,
    Probe(usize),
    Mode(usize, MigSwitch),
    /// Profile, start, size.
    CreateGi(usize, u32, u32, u32),
    CreateCi(usize, usize),
    DestroyCi(usize, usize),
    DestroyGi(usize, usize),
    Memory(usize),
    MemoryOf(usize, usize),
    Processes(usize),
    /// All events that are there, up to the first empty wait.
    Events,
    /// Something happens to the node.
    Happens(fn(&mut Node)),
}

struct Case {
    name: &'static str,
    gpus: &'static [&'static str],
    steps: &'static [Step],
}

/// What a case's steps are done to.
struct Face<'a> {
    driver: &'a mut dyn GpuDriver,
    events: &'a mut dyn GpuEvents,
    gpus: Vec<GpuUuid>,
    made: Vec<(GpuInstanceId, ComputeInstanceId)>,
}

/// Words differ, faults do not.
fn said<T: std::fmt::Debug>(answer: Result<T, GpuDriverError>) -> String {
    format!("{:?}", answer.map_err(|error| error.fault))
}

impl Face<'_> {
    /// Does a step; answers what was said to it.
    fn step(&mut self, step: Step) -> String {
        let made = |number: usize| {
            let nothing = (GpuInstanceId(6), ComputeInstanceId(0));
            self.made.get(number).copied().unwrap_or(nothing)
        };
        let gpus = &self.gpus;
        match step {
            Step::Info => said(self.driver.info()),
            Step::Observe => said(self.driver.observe()),
            Step::Probe(gpu) => format!("{:?}", self.driver.probe(&gpus[gpu])),
            Step::Mode(gpu, mode) => said(self.driver.set_mig_mode(&gpus[gpu], mode)),
            Step::CreateGi(gpu, profile, start, size) => {
                let place = Placement { start, size };
                let profile = MigProfileId(profile);
                let answer = self.driver.create_gpu_instance(&gpus[gpu], profile, place);
                if let Ok(instance) = &answer {
                    self.made.push((instance.id, ComputeInstanceId(0)));
                }
                said(answer)
            }
            Step::CreateCi(gpu, number) => {
                let (gi, _) = made(number);
                let answer = self.driver.create_compute_instance(&gpus[gpu], gi);
                if let Ok(compute) = &answer {
                    self.made[number].1 = compute.id;
                }
                said(answer)
            }
            Step::DestroyCi(gpu, number) => {
                let (gi, ci) = made(number);
                said(self.driver.destroy_compute_instance(&gpus[gpu], gi, ci))
            }
            Step::DestroyGi(gpu, number) => {
                let (gi, _) = made(number);
                said(self.driver.destroy_gpu_instance(&gpus[gpu], gi))
            }
            Step::Memory(gpu) => said(self.driver.memory(&gpus[gpu], None)),
            Step::MemoryOf(gpu, number) => {
                let (gi, _) = made(number);
                said(self.driver.memory(&gpus[gpu], Some(gi)))
            }
            Step::Processes(gpu) => said(self.driver.processes(&gpus[gpu])),
            Step::Events => {
                let mut told = Vec::new();
                while told.len() < EVENTS {
                    let answer = self.events.wait(SHORT);
                    if answer == Ok(None) {
                        break;
                    }
                    told.push(said(answer));
                }
                format!("{told:?}")
            }
            Step::Happens(_) => String::new(),
        }
    }
}

/// Answers to the steps of a case on a face.
fn answers(case: &Case, face: &mut Face<'_>, happens: impl Fn(fn(&mut Node))) -> Vec<String> {
    let mut step = |step: &Step| {
        if let Step::Happens(what) = step {
            happens(*what);
        }
        face.step(*step)
    };
    case.steps.iter().map(&mut step).collect()
}

fn in_process(case: &Case) -> Vec<String> {
    let spec = NodeSpec::of(case.gpus, 7).expect("known models");
    let node = OwnedNode::new(&spec).expect("a node");
    let door = SimDriver::new(node);
    let mut driver = door.clone();
    let mut face = Face {
        gpus: uuids(&mut driver),
        events: &mut door.events(),
        driver: &mut driver,
        made: Vec::new(),
    };
    answers(case, &mut face, |what| door.with(what))
}

fn over_the_c_interface(case: &Case) -> Vec<String> {
    let sim = Sim::new(case.gpus);
    let mut driver = sim.open();
    let mut events = driver.events().expect("an event set");
    let mut face = Face {
        gpus: uuids(&mut driver),
        events: &mut events,
        driver: &mut driver,
        made: Vec::new(),
    };
    answers(case, &mut face, |what| sim.with(what))
}

fn uuids(driver: &mut dyn GpuDriver) -> Vec<GpuUuid> {
    let gpus = driver.observe().expect("the driver answers").gpus;
    gpus.into_iter().map(|gpu| gpu.facts.uuid).collect()
}

/// The two answers from a little before the first difference on; inventories are long.
fn where_they_part<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
    let from = same.count().saturating_sub(60);
    let part = |text: &'a str| text.get(from..).unwrap_or(text);
    (part(one), part(other))
}

#[test]
fn both_faces_of_the_simulator_say_the_same() {
    if !may_change() {
        return;
    }
    let mut differences = Vec::new();
    for case in cases::CASES {
        let (one, other) = (in_process(case), over_the_c_interface(case));
        for (at, step) in case.steps.iter().enumerate() {
            if one[at] != other[at] {
                let (one, other) = where_they_part(&one[at], &other[at]);
                let name = case.name;
                differences.push(format!(
                    "{name}: step {at}, {step:?}\n  in process:  {one}\n  C interface: {other}"
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
