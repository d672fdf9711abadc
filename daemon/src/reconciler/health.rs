//! Probes, Xids and driver trouble: what they do to the book of health.

use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::health::Probe;
use gpushared_domain::ids::GpuUuid;
use gpushared_domain::ports::{DriverFault, ErrorClass, GpuEvent, GpuEventKind};
use gpushared_domain::slice::Place;
use gpushared_domain::xid::XidClass;

use super::{Reconciler, ReconcilerError, unix_now};
use crate::driver_thread::DriverCallError;
use crate::telemetry::Chain;

/// The Xid that a double-bit ECC event stands for.
const DOUBLE_BIT_ECC: u64 = 48;

/// Looks at the whole layout in a row that may say that there is no driver, before a new process tries its luck: this
/// one's library does not find a driver that comes back.
const DRIVER_FAILURES: u32 = 3;

impl Reconciler {
    /// The driver as a whole did not answer. Says nothing about a single GPU.
    pub(super) fn driver_failed(&mut self, error: &DriverCallError) -> Result<(), ReconcilerError> {
        if let DriverCallError::Driver(answer) = error {
            if answer.fault == DriverFault::VersionMismatch {
                return Err(ReconcilerError::DriverReplaced);
            }
            if answer.class() == ErrorClass::DriverTrouble {
                self.driver_failures += 1;
                if self.driver_failures >= DRIVER_FAILURES {
                    return Err(ReconcilerError::DriverGone);
                }
            }
        }
        let text = Chain(error).to_string();
        if self.driver_trouble.as_ref() != Some(&text) {
            tracing::error!(error = text, "The driver does not answer");
        }
        self.driver_trouble = Some(text);
        Ok(())
    }

    pub(super) fn probed(
        &mut self,
        gpu: &GpuUuid,
        probe: Result<Probe, DriverCallError>,
    ) -> Result<(), ReconcilerError> {
        let probe = match probe {
            Ok(probe) => probe,
            Err(DriverCallError::Busy) => return Ok(()),
            Err(error) => {
                self.driver_failed(&error)?;
                Probe::Failed(Chain(&error).to_string())
            }
        };
        let before = self.node.health.clone();
        let quiet = self.config.health.quiet_period.as_secs();
        let changed = self.node.health.probe(unix_now(), gpu, probe, quiet);
        if changed {
            self.log_health(gpu);
            self.channels.view_tx.send_modify(|view| view.rescan += 1);
        }
        if self.node.health != before {
            self.persist();
        }
        if changed {
            self.publish();
        }
        Ok(())
    }

    fn log_health(&self, gpu: &GpuUuid) {
        let place = Place::Gpu(gpu.clone());
        let causes: Vec<String> = self
            .node
            .health
            .of(&place)
            .map(|condition| condition.cause.to_string())
            .collect();
        if causes.is_empty() {
            tracing::info!(%gpu, "GPU is healthy");
        } else {
            tracing::warn!(%gpu, causes = causes.join("; "), "GPU is unhealthy");
        }
    }

    pub(super) fn event(&mut self, event: &GpuEvent) {
        match event.kind {
            GpuEventKind::Xid(xid) => self.xid(event, xid),
            GpuEventKind::DoubleBitEcc => self.xid(event, DOUBLE_BIT_ECC),
            GpuEventKind::SingleBitEcc => {
                tracing::debug!(gpu = %event.gpu, "Single-bit ECC error, corrected");
            }
            GpuEventKind::MigConfigChange => {
                self.channels.view_tx.send_modify(|view| view.rescan += 1);
            }
        }
    }

    fn xid(&mut self, event: &GpuEvent, xid: u64) {
        let instance = event.gpu_instance;
        let place = instance
            .and_then(|instance| self.node.place_of(&event.gpu, instance))
            .unwrap_or_else(|| Place::Gpu(event.gpu.clone()));
        let id = PluginDeviceId::from(place.clone());
        let class = self
            .node
            .health
            .xid(unix_now(), place, xid, &self.config.health.xids);
        if class == XidClass::Ignored {
            tracing::info!(slice = %id, xid, "Xid of an application");
            return;
        }
        tracing::warn!(slice = %id, xid, class = ?class, "Xid makes the slice unhealthy");
        self.channels.view_tx.send_modify(|view| view.look += 1);
        self.persist();
        self.publish();
    }
}
