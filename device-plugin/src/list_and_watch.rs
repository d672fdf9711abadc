//! One `ListAndWatch` stream: the whole list when it opens, then whenever this resource's list changes.
//!
//! Changes that come closer together than `coalesce` are sent as one, because the kubelet writes its checkpoint for
//! every message. The first change after a quiet time is sent at once, and so is a change that an Allocate brought
//! about: until the kubelet knows that a place is taken it may give it to the next pod, which then fails for good.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::v1beta1::{
    Device, ListAndWatchResponse, NumaNode, TopologyInfo,
};
use gpushared_proto::deviceplugin::{HEALTHY, UNHEALTHY};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tokio_util::sync::ReusableBoxFuture;
use tonic::Status;
use tracing::debug;

use crate::lists::{DeviceListsRx, ListedDevice};
use crate::roster::Roster;
use crate::streams::OpenStream;

/// What a stream is fed from.
pub(crate) struct ListFeed {
    pub(crate) resource: ResourceName,
    pub(crate) lists: DeviceListsRx,
    pub(crate) roster: Arc<Roster>,
    /// from --Allocate--> to every stream: send what has changed without waiting.
    pub(crate) hurry: watch::Receiver<()>,
    pub(crate) coalesce: Duration,
    pub(crate) open: OpenStream,
    pub(crate) sent: Option<Sent>,
}

/// The last message.
pub(crate) struct Sent {
    at: Instant,
    what: Content,
}

/// What a message is made of, and the count of wishes for it.
#[derive(PartialEq, Eq)]
struct Content {
    devices: Vec<ListedDevice>,
    repeat: u64,
}

impl ListFeed {
    /// The next message, or `None` when the stream is told to end.
    async fn next(&mut self) -> Option<ListAndWatchResponse> {
        loop {
            if let Some(sent) = &self.sent {
                tokio::select! {
                    biased;
                    () = self.open.told_to_end() => return None,
                    changed = self.lists.changed() => if changed.is_err() {
                        // The daemon publishes no more; the kubelet keeps what it has.
                        self.open.told_to_end().await;
                        return None;
                    },
                }
                let due = sent.at + self.coalesce;
                if self.is_changed() && Instant::now() < due {
                    tokio::select! {
                        biased;
                        () = self.open.told_to_end() => return None,
                        _ = self.hurry.changed() => {}
                        () = sleep_until(due) => {}
                    }
                }
            }
            let what = self.current();
            if self.sent.as_ref().is_none_or(|sent| sent.what != what) {
                debug!(resource = %self.resource, devices = what.devices.len(), "Sent the list");
                let message = message(&what.devices);
                self.sent = Some(Sent {
                    at: Instant::now(),
                    what,
                });
                return Some(message);
            }
        }
    }

    fn current(&mut self) -> Content {
        let lists = self.lists.borrow_and_update();
        let listed = lists.resources.get(&self.resource);
        Content {
            devices: self
                .roster
                .complete(&self.resource, listed.map_or(&[], Vec::as_slice)),
            repeat: lists.repeat,
        }
    }

    fn is_changed(&mut self) -> bool {
        let what = self.current();
        self.sent.as_ref().is_none_or(|sent| sent.what != what)
    }
}

fn message(devices: &[ListedDevice]) -> ListAndWatchResponse {
    let devices = devices.iter().map(|device| Device {
        id: device.id.to_string(),
        health: if device.healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
        topology: device.numa_node.map(|node| TopologyInfo {
            nodes: vec![NumaNode {
                id: i64::from(node),
            }],
        }),
    });
    ListAndWatchResponse {
        devices: devices.collect(),
    }
}

/// The stream as tonic wants it. It has no task of its own: the connection polls it.
pub(crate) struct ListStream(ReusableBoxFuture<'static, Option<(ListAndWatchResponse, ListFeed)>>);

impl ListStream {
    pub(crate) fn new(feed: ListFeed) -> Self {
        Self(ReusableBoxFuture::new(step(feed)))
    }
}

async fn step(mut feed: ListFeed) -> Option<(ListAndWatchResponse, ListFeed)> {
    let message = feed.next().await?;
    Some((message, feed))
}

impl Stream for ListStream {
    type Item = Result<ListAndWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.poll(cx));
        Poll::Ready(match next {
            Some((message, feed)) => {
                self.0.set(step(feed));
                Some(Ok(message))
            }
            None => {
                self.0.set(std::future::ready(None));
                None
            }
        })
    }
}
