use std::sync::mpsc as std_mpsc;

use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId};
use gpushared_domain::inventory::DriverInfo;
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigModeActivation, MigProfileId, Placement,
};
use gpushared_domain::ports::{DeviceMemory, DriverFault, GpuProcess, MigSwitch};

use super::*;

/// A driver whose probe does not return until it is let go.
struct Stuck {
    let_go: std_mpsc::Receiver<()>,
}

fn refuse<T>() -> Result<T, GpuDriverError> {
    Err(GpuDriverError::new("anything", DriverFault::NotSupported))
}

impl GpuDriver for Stuck {
    fn info(&mut self) -> Result<DriverInfo, GpuDriverError> {
        refuse()
    }
    fn observe(&mut self) -> Result<Inventory, GpuDriverError> {
        refuse()
    }
    fn probe(&mut self, _: &GpuUuid) -> Probe {
        self.let_go.recv().expect("the test lets go");
        Probe::Lost
    }
    fn set_mig_mode(
        &mut self,
        _: &GpuUuid,
        _: MigSwitch,
    ) -> Result<MigModeActivation, GpuDriverError> {
        refuse()
    }
    fn create_gpu_instance(
        &mut self,
        _: &GpuUuid,
        _: MigProfileId,
        _: Placement,
    ) -> Result<GpuInstance, GpuDriverError> {
        refuse()
    }
    fn create_compute_instance(
        &mut self,
        _: &GpuUuid,
        _: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError> {
        refuse()
    }
    fn destroy_compute_instance(
        &mut self,
        _: &GpuUuid,
        _: GpuInstanceId,
        _: ComputeInstanceId,
    ) -> Result<(), GpuDriverError> {
        refuse()
    }
    fn destroy_gpu_instance(
        &mut self,
        _: &GpuUuid,
        _: GpuInstanceId,
    ) -> Result<(), GpuDriverError> {
        refuse()
    }
    fn memory(
        &mut self,
        _: &GpuUuid,
        _: Option<GpuInstanceId>,
    ) -> Result<DeviceMemory, GpuDriverError> {
        refuse()
    }
    fn processes(&mut self, _: &GpuUuid) -> Result<Vec<GpuProcess>, GpuDriverError> {
        refuse()
    }
}

#[tokio::test]
async fn a_hung_call_ends_at_the_callers_deadline_and_the_thread_lives_on() {
    let (release, let_go) = std_mpsc::channel();
    let driver = DriverHandle::spawn(Box::new(Stuck { let_go })).expect("a thread");
    let gpu: GpuUuid = "GPU-00000000-0000-0000-0000-000000000000"
        .parse()
        .expect("valid");
    let short = Duration::from_millis(20);
    // until the thread has begun it, the call is only waiting
    let hung = loop {
        match driver.probe(gpu.clone(), short).await {
            Err(DriverCallError::Busy) => tokio::task::yield_now().await,
            answer => break answer,
        }
    };
    assert_eq!(hung, Err(DriverCallError::Hung(short)));
    for _ in 0..QUEUE {
        let behind = driver.probe(gpu.clone(), Duration::ZERO).await;
        assert_eq!(
            behind,
            Err(DriverCallError::Busy),
            "what waits says nothing about its GPU"
        );
    }
    let full = driver.observe(Duration::from_secs(3600));
    let full = tokio::time::timeout(Duration::from_secs(60), full).await;
    assert_eq!(
        full,
        Ok(Err(DriverCallError::Busy)),
        "a full queue refuses at once"
    );
    for _ in 0..=QUEUE {
        // those that gave up before the thread began them are not made any more
        release.send(()).ok();
    }
    let served = async {
        loop {
            match driver.observe(Duration::from_secs(60)).await {
                Err(DriverCallError::Busy) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), served).await;
    assert!(
        matches!(answer, Ok(Err(DriverCallError::Driver(_)))),
        "{answer:?}"
    );
}
