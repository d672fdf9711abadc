//! Asks the daemon over its admin socket: one HTTP/1.0 request, one answer, blocking.
//!
//! The daemon is on this machine and answers within seconds, so this is a few lines over a Unix socket instead of
//! an HTTP client and a runtime. HTTP/1.0: the answer ends where the connection does, there are no chunks to read.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// A status of thousands of slices is a few MiB; more than this is not ours.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens.
    #[error("gpushared does not listen on {}; is it running? (systemctl status gpushared)", socket.display())]
    NotRunning {
        /// The admin socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket is not for us.
    #[error("no permission for {}; run as root", socket.display())]
    NoPermission {
        /// The admin socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("talking to gpushared on {}", socket.display())]
    Broken {
        /// The admin socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The answer is not HTTP.
    #[error("what listens on {} does not speak HTTP", socket.display())]
    NotHttp {
        /// The admin socket.
        socket: PathBuf,
    },
    /// The daemon said no.
    #[error("gpushared answered {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        text: String,
    },
}

/// Sends a request and gives back the body of a 200 answer.
pub(crate) fn ask(socket: &Path, method: &str, path: &str) -> Result<String, AskError> {
    let broken = |source| AskError::Broken {
        socket: socket.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::NoPermission {
            socket: socket.to_owned(),
        },
        _ => AskError::NotRunning {
            socket: socket.to_owned(),
            source,
        },
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: gpushared\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = String::new();
    stream
        .take(LARGEST_ANSWER)
        .read_to_string(&mut answer)
        .map_err(broken)?;
    let (status, body) = split(&answer).ok_or_else(|| AskError::NotHttp {
        socket: socket.to_owned(),
    })?;
    if status == 200 {
        Ok(body.to_owned())
    } else {
        Err(AskError::Refused {
            status,
            text: body.trim().to_owned(),
        })
    }
}

/// Status and body of an HTTP answer.
fn split(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn answering(answer: &'static str) -> (PathBuf, std::thread::JoinHandle<String>) {
        let folder = std::env::temp_dir().join(format!(
            "gpusharectl-{}-{}",
            std::process::id(),
            answer.len()
        ));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        let socket = folder.join("s");
        std::fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 512];
            let length = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (socket, server)
    }

    #[test]
    fn the_body_of_a_good_answer_is_given_back() {
        let (socket, server) = answering("HTTP/1.0 200 OK\r\nx: y\r\n\r\nhello");
        assert_eq!(ask(&socket, "GET", "/status").expect("good"), "hello");
        assert!(
            server
                .join()
                .expect("served")
                .starts_with("GET /status HTTP/1.0\r\n")
        );
    }

    #[test]
    fn a_refusal_carries_the_daemons_words() {
        let (socket, server) =
            answering("HTTP/1.1 503 Service Unavailable\r\n\r\nthe reconciler does not answer\n");
        let error = ask(&socket, "GET", "/status")
            .expect_err("refused")
            .to_string();
        assert_eq!(
            error,
            "gpushared answered 503: the reconciler does not answer"
        );
        server.join().expect("served");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_said_with_what_to_do() {
        let error =
            ask(Path::new("/nonexistent/admin.sock"), "GET", "/status").expect_err("absent");
        assert!(
            error.to_string().contains("systemctl status gpushared"),
            "{error}"
        );
    }

    #[test]
    fn nonsense_is_not_taken_for_an_answer() {
        for text in ["", "hello", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1\r\n\r\n"] {
            assert_eq!(split(text), None, "{text:?}");
        }
    }
}
