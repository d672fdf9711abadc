//! `GetPreferredAllocation` always has an answer: an error would fail the pod for want of a hint.

use std::collections::BTreeSet;

use gpushared_domain::device_id::PluginDeviceId;

/// What the kubelet may choose from, cleaned of what is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) available: Vec<PluginDeviceId>,
    pub(crate) must_include: Vec<PluginDeviceId>,
    pub(crate) size: usize,
}

impl Wish {
    /// Reads a request. IDs that are not ours are left out; a size below zero is none, one that is more than there
    /// is means all.
    pub(crate) fn new(available: &[String], must_include: &[String], size: i32) -> Self {
        let must_include = ours(must_include);
        let mut available = ours(available);
        available.extend(must_include.iter().cloned());
        available.sort();
        available.dedup();
        Self {
            size: usize::try_from(size).unwrap_or(0).min(available.len()),
            available,
            must_include,
        }
    }

    /// Nothing to choose: all, none, or just what must be in it.
    pub(crate) fn is_settled(&self) -> bool {
        self.size == self.available.len() || self.size <= self.must_include.len()
    }

    /// The answer: what must be in it, then what was `chosen`, then the others in the order of their IDs, cut at the
    /// size. Whatever was chosen, the answer has the right size and holds only what is available.
    pub(crate) fn answer(&self, chosen: &[PluginDeviceId]) -> Vec<String> {
        let available: BTreeSet<&PluginDeviceId> = self.available.iter().collect();
        let mut taken = BTreeSet::new();
        self.must_include
            .iter()
            .chain(chosen)
            .chain(&self.available)
            .filter(|id| available.contains(*id) && taken.insert(*id))
            .take(self.size)
            .map(ToString::to_string)
            .collect()
    }
}

fn ours(texts: &[String]) -> Vec<PluginDeviceId> {
    let ids: BTreeSet<PluginDeviceId> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    ids.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(starts: &[u32]) -> Vec<String> {
        starts
            .iter()
            .map(|start| format!("GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/mig/19@{start}"))
            .collect()
    }

    fn ids(starts: &[u32]) -> Vec<PluginDeviceId> {
        texts(starts)
            .iter()
            .map(|text| text.parse().expect("valid"))
            .collect()
    }

    #[test]
    fn a_size_beyond_what_is_there_means_all_of_it() {
        let wish = Wish::new(&texts(&[2, 0, 1]), &[], 7);
        assert!(wish.is_settled());
        assert_eq!(wish.answer(&[]), texts(&[0, 1, 2]));
    }

    #[test]
    fn a_size_of_nothing_or_less_is_answered_with_nothing() {
        for size in [0, -1, i32::MIN] {
            let wish = Wish::new(&texts(&[0, 1]), &[], size);
            assert!(wish.is_settled());
            assert_eq!(wish.answer(&[]), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_chosen_comes_after_what_must_be_in_it() {
        let wish = Wish::new(&texts(&[0, 1, 2, 3]), &texts(&[3]), 2);
        assert!(!wish.is_settled());
        assert_eq!(wish.answer(&ids(&[2, 1])), texts(&[3, 2]));
    }

    #[test]
    fn a_choice_that_is_short_foreign_or_double_is_mended() {
        let wish = Wish::new(&texts(&[0, 1, 2, 3]), &texts(&[1]), 3);
        for (chosen, answer) in [
            (ids(&[]), [1, 0, 2]),
            (ids(&[9]), [1, 0, 2]),
            (ids(&[3, 3]), [1, 3, 0]),
            (ids(&[0, 1, 2, 3]), [1, 0, 2]),
        ] {
            assert_eq!(wish.answer(&chosen), texts(&answer), "{chosen:?}");
        }
    }

    #[test]
    fn ids_that_are_not_ours_are_left_out() {
        let mut available = texts(&[0]);
        available.push("x".to_owned());
        let wish = Wish::new(&available, &["y".to_owned()], 2);
        assert_eq!(wish.answer(&[]), texts(&[0]));
    }
}
