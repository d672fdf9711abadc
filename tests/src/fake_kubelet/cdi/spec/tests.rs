//! What the strict reader takes and what it refuses.

use super::*;

fn spec(version: &str, device: &str, edits: &str) -> String {
    format!(
        r#"{{"cdiVersion":"{version}","kind":"v.com/gpu","devices":[{{"name":"{device}","containerEdits":{edits}}}]}}"#
    )
}

#[test]
fn a_plain_spec_is_read() {
    let text = spec(
        "0.5.0",
        "a",
        r#"{"env":["A=b"],"deviceNodes":[{"path":"/dev/x"}]}"#,
    );
    Spec::parse(&text).unwrap();
}

#[test]
fn specs_that_a_runtime_refuses_are_refused() {
    let cases = [
        (spec("0.5.0", "a", "{}"), "empty device edits"),
        (spec("0.4.0", "1", r#"{"env":["A=b"]}"#), "at least v0.5.0"),
        (
            spec(
                "0.4.0",
                "a",
                r#"{"deviceNodes":[{"path":"/d","hostPath":"/e"}]}"#,
            ),
            "0.5.0",
        ),
        (
            spec("0.6.0", "a", r#"{"env":["A=b"],"additionalGids":[1]}"#),
            "at least v0.7.0",
        ),
        (spec("9.9.9", "a", r#"{"env":["A=b"]}"#), "invalid version"),
        (
            spec("0.5.0", "a/b", r#"{"env":["A=b"]}"#),
            "invalid device name",
        ),
        (
            spec("0.5.0", "a", r#"{"env":["=b"]}"#),
            "invalid environment variable",
        ),
        (spec("0.5.0", "a", r#"{"envs":["A=b"]}"#), "unknown field"),
    ];
    for (text, reason) in cases {
        let refusal = Spec::parse(&text).unwrap_err();
        assert!(
            refusal.contains(reason),
            "{refusal:?} should name {reason:?}"
        );
    }
}
