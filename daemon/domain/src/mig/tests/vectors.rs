//! Numbers that the rule must give, computed by another program from its definition. 1d is the double-memory 1g.

use super::recorded::{G1, G1_DOUBLE, G1_ME, G2, G3, G4, G7, SIX, eight_slots};
use crate::mig::load::GpuLoad;
use crate::mig::placement::{PlacementTable, TieBreak};
use crate::mig::{MigProfileId, Placement};

fn table(offered: &[MigProfileId]) -> PlacementTable {
    PlacementTable::new(&eight_slots().geometry(), offered, TieBreak::FullestGpu)
}

fn occupied(mask: u64) -> GpuLoad {
    let mut load = GpuLoad::default();
    for start in (0..64).filter(|slot| mask >> slot & 1 == 1) {
        load.block(Placement { start, size: 1 });
    }
    load
}

fn named(name: &str) -> MigProfileId {
    let names = ["1g", "1d", "2g", "3g", "4g", "7g"];
    let position = names.iter().position(|other| *other == name);
    SIX[position.expect("a profile")]
}

#[test]
fn room_of_a_mask_is_as_defined() {
    let table = table(&SIX);
    for (mask, fitting, room) in [
        (0x00, [7, 4, 3, 2, 1, 1], 41),
        (0x40, [6, 3, 3, 1, 1, 0], 26),
        (0xC0, [6, 3, 3, 1, 1, 0], 26),
        (0x30, [5, 3, 2, 1, 1, 0], 23),
        (0xF0, [4, 2, 2, 1, 1, 0], 20),
        (0x70, [4, 2, 2, 1, 1, 0], 20),
        (0x03, [5, 3, 2, 1, 0, 0], 19),
        (0x0F, [3, 2, 1, 1, 0, 0], 13),
        (0x7F, [0; 6], 0),
        (0xFF, [0; 6], 0),
    ] {
        let load = occupied(mask);
        assert_eq!(SIX.map(|id| table.fitting(&load, id)), fitting, "{mask:#x}");
        assert_eq!(table.room(&load), room, "{mask:#x}");
    }
    let empty = GpuLoad::default();
    assert_eq!(self::table(&[G1, G1_DOUBLE, G2, G3]).room(&empty), 29);
    assert_eq!(self::table(&[G1, G3, G7]).room(&empty), 23);
}

#[test]
fn loss_of_each_start_on_an_empty_gpu_is_as_defined() {
    let table = table(&SIX);
    let losses = |profile| {
        let mut all: Vec<(u32, u32)> = table
            .ranked(&[GpuLoad::default()], profile)
            .iter()
            .map(|choice| (choice.start, choice.loss))
            .collect();
        all.sort_unstable();
        all
    };
    let ones = [
        (0, 21),
        (1, 21),
        (2, 21),
        (3, 21),
        (4, 17),
        (5, 17),
        (6, 15),
    ];
    assert_eq!(losses(G1), ones);
    assert_eq!(losses(G1_DOUBLE), [(0, 22), (2, 22), (4, 18), (6, 15)]);
    assert_eq!(losses(G2), [(0, 22), (2, 22), (4, 18)]);
    assert_eq!(losses(G3), [(0, 28), (4, 21)]);
    assert_eq!(losses(G4), [(0, 28)]);
    assert_eq!(losses(G7), [(0, 41)]);
}

#[test]
fn one_profile_fills_a_gpu_in_the_expected_order() {
    let geometry = eight_slots().geometry();
    let table = table(&SIX);
    let order = |profile| {
        let mut load = GpuLoad::default();
        let mut order = Vec::new();
        while let Some(choice) = table.choose(&[load], profile) {
            load.add(&geometry, profile, choice.start).expect("it fits");
            order.push((choice.start, choice.loss));
        }
        order
    };
    let ones = [(6, 15), (4, 5), (5, 1), (0, 13), (1, 1), (2, 5), (3, 1)];
    assert_eq!(order(G1), ones);
    assert_eq!(order(G1_DOUBLE), [(6, 15), (4, 6), (0, 14), (2, 6)]);
    assert_eq!(order(G2), [(4, 18), (0, 14), (2, 6)]);
    assert_eq!(order(G3), [(4, 21), (0, 20)]);
}

/// Places one request after the other on three empty GPUs; `-` is a refusal.
fn answers(table: &PlacementTable, requests: &str) -> String {
    let geometry = eight_slots().geometry();
    let mut loads = [GpuLoad::default(); 3];
    let place = |name: &str| {
        let profile = named(name);
        let Some(choice) = table.choose(&loads, profile) else {
            return "-".to_owned();
        };
        let load = &mut loads[choice.gpu];
        load.add(&geometry, profile, choice.start).expect("it fits");
        format!("{},{}", choice.gpu, choice.start)
    };
    let all: Vec<String> = requests.split(' ').map(place).collect();
    all.join(" ")
}

const SECOND: &str = "1g 2g 3g 1g 1d 2g 3g 1g 1d 3g";

#[test]
fn sequences_on_three_gpus_get_the_expected_places() {
    let six = table(&SIX);
    assert_eq!(
        answers(&six, "1g 2g 3g 1g 4g 1d 2g 7g 1g 3g"),
        "0,6 0,4 0,0 1,6 1,0 1,4 2,4 - 2,6 2,0"
    );
    assert_eq!(
        answers(&six, SECOND),
        "0,6 0,4 0,0 1,6 1,4 1,0 2,4 1,2 2,0 -"
    );
    assert_eq!(
        answers(&table(&[G1, G1_DOUBLE, G2, G3]), SECOND),
        "0,6 0,4 1,4 2,6 2,4 1,0 0,0 1,2 2,0 -"
    );
    assert_eq!(
        answers(&table(&[G1, G3, G7]), "1g 3g 1g 7g 1g 3g 1g 3g 3g 1g"),
        "0,0 0,4 0,1 1,0 0,2 2,4 0,3 2,0 - -"
    );
}

/// The 1g may go to GPU 0 or 1 at equal loss, both of them equally full. On GPU 0 it stands in the way of a 3g place
/// that one departure would free; on GPU 1 that place needs two departures already.
#[test]
fn returning_room_decides_between_places_of_equal_loss() {
    let geometry = eight_slots().geometry();
    let load = |instances: &[(MigProfileId, u32)]| {
        GpuLoad::of(&geometry, instances.iter().copied()).expect("a legal layout")
    };
    let loads = [
        load(&[(G3, 4), (G2, 0)]),
        load(&[(G3, 4), (G1, 0), (G1, 1)]),
    ];
    let choose = |tie_break| {
        let table = PlacementTable::new(&geometry, &SIX, tie_break);
        let choice = table.choose(&loads, G1).expect("it fits");
        (choice.gpu, choice.start)
    };
    assert_eq!(choose(TieBreak::FullestGpu), (0, 2));
    assert_eq!(choose(TieBreak::ReturningRoom), (1, 2));
}

#[test]
fn one_instance_with_media_engines_ends_the_room_for_another() {
    let geometry = eight_slots().geometry();
    let all = eight_slots().ids();
    let table = PlacementTable::new(&geometry, &all, TieBreak::FullestGpu);
    let empty = GpuLoad::default();
    assert_eq!((table.fitting(&empty, G1_ME), table.room(&empty)), (1, 42));
    let with = GpuLoad::of(&geometry, [(G1_ME, 6)]).expect("it fits");
    assert_eq!((table.fitting(&with, G1_ME), table.room(&with)), (0, 26));
    assert_eq!(table.choose(&[with], G1_ME), None);
    let elsewhere = table.choose(&[with, empty], G1_ME).expect("it fits");
    assert_eq!((elsewhere.gpu, elsewhere.start, elsewhere.loss), (1, 6, 16));
}
