mod agreement;
mod rules;
mod several;
mod state_space;
mod vectors;

mod recorded;

use super::Placement;

#[test]
fn placements_overlap_only_when_they_share_a_slice() {
    let place = |start, size| Placement { start, size };
    assert!(place(0, 4).overlaps(place(3, 1)));
    assert!(place(3, 1).overlaps(place(0, 4)));
    assert!(!place(0, 4).overlaps(place(4, 4)));
    assert!(!place(6, 1).overlaps(place(0, 6)));
}
