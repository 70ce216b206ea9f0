//! Hives that nobody wrote: an answer comes, soon, and it is an error or a part of what is there.

use crate::made::{BINS, MadeKey, hive, put, sum, system};
use crate::open;
use cairn_base::Kind;
use cairn_guest::hive::Hive;
use cairn_guest::mounted_devices::{self, MountedName};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Where a cell with this signature begins in a hive, the `number`th of them.
fn cell(hive: &[u8], signature: &[u8; 2], number: usize) -> usize {
    let cells = (BINS..hive.len()).step_by(8);
    let mut found = cells.filter(|at| hive.get(at + 4..at + 6) == Some(signature));
    found.nth(number).unwrap()
}

fn wide() -> Vec<u8> {
    let mut root = MadeKey::new("ROOT").listed(*b"ri");
    for number in 0..8 {
        root = root.key(MadeKey::new(&format!("Key {number}")).value("v", 3, b"12345"));
    }
    hive(&root)
}

fn count(hive: &Hive) -> (usize, cairn_base::Result<()>) {
    let mut told = 0;
    let root = hive.root().unwrap();
    let read = hive.each_subkey(&root, &mut |_| {
        told += 1;
        ControlFlow::Continue(())
    });
    (told, read)
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    let good = wide();
    assert_eq!(count(&open(&good)).0, 8);
    let index = cell(&good, b"ri", 0);
    let mut bad = good.clone();
    put(&mut bad, index + 8, (index - BINS) as u32);
    let (_, read) = count(&open(&bad));
    assert_eq!(read.unwrap_err().kind(), Kind::Damaged);
    // A key that is its own child is told as often as it is asked for.
    let leaf = cell(&good, b"lh", 0);
    let mut bad = good;
    let root = u32::from_le_bytes(bad[36..40].try_into().unwrap());
    put(&mut bad, leaf + 8, root);
    let hive = open(&bad);
    let mut key = hive.root().unwrap();
    for _ in 0..1000 {
        key = hive.subkey(&key, "ROOT").unwrap().unwrap();
    }
}

#[test]
fn impossible_counts_are_damage_or_cut() {
    let good = wide();
    let root = BINS + u32::from_le_bytes(good[36..40].try_into().unwrap()) as usize;
    let mut many = good.clone();
    put(&mut many, root + 4 + 20, u32::MAX);
    assert_eq!(count(&open(&many)).0, 8);
    let leaf = cell(&good, b"lh", 0);
    let mut many = good.clone();
    many[leaf + 6..leaf + 8].copy_from_slice(&[0xff; 2]);
    assert!(count(&open(&many)).1.is_err());
    let key = cell(&good, b"nk", 1);
    let mut many = good.clone();
    put(&mut many, key + 4 + 36, u32::MAX);
    let hive = open(&many);
    let root = hive.root().unwrap();
    let found = hive.subkey(&root, "Key 0").unwrap().unwrap();
    let read = hive.each_value(&found, &mut |_| ControlFlow::Continue(()));
    assert_eq!(read.unwrap_err().kind(), Kind::Damaged);
    let value = cell(&good, b"vk", 0);
    let mut long = good;
    put(&mut long, value + 8, 0x7fff_ffff);
    let hive = open(&long);
    let found = hive
        .subkey(&hive.root().unwrap(), "Key 0")
        .unwrap()
        .unwrap();
    hive.each_value(&found, &mut |value| {
        let error = hive.data(&value.unwrap(), 1 << 16).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        ControlFlow::Continue(())
    })
    .unwrap();
}

#[test]
fn one_bad_key_or_value_costs_no_other() {
    let mut bad = system(&[
        (r"\DosDevices\C:", vec![1; 12]),
        (r"\DosDevices\D:", vec![2; 12]),
    ]);
    let value = cell(&bad, b"vk", 0);
    bad[value + 4] = b'x';
    let key = cell(&bad, b"nk", 1);
    bad[key + 4] = b'x';
    let (devices, failed) = mounted_devices::read(&open(&bad)).unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].name, MountedName::Letter(b'D'));
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].kind(), Kind::Damaged);
}

#[test]
fn base_blocks_are_checked() {
    let good = wide();
    let open = |bytes: Vec<u8>| Hive::open(Arc::new(bytes), &[]).err().map(|e| e.kind());
    assert_eq!(open(good.clone()), None);
    let mut bad = good.clone();
    bad[100] ^= 1;
    assert_eq!(open(bad), Some(Kind::Damaged));
    for (at, number) in [(20, 2), (24, 2), (24, 7)] {
        let mut other = good.clone();
        put(&mut other, at, number);
        sum(&mut other);
        assert_eq!(open(other), Some(Kind::Unsupported));
    }
    assert_eq!(open(good[..4000].to_vec()), Some(Kind::Damaged));
    assert_eq!(open(Vec::new()), Some(Kind::Damaged));
    // A file that was cut off: the base block promises more.
    let cut = Hive::open(Arc::new(good[..BINS].to_vec()), &[]).unwrap();
    assert_eq!(cut.root().unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn any_changed_byte_is_an_answer() {
    let good = system(&[(r"\DosDevices\C:", vec![1; 12])]);
    for at in BINS..good.len().min(BINS + 2048) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        let hive = open(&bad);
        if let Ok((devices, _)) = mounted_devices::read(&hive) {
            assert!(devices.len() <= 1);
        }
    }
}

/// Keys with more than Windows ever writes: what comes first is told, and that there is more.
#[test]
fn bounds_that_are_met_are_told() {
    const MANY: usize = 65_600;
    let mut many = MadeKey::new("MountedDevices");
    let mut wide = MadeKey::new("ROOT").listed(*b"ri");
    for number in 0..MANY {
        many = many.value("", 4, &[0; 4]);
        wide = wide.key(MadeKey::new(&format!("{number:05}")));
    }
    many.values[0] = (r"\DosDevices\C:".to_string(), 3, vec![1; 12]);
    let values = open(&hive(&MadeKey::new("ROOT").key(many)));
    let (devices, failed) = mounted_devices::read(&values).unwrap();
    assert_eq!(devices.len(), 1);
    assert!(
        matches!(&failed[..], [one] if one.to_string().contains("more than 65536 values")),
        "{failed:?}"
    );
    let keys = open(&hive(&wide));
    let (told, read) = count(&keys);
    assert_eq!(
        (told, read.unwrap_err().kind()),
        (65_536, Kind::Unsupported)
    );
    let root = keys.root().unwrap();
    // What is found before is found; of what is not, nothing can be said.
    assert!(keys.subkey(&root, "00017").unwrap().is_some());
    assert_eq!(
        keys.subkey(&root, "none").unwrap_err().kind(),
        Kind::Unsupported
    );
}

/// Names of Windows' own have 96 bytes. Those of a hostile list are not read without an end.
#[test]
fn long_names_of_values_are_bounded() {
    let mut many = MadeKey::new("MountedDevices").value(r"\DosDevices\C:", 3, &[1; 12]);
    for _ in 0..200 {
        many = many.value(&"x".repeat(32_766), 4, &[0; 4]);
    }
    many = many.value(r"\DosDevices\D:", 3, &[2; 12]);
    let (devices, failed) =
        mounted_devices::read(&open(&hive(&MadeKey::new("ROOT").key(many)))).unwrap();
    assert_eq!(devices.len(), 1);
    assert!(
        matches!(&failed[..], [one] if one.to_string().contains("4 MiB")),
        "{failed:?}"
    );
    // No value has a longer name.
    let long = MadeKey::new("ROOT").value(&"x".repeat(32_767), 4, &[0; 4]);
    let hive = open(&hive(&long));
    let mut kinds = Vec::new();
    hive.each_value(&hive.root().unwrap(), &mut |value| {
        kinds.push(value.map(|_| ()).map_err(|error| error.kind()));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(kinds, [Err(Kind::Damaged)]);
}

/// A key that says it has fewer subkeys than its list has hides none of them.
#[test]
fn the_list_says_which_subkeys_there_are() {
    let mut bad = system(&[(r"\DosDevices\C:", vec![1; 12])]);
    let root = BINS + u32::from_le_bytes(bad[36..40].try_into().unwrap()) as usize;
    put(&mut bad, root + 4 + 20, 1);
    let (devices, failed) = mounted_devices::read(&open(&bad)).unwrap();
    assert_eq!((devices.len(), failed.len()), (1, 0));
}

/// Data in pieces of which one was cut: nothing is pushed together.
#[test]
fn a_short_piece_of_long_data_is_damage() {
    let data: Vec<u8> = (0..60_000u32).map(|at| (at / 3) as u8).collect();
    let mut bad = hive(&MadeKey::new("ROOT").value("long", 3, &data));
    let big = cell(&bad, b"db", 0);
    let list = BINS + u32::from_le_bytes(bad[big + 8..big + 12].try_into().unwrap()) as usize;
    // One more piece than are needed, so that there are bytes enough.
    put(&mut bad, big + 4, u32::from_le_bytes(*b"db\x05\0"));
    let second = u32::from_le_bytes(bad[list + 8..list + 12].try_into().unwrap());
    put(&mut bad, list + 4 + 16, second);
    let at = BINS + second as usize;
    put(&mut bad, at, (-8_200i32).cast_unsigned());
    let hive = open(&bad);
    let mut told = Vec::new();
    hive.each_value(&hive.root().unwrap(), &mut |value| {
        told.push(
            hive.data(&value.unwrap(), 1 << 20)
                .map_err(|error| error.kind()),
        );
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(told, [Err(Kind::Damaged)]);
}
