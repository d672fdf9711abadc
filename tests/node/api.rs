//! The apiserver's REST interface, spoken by curl.
//!
//! A client library would bring a TLS stack and a second async runtime for what are a few reads and
//! writes per case.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// An answer of the apiserver.
pub(crate) struct Answer {
    /// HTTP status, 0 if there was no answer.
    pub(crate) code: u16,
    /// The body; `Null` if it was not JSON.
    pub(crate) body: Value,
}

/// Where the apiserver is and who we are.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    token: String,
}

impl Api {
    /// `base` is `https://host:port`.
    pub(crate) fn new(base: &str, token: &str) -> Self {
        Self {
            base: base.to_owned(),
            token: token.to_owned(),
        }
    }

    /// One request. The certificate is the apiserver's own self-signed one, hence `--insecure`.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let content = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let mut child = Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "10"])
            .args(["--write-out", "\n%{http_code}", "--request", method])
            .args(["--header", &format!("Authorization: Bearer {}", self.token)])
            .args(["--header", &format!("Content-Type: {content}")])
            .args(if body.is_some() {
                &["--data-binary", "@-"][..]
            } else {
                &[]
            })
            .arg(format!("{}{path}", self.base))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl starts");
        let mut stdin = child.stdin.take().expect("curl's stdin");
        if let Some(body) = body {
            // A curl that has already given up closes the pipe; its exit says so below.
            drop(stdin.write_all(body.to_string().as_bytes()));
        }
        drop(stdin);
        let output = child.wait_with_output().expect("curl ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
        Answer {
            code: code.trim().parse().unwrap_or(0),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// The object, or `None` if there is none (or no apiserver).
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let answer = self.request("GET", path, None);
        (answer.code == 200).then_some(answer.body)
    }

    /// Creates an object; a short unavailability is waited out.
    #[track_caller]
    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        crate::wait::until(format!("POST {path}"), Duration::from_secs(10), || {
            let answer = self.request("POST", path, Some(object));
            match answer.code {
                200..=299 => crate::wait::Look::Found(answer.body),
                0 | 429 | 500.. => crate::wait::Look::NotYet(format!("HTTP {}", answer.code)),
                code => panic!("POST {path}: HTTP {code}: {}", answer.body["message"]),
            }
        })
    }

    /// Deletes an object now; its not being there is fine.
    pub(crate) fn delete_now(&self, path: &str) {
        let options =
            serde_json::json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        self.request("DELETE", path, Some(&options));
    }
}
