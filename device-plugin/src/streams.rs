//! The `ListAndWatch` streams of one resource: which are open, which are told to end.
//!
//! Why this is counted: when any stream of a resource ends, the kubelet disconnects the plugin that registered last,
//! whoever the stream belonged to. Therefore
//! - a newer stream does **not** end an older one: ending it would disconnect the newer. Both are fed the same list,
//!   so it does not matter which of them the kubelet heard last;
//! - the end of the newest is the sign to register again, whatever the older ones do;
//! - before registering again every stream that is left over is ended, while the kubelet has no plugin that this
//!   could disconnect.

use std::sync::Arc;

use tokio::sync::watch;

/// What is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenStreams {
    /// Streams ever opened; the serial number of the newest.
    pub(crate) opened: u64,
    /// The newest is open.
    pub(crate) newest_live: bool,
    /// How many are open.
    pub(crate) live: usize,
}

/// The streams of one resource.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: watch::Sender<OpenStreams>,
    /// from --registration--> to each stream: every stream up to this serial number ends.
    ended_through: watch::Sender<u64>,
}

impl Streams {
    /// Counts a new stream.
    pub(crate) fn open(self: &Arc<Self>) -> OpenStream {
        let mut serial = 0;
        self.open.send_modify(|open| {
            open.opened += 1;
            open.live += 1;
            open.newest_live = true;
            serial = open.opened;
        });
        OpenStream {
            ended_through: self.ended_through.subscribe(),
            streams: Arc::clone(self),
            serial,
        }
    }

    /// Follows what is open.
    pub(crate) fn subscribe(&self) -> watch::Receiver<OpenStreams> {
        self.open.subscribe()
    }

    /// Ends every stream that is open.
    pub(crate) fn end_all(&self) {
        self.ended_through.send_replace(self.open.borrow().opened);
    }

    /// Ends every stream, those to come as well.
    pub(crate) fn end_for_good(&self) {
        self.ended_through.send_replace(u64::MAX);
    }
}

/// One open stream; dropping it is its end.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: Arc<Streams>,
    ended_through: watch::Receiver<u64>,
    serial: u64,
}

impl OpenStream {
    /// Returns when this stream is told to end.
    pub(crate) async fn told_to_end(&mut self) {
        let serial = self.serial;
        // An error means that the sender is gone, which `self.streams` holds.
        let _told = self.ended_through.wait_for(|end| *end >= serial).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.open.send_modify(|open| {
            open.live -= 1;
            if open.opened == self.serial {
                open.newest_live = false;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_newest_stream_counts_as_the_end() {
        let streams = Arc::new(Streams::default());
        let open = streams.subscribe();
        let older = streams.open();
        let newer = streams.open();
        drop(older);
        assert!(open.borrow().newest_live);
        drop(newer);
        assert_eq!(
            *open.borrow(),
            OpenStreams {
                opened: 2,
                newest_live: false,
                live: 0
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn streams_opened_after_the_others_were_ended_stay_open() {
        let streams = Arc::new(Streams::default());
        let mut first = streams.open();
        streams.end_all();
        first.told_to_end().await;
        let mut second = streams.open();
        let patience = std::time::Duration::from_secs(1);
        tokio::time::timeout(patience, second.told_to_end())
            .await
            .expect_err("stays open");
        streams.end_for_good();
        second.told_to_end().await;
        streams.open().told_to_end().await;
    }
}
