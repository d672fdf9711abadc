//! The two watches: they ask the driver and the kubelet at their own pace and tell the reconciler what they saw.

use std::time::Duration;

use gpushared_host::pod_resources::PodResourcesClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::driver_thread::{DriverCallError, DriverHandle};
use crate::message::Message;
use crate::reconciler::WatchView;
use crate::telemetry::Chain;

/// How often PodResources is asked while nothing is leased: pods of an earlier life may still be found.
const IDLE_POLL: Duration = Duration::from_secs(30);
/// The slowest pace of asking a kubelet that does not answer.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// Wishes for a fresh inventory that come closer together than this are answered by one look.
const RESCAN_PAUSE: Duration = Duration::from_millis(20);

/// Looks at each GPU in turn, and at the whole layout: at intervals, and when the reconciler wants it.
///
/// One look at a time: a GPU whose call hangs is told at its deadline; what waits behind it is not asked, and nothing
/// is said of it, until the driver answers.
pub async fn hardware(
    driver: DriverHandle,
    config: Config,
    // watch --observations--> reconciler
    messages_tx: mpsc::Sender<Message>,
    // reconciler --view--> watch
    mut view_rx: watch::Receiver<WatchView>,
    shutdown: CancellationToken,
) {
    let deadline = config.driver.call_deadline;
    let ticker = |period: Duration| {
        let mut ticker = interval_at(Instant::now() + period, period);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticker
    };
    let mut probes = ticker(config.health.probe_interval);
    let mut rescans = ticker(config.driver.rescan_interval);
    let mut rescan = view_rx.borrow_and_update().rescan;
    let mut looked = view_rx.borrow().look;
    // what happened while the daemon was away
    let mut look = true;
    loop {
        if look {
            let gpus = view_rx.borrow().gpus.clone();
            for gpu in gpus {
                let probe = tokio::select! {
                    () = shutdown.cancelled() => return,
                    probe = driver.probe(gpu.clone(), deadline) => probe,
                };
                // the driver is busy with an earlier call, and the others would wait for the same
                let busy = probe == Err(DriverCallError::Busy);
                if messages_tx
                    .send(Message::Probed { gpu, probe })
                    .await
                    .is_err()
                {
                    return;
                }
                if busy {
                    break;
                }
            }
        }
        look = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = probes.tick() => true,
            _ = rescans.tick() => {
                if !observe(&driver, deadline, &messages_tx).await {
                    return;
                }
                false
            }
            changed = view_rx.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = view_rx.borrow_and_update().rescan;
                if wanted != rescan {
                    sleep(RESCAN_PAUSE).await;
                    rescan = view_rx.borrow_and_update().rescan;
                    if !observe(&driver, deadline, &messages_tx).await {
                        return;
                    }
                }
                std::mem::replace(&mut looked, view_rx.borrow().look) != looked
            }
        };
    }
}

/// Says whether anybody listens.
async fn observe(
    driver: &DriverHandle,
    deadline: Duration,
    messages_tx: &mpsc::Sender<Message>,
) -> bool {
    let observed = driver.observe(deadline).await;
    messages_tx.send(Message::Observed(observed)).await.is_ok()
}

/// Asks PodResources who holds what.
///
/// The kubelet takes 100 calls a second from everybody together; this is one every two seconds, fewer while
/// nothing is leased, and ever fewer while it does not answer. A call that fails says nothing about who holds
/// what, so nothing is told then.
pub async fn pods(
    client: PodResourcesClient,
    poll_interval: Duration,
    resources: impl Fn() -> std::collections::BTreeSet<gpushared_domain::resource::ResourceName>,
    // watch --holdings--> reconciler
    messages_tx: mpsc::Sender<Message>,
    // reconciler --view--> watch
    mut view_rx: watch::Receiver<WatchView>,
    shutdown: CancellationToken,
) {
    let mut failures: u32 = 0;
    loop {
        let pause = match client.list(&resources()).await {
            Ok(in_use) => {
                if failures > 0 {
                    tracing::info!("PodResources answers again");
                }
                failures = 0;
                if messages_tx.send(Message::InUse(in_use)).await.is_err() {
                    return;
                }
                if view_rx.borrow_and_update().leased {
                    poll_interval
                } else {
                    IDLE_POLL
                }
            }
            Err(error) => {
                if failures == 0 {
                    let error = Chain(&error);
                    tracing::warn!(%error, "PodResources does not answer; no lease ends meanwhile");
                }
                failures = failures.saturating_add(1);
                let factor = 2_u32.saturating_pow(failures.min(8));
                poll_interval
                    .saturating_mul(factor)
                    .min(SLOWEST_RETRY.max(poll_interval))
            }
        };
        let leased = view_rx.borrow().leased;
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(until) => break,
                // the first lease after an idle time shortens the pause
                changed = view_rx.changed() => match changed {
                    Err(_) => return,
                    Ok(()) if failures == 0 && !leased && view_rx.borrow_and_update().leased => {
                        sleep(poll_interval).await;
                        break;
                    }
                    Ok(()) => {}
                },
            }
        }
    }
}
