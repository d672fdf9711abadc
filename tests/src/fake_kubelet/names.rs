//! Which names the kubelet takes: extended resources, and devices of the Container Device Interface.

/// Whether the kubelet accepts `name` as an extended resource.
///
/// It needs a domain, may not be Kubernetes' own and may not look like a quota entry; with the quota
/// prefix in front it must still be a qualified name.
pub(crate) fn is_extended_resource(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if native || name.starts_with("requests.") {
        return false;
    }
    let quota = format!("requests.{name}");
    let mut parts = quota.split('/');
    let (Some(prefix), Some(last), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    is_subdomain(prefix) && is_name_part(last)
}

fn is_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_name_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(inner)
        && ends(text.chars().next())
        && ends(text.chars().last())
}

/// Splits a qualified CDI device name into vendor, class and name.
///
/// # Errors
/// The rule that the text breaks.
pub(crate) fn parse_cdi_name(text: &str) -> Result<(&str, &str, &str), String> {
    let unqualified = || format!("unqualified device {text:?}");
    let (kind, name) = text.split_once('=').ok_or_else(unqualified)?;
    let (vendor, class) = kind.split_once('/').ok_or_else(unqualified)?;
    check_cdi_kind(vendor, class)?;
    check_cdi_device(name)?;
    Ok((vendor, class, name))
}

/// Checks vendor and class of a CDI kind.
pub(crate) fn check_cdi_kind(vendor: &str, class: &str) -> Result<(), String> {
    for (what, part) in [("vendor", vendor), ("class", class)] {
        let starts = part.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        if !starts || !cdi_rest(part, &['_', '-', '.']) {
            return Err(format!("invalid {what} {part:?}"));
        }
    }
    Ok(())
}

/// Checks the name of a CDI device.
pub(crate) fn check_cdi_device(name: &str) -> Result<(), String> {
    let starts = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    if !starts || !cdi_rest(name, &['_', '-', '.', ':']) {
        return Err(format!("invalid device name {name:?}"));
    }
    Ok(())
}

fn cdi_rest(text: &str, extra: &[char]) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
        && text
            .chars()
            .last()
            .is_some_and(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_resource_names_follow_the_kubelets_rules() {
        for good in [
            "nvidia.com/gpu",
            "nvidia.com/mig-1g.10gb",
            "x.io/a_B",
            "a/b",
        ] {
            assert!(is_extended_resource(good), "{good}");
        }
        for bad in [
            "gpu",
            "kubernetes.io/gpu",
            "requests.x.io/gpu",
            "X.io/gpu",
            "x.io/a/b",
            "x.io/-a",
        ] {
            assert!(!is_extended_resource(bad), "{bad}");
        }
    }

    #[test]
    fn cdi_names_follow_the_grammar() {
        assert_eq!(
            parse_cdi_name("nvidia.com/gpu=a:1"),
            Ok(("nvidia.com", "gpu", "a:1"))
        );
        for bad in [
            "gpu0",
            "nvidia.com/gpu=",
            "1.com/gpu=a",
            "nvidia.com/gpu=a/b",
            "v/c=a-",
            "v/c=a@3",
        ] {
            assert!(parse_cdi_name(bad).is_err(), "{bad}");
        }
    }
}
