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
    let hung = driver.probe(gpu.clone(), short).await;
    assert_eq!(hung, Err(DriverCallError::Hung(short)));
    for _ in 0..QUEUE {
        driver
            .probe(gpu.clone(), Duration::ZERO)
            .await
            .expect_err("queued behind the hung one");
    }
    let full = tokio::time::timeout(
        Duration::from_secs(60),
        driver.observe(Duration::from_secs(3600)),
    );
    assert!(
        matches!(full.await, Ok(Err(DriverCallError::Hung(_)))),
        "a full queue refuses at once"
    );
    for _ in 0..=QUEUE {
        release.send(()).expect("the thread lives");
    }
    // until the thread has worked off its queue, a call is refused at once
    let served = async {
        loop {
            match driver.observe(Duration::from_secs(60)).await {
                Err(DriverCallError::Hung(_)) => tokio::task::yield_now().await,
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
