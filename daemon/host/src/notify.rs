//! systemd's readiness protocol: one datagram per message to the socket in `NOTIFY_SOCKET`.
//!
//! Without that socket (started by hand, or as a DaemonSet) every message is a no-op. The environment is read by the
//! caller, once, at start. A failed message is an error to log and nothing more: systemd does what its unit says.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// systemd could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The value of `NOTIFY_SOCKET` is neither a path nor an abstract name.
    #[error("taking {value:?} as the notify socket")]
    Address {
        /// The value.
        value: String,
        /// Why not; `None` where it is neither of the two forms.
        source: Option<io::Error>,
    },
    /// No socket of our own.
    #[error("opening a datagram socket")]
    Socket(#[source] io::Error),
    /// The datagram was not taken.
    #[error("sending {message:?} to systemd")]
    Send {
        /// What was to be said.
        message: String,
        /// Why not.
        source: io::Error,
    },
}

/// The way to systemd, or none.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// From the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name; `None` makes every message a no-op.
    ///
    /// # Errors
    /// When the value has neither form, or there are no sockets left.
    pub fn new(notify_socket: Option<&OsStr>) -> Result<Self, NotifyError> {
        let Some(value) = notify_socket.filter(|value| !value.is_empty()) else {
            return Ok(Self { to: None });
        };
        let refuse = |source| NotifyError::Address {
            value: value.to_string_lossy().into_owned(),
            source,
        };
        let address = match value.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(value),
            _ => return Err(refuse(None)),
        };
        let address = address.map_err(|source| refuse(Some(source)))?;
        let socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
        // A full queue must not hold up the daemon.
        socket.set_nonblocking(true).map_err(NotifyError::Socket)?;
        Ok(Self {
            to: Some((socket, address)),
        })
    }

    /// Is there anybody to tell?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.to.is_some()
    }

    /// Start-up, or a reload, is complete.
    ///
    /// # Errors
    /// When the datagram is not taken.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.send("READY=1")
    }

    /// The configuration is being read again; [`Self::ready`] ends that.
    ///
    /// # Errors
    /// When the datagram is not taken.
    pub fn reloading(&self) -> Result<(), NotifyError> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()))
    }

    /// Shutdown has begun.
    ///
    /// # Errors
    /// When the datagram is not taken.
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.send("STOPPING=1")
    }

    /// One line for `systemctl status`; line breaks become spaces.
    ///
    /// # Errors
    /// When the datagram is not taken.
    pub fn status(&self, line: &str) -> Result<(), NotifyError> {
        self.send(&format!("STATUS={}", line.replace(['\n', '\r'], " ")))
    }

    /// Still alive.
    ///
    /// # Errors
    /// When the datagram is not taken.
    pub fn watchdog(&self) -> Result<(), NotifyError> {
        self.send("WATCHDOG=1")
    }

    fn send(&self, message: &str) -> Result<(), NotifyError> {
        let Some((socket, address)) = &self.to else {
            return Ok(());
        };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => Ok(()),
            Err(source) => Err(NotifyError::Send {
                message: message.to_owned(),
                source,
            }),
        }
    }
}

/// How often systemd wants [`Notifier::watchdog`]: half of `WATCHDOG_USEC`, if that is meant for the process `pid`
/// (`WATCHDOG_PID` missing or equal to it).
#[must_use]
pub fn watchdog_interval(
    watchdog_usec: Option<&str>,
    watchdog_pid: Option<&str>,
    pid: u32,
) -> Option<Duration> {
    let ours = watchdog_pid.is_none_or(|text| text.parse() == Ok(pid));
    let usec: u64 = watchdog_usec?.parse().ok()?;
    (ours && usec > 0).then(|| Duration::from_micros(usec / 2))
}

/// `CLOCK_MONOTONIC` in microseconds, as `systemd` compares it.
fn monotonic_usec() -> u128 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_message_has_the_form_that_systemd_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str())).unwrap();
        assert!(notifier.is_connected());
        notifier.ready().unwrap();
        assert_eq!(received(&systemd), "READY=1");
        notifier.status("two\nlines").unwrap();
        assert_eq!(received(&systemd), "STATUS=two lines");
        notifier.watchdog().unwrap();
        assert_eq!(received(&systemd), "WATCHDOG=1");
        notifier.stopping().unwrap();
        assert_eq!(received(&systemd), "STOPPING=1");
        notifier.reloading().unwrap();
        let text = received(&systemd);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn abstract_sockets_are_reached() {
        let name = format!("gpushared-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let value = format!("@{name}");
        let notifier = Notifier::new(Some(OsStr::new(&value))).unwrap();
        notifier.ready().unwrap();
        assert_eq!(received(&systemd), "READY=1");
    }

    #[test]
    fn without_a_socket_every_message_is_a_no_op() {
        for value in [None, Some(OsStr::new(""))] {
            let notifier = Notifier::new(value).unwrap();
            assert!(!notifier.is_connected());
            notifier.ready().unwrap();
            notifier.watchdog().unwrap();
        }
    }

    #[test]
    fn a_value_of_another_form_or_a_dead_socket_is_an_error() {
        assert!(matches!(
            Notifier::new(Some(OsStr::new("run/notify"))),
            Err(NotifyError::Address { source: None, .. })
        ));
        let folder = tempfile::tempdir().unwrap();
        let nobody = folder.path().join("nobody");
        let notifier = Notifier::new(Some(nobody.as_os_str())).unwrap();
        assert!(matches!(notifier.ready(), Err(NotifyError::Send { .. })));
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_and_only_by_whom_it_is_meant_for() {
        let half = Some(Duration::from_secs(15));
        assert_eq!(watchdog_interval(Some("30000000"), None, 7), half);
        assert_eq!(watchdog_interval(Some("30000000"), Some("7"), 7), half);
        assert_eq!(watchdog_interval(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog_interval(Some("0"), None, 7), None);
        assert_eq!(watchdog_interval(Some("soon"), None, 7), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
    }
}
