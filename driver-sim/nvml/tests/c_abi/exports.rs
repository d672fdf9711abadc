//! The export table: every public name, and nothing else that begins with `nvml`.

use std::collections::BTreeSet;
use std::fs;

use object::{Object as _, ObjectSymbol as _};

use crate::harness::built_library;

fn expected() -> BTreeSet<String> {
    include_str!("../../data/nvml_name_origins.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let name = columns.next()?;
            let kind = columns.nth(3)?;
            matches!(kind, "public" | "public-newer" | "private").then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn every_public_name_is_exported_and_no_other() {
    let image = fs::read(built_library()).unwrap();
    let file = object::File::parse(&*image).unwrap();
    let found: BTreeSet<String> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .map(|symbol| symbol.name().unwrap().to_owned())
        .filter(|name| name.starts_with("nvml"))
        .collect();
    let expected = expected();
    assert_eq!(expected.len(), 429);
    assert_eq!(found.difference(&expected).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(expected.difference(&found).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_library_has_the_drivers_soname_and_stays_mapped() {
    use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _};
    const SONAME: u64 = 14;
    const FLAGS_1: u64 = 0x6FFF_FFFB;
    const NODELETE: u64 = 8;

    let image = fs::read(built_library()).unwrap();
    let elf = ElfFile64::<object::Endianness>::parse(&*image).unwrap();
    let endian = elf.endian();
    let sections = elf.elf_header().sections(endian, &*image).unwrap();
    let (entries, strings) = sections.dynamic(endian, &*image).unwrap().unwrap();
    let strings = sections.strings(endian, &*image, strings).unwrap();
    let value = |tag: u64| entries.iter().find(|entry| entry.d_tag(endian) == tag);
    let soname = value(SONAME).unwrap().string(endian, strings).unwrap();
    assert_eq!(soname, b"libnvidia-ml.so.1");
    let flags: u64 = value(FLAGS_1).unwrap().d_val(endian);
    assert_ne!(flags & NODELETE, 0);
}
