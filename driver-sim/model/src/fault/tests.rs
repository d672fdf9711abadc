//! Faults and the call log.

use super::*;
use crate::{NodeSpec, OwnedNode};

const DESTROY: Function = Function::new("nvmlGpuInstanceDestroy");
const COUNT: Function = Function::new("nvmlDeviceGetCount_v2");
const GPU: GpuSlot = GpuSlot::new(0);

fn node() -> OwnedNode {
    OwnedNode::new(&NodeSpec::of(&["h100-80gb", "h100-80gb"], 1).unwrap()).unwrap()
}

#[test]
fn a_counted_fault_ends_by_itself() {
    let mut node = node();
    let spec = FaultSpec {
        count: Some(2),
        ..FaultSpec::new(DESTROY.name(), Code::IN_USE)
    };
    node.set_fault(&spec).unwrap();
    let verdicts = [0; 3].map(|_| node.enter(DESTROY, Some(GPU)).verdict);
    assert_eq!(verdicts, [Err(Code::IN_USE), Err(Code::IN_USE), Ok(())]);
    assert_eq!(node.active_faults().count(), 0);
}

#[test]
fn a_fault_lets_calls_through_first_when_asked() {
    let mut node = node();
    let spec = FaultSpec {
        skip: 1,
        count: Some(1),
        ..FaultSpec::new("*", Code::UNKNOWN)
    };
    node.set_fault(&spec).unwrap();
    let verdicts = [COUNT, DESTROY, COUNT].map(|function| node.enter(function, None).verdict);
    assert_eq!(verdicts, [Ok(()), Err(Code::UNKNOWN), Ok(())]);
}

#[test]
fn a_fault_concerns_its_function_and_gpu_only() {
    let mut node = node();
    let spec = FaultSpec {
        gpu: Some(GPU),
        ..FaultSpec::new(DESTROY.name(), Code::UNKNOWN)
    };
    node.set_fault(&spec).unwrap();
    node.enter(COUNT, Some(GPU)).verdict.unwrap();
    node.enter(DESTROY, Some(GpuSlot::new(1))).verdict.unwrap();
    node.enter(DESTROY, None).verdict.unwrap();
    assert_eq!(node.enter(DESTROY, Some(GPU)).verdict, Err(Code::UNKNOWN));
    node.clear_faults(Some(DESTROY.name()));
    node.enter(DESTROY, Some(GPU)).verdict.unwrap();
}

#[test]
fn a_latency_is_a_fault_that_succeeds_late() {
    let mut node = node();
    node.set_fault(&FaultSpec {
        delay_ms: 150,
        ..FaultSpec::new("*", Code::SUCCESS)
    })
    .unwrap();
    node.set_fault(&FaultSpec {
        delay_ms: 50,
        ..FaultSpec::new(COUNT.name(), Code::SUCCESS)
    })
    .unwrap();
    assert_eq!(
        node.enter(COUNT, None),
        Entered {
            delay_ms: 200,
            verdict: Ok(())
        }
    );
    assert_eq!(
        node.enter(DESTROY, None),
        Entered {
            delay_ms: 150,
            verdict: Ok(())
        }
    );
    node.heal(None).unwrap();
    assert_eq!(node.enter(COUNT, None).delay_ms, 0);
}

#[test]
fn fault_slots_run_out_with_an_error() {
    let mut node = node();
    let spec = FaultSpec::new("x", Code::UNKNOWN);
    while node.set_fault(&spec).is_ok() {}
    assert_eq!(node.active_faults().count(), 64);
    assert_eq!(node.set_fault(&spec), Err(Code::INSUFFICIENT_RESOURCES));
    let none = FaultSpec {
        count: Some(0),
        ..spec.clone()
    };
    assert_eq!(node.set_fault(&none), Err(Code::INVALID_ARGUMENT));
}

#[test]
fn calls_are_counted_and_the_last_ones_kept() {
    let mut node = node();
    let generation = node.header.generation;
    for _ in 0..1500 {
        let _entered = node.enter(COUNT, None);
        node.leave(COUNT, None, 9, Code::SUCCESS, 1);
    }
    let _entered = node.enter(DESTROY, Some(GPU));
    node.leave(DESTROY, Some(GPU), 9, Code::IN_USE, 2);
    assert_eq!(node.calls.calls_of("nvmlDeviceGetCount_v2"), 1500);
    assert_eq!(node.calls.calls_of("nvmlGpuInstanceDestroy"), 1);
    assert_eq!(node.calls.calls_of("nvmlInit_v2"), 0);
    let last = *node.calls.recent(1).next().unwrap();
    assert_eq!(node.calls.name_of(last.function), "nvmlGpuInstanceDestroy");
    assert_eq!((last.pid, last.gpu, last.code), (9, 0, 19));
    assert_eq!(node.calls.recent(5000).count(), 1024);
    assert_eq!(node.header.generation, generation, "calls are no changes");
    node.clear_calls();
    assert_eq!(node.calls.counts().count(), 0);
}
