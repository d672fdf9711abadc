//! Names of extended resources, and which one a slice belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An extended resource, `domain/name`, as the kubelet accepts it.
///
/// Rules from the kubelet: one `/`; a DNS domain that does not end in `kubernetes.io`; a name of at most 63
/// letters, digits, `-`, `_` and `.` that begins and ends with a letter or digit; no `requests.` in front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(String);

/// A text that the kubelet would not take as an extended resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot name an extended resource: {why}")]
pub struct ResourceNameError {
    /// The text.
    pub text: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

const LONGEST_NAME: usize = 63;
const LONGEST_DOMAIN: usize = 253;

impl ResourceName {
    /// Of a MIG profile: `mig-` and the driver's name with every `+` as `.`, under `domain`.
    ///
    /// # Errors
    /// When the profile's name has characters that a resource may not have.
    pub fn of_mig_profile(domain: &str, profile: &str) -> Result<Self, ResourceNameError> {
        format!("{domain}/mig-{}", profile.replace('+', ".")).parse()
    }

    /// `domain/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `/`, fit for a file name.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(self.0.as_str(), |(_, name)| name)
    }
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric)
        && bytes
            .iter()
            .all(|&byte| alphanumeric(byte) || b"-_.".contains(&byte))
}

fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.len() <= LONGEST_NAME
            && bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
            && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
    })
}

impl FromStr for ResourceName {
    type Err = ResourceNameError;

    fn from_str(text: &str) -> Result<Self, ResourceNameError> {
        let refuse = |why| {
            Err(ResourceNameError {
                text: text.to_owned(),
                why,
            })
        };
        let Some((domain, name)) = text.split_once('/') else {
            return refuse("a domain and a `/` must come first, as in nvidia.com/gpu");
        };
        if domain.starts_with("requests.") {
            return refuse("the domain may not begin with `requests.`");
        }
        if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
            return refuse("kubernetes.io is reserved");
        }
        if domain.len() > LONGEST_DOMAIN || !is_domain(domain) {
            return refuse("the part before the `/` is not a DNS domain in lower case");
        }
        if name.len() > LONGEST_NAME {
            return refuse("the part after the `/` is longer than 63 characters");
        }
        if !is_name(name) {
            return refuse(
                "the part after the `/` may have letters, digits, `-`, `_` and `.` and must begin and end with a letter or digit",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ResourceName {
    type Error = ResourceNameError;

    fn try_from(text: String) -> Result<Self, ResourceNameError> {
        text.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> String {
        name.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mig_profiles_name_resources_as_nvidias_plugin_does() {
        for (profile, resource) in [
            ("1g.10gb", "nvidia.com/mig-1g.10gb"),
            ("1g.10gb+me", "nvidia.com/mig-1g.10gb.me"),
            ("1g.24gb+me.all", "nvidia.com/mig-1g.24gb.me.all"),
            ("1g.24gb-me", "nvidia.com/mig-1g.24gb-me"),
        ] {
            let name = ResourceName::of_mig_profile("nvidia.com", profile).expect("valid");
            assert_eq!(name.as_str(), resource);
        }
    }

    #[test]
    fn names_that_the_kubelet_refuses_are_refused_here_with_the_rule() {
        for (text, rule) in [
            ("gpu", "domain"),
            ("kubernetes.io/gpu", "reserved"),
            ("x.kubernetes.io/gpu", "reserved"),
            ("requests.nvidia.com/gpu", "requests."),
            ("nvidia.com/", "begin and end"),
            ("nvidia.com/-gpu", "begin and end"),
            ("nvidia.com/a/b", "letters"),
            ("NVIDIA.com/gpu", "lower case"),
        ] {
            let error = text.parse::<ResourceName>().expect_err(text);
            assert!(error.why.contains(rule), "{text}: {error}");
        }
        let long = format!("nvidia.com/{}", "a".repeat(64));
        long.parse::<ResourceName>().expect_err("too long");
    }
}
