//! The one thread that calls the driver, and the one that waits for its events.
//!
//! A driver call may hang for ever, so nobody waits for one without a deadline: a caller whose deadline passes
//! gets [`DriverCallError::Hung`], and the thread goes on when the driver answers. What waits behind a hung call gets
//! [`DriverCallError::Busy`], which says nothing about the GPU that it asked for. Requests queue up to a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpushared_domain::health::Probe;
use gpushared_domain::ids::GpuUuid;
use gpushared_domain::inventory::Inventory;
use gpushared_domain::ports::{GpuDriver, GpuDriverError, GpuEvent, GpuEvents};
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 32;
const EVENT_WAIT: Duration = Duration::from_secs(5);
const EVENT_RETRY: Duration = Duration::from_secs(1);

/// Why a driver call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverCallError {
    /// The driver answered with an error.
    #[error(transparent)]
    Driver(#[from] GpuDriverError),
    /// The driver has the call and does not answer within the deadline.
    #[error("the driver has not answered for {0:?}")]
    Hung(Duration),
    /// The driver has not begun the call: it is busy with another one. Says nothing about what was asked.
    #[error("the driver is busy with another call")]
    Busy,
    /// The driver thread has ended.
    #[error("the driver thread has ended")]
    Ended,
}

enum Call {
    Observe(oneshot::Sender<Result<Inventory, GpuDriverError>>),
    Probe(GpuUuid, oneshot::Sender<Probe>),
}

impl Call {
    /// Its caller gave up.
    fn is_over(&self) -> bool {
        match self {
            Self::Observe(reply) => reply.is_closed(),
            Self::Probe(_, reply) => reply.is_closed(),
        }
    }
}

struct Request {
    call: Call,
    /// Set when the driver begins it.
    begun: Arc<AtomicBool>,
}

/// Sends requests to the driver thread.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    /// callers --requests--> driver thread
    requests_tx: mpsc::Sender<Request>,
}

impl DriverHandle {
    /// Starts the thread, which owns the driver from here on. It ends when the last handle is dropped.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn spawn(mut driver: Box<dyn GpuDriver>) -> std::io::Result<Self> {
        let (requests_tx, mut requests_rx) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("nvml".to_owned())
            .spawn(move || {
                while let Some(Request { call, begun }) = requests_rx.blocking_recv() {
                    if call.is_over() {
                        continue;
                    }
                    begun.store(true, Ordering::Release);
                    // a caller that gives up drops its end, and the answer with it
                    match call {
                        Call::Observe(reply) => drop(reply.send(driver.observe())),
                        Call::Probe(gpu, reply) => drop(reply.send(driver.probe(&gpu))),
                    }
                }
            })?;
        Ok(Self { requests_tx })
    }

    /// Everything at this moment.
    ///
    /// # Errors
    /// The driver's, or none within `deadline`.
    pub async fn observe(&self, deadline: Duration) -> Result<Inventory, DriverCallError> {
        let (reply, answer) = oneshot::channel();
        Ok(self.call(Call::Observe(reply), answer, deadline).await??)
    }

    /// A look at one GPU.
    ///
    /// # Errors
    /// None within `deadline`.
    pub async fn probe(&self, gpu: GpuUuid, deadline: Duration) -> Result<Probe, DriverCallError> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Probe(gpu, reply), answer, deadline).await
    }

    async fn call<T>(
        &self,
        call: Call,
        answer: oneshot::Receiver<T>,
        deadline: Duration,
    ) -> Result<T, DriverCallError> {
        let begun = Arc::new(AtomicBool::new(false));
        let request = Request {
            call,
            begun: Arc::clone(&begun),
        };
        match self.requests_tx.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(DriverCallError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(DriverCallError::Ended),
        }
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(DriverCallError::Ended),
            Err(_) if begun.load(Ordering::Acquire) => Err(DriverCallError::Hung(deadline)),
            Err(_) => Err(DriverCallError::Busy),
        }
    }
}

/// Starts the thread that waits for events and forwards them. It ends when the receiver is dropped.
///
/// # Errors
/// When the system has no thread left.
pub fn spawn_events(
    mut events: Box<dyn GpuEvents>,
    // event thread --events--> reconciler
    events_tx: mpsc::Sender<GpuEvent>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("nvml-events".to_owned()).spawn(move || {
        let mut failing = false;
        while !events_tx.is_closed() {
            match events.wait(EVENT_WAIT) {
                Ok(Some(event)) => {
                    failing = false;
                    if events_tx.blocking_send(event).is_err() {
                        return;
                    }
                }
                Ok(None) => failing = false,
                Err(error) => {
                    // probes find what is wrong; here it is said once, and the wait is tried again
                    if !failing {
                        let error = crate::telemetry::Chain(&error);
                        tracing::warn!(%error, "Waiting for driver events failed, probes go on");
                    }
                    failing = true;
                    std::thread::sleep(EVENT_RETRY);
                }
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
