//! Seeds of hives and of links of Windows.

use crate::Seeds;
use crate::made::{BINS, MadeKey, by_guid, by_place, dirty, entry, head, hive, put, system};

pub fn write(seeds: &Seeds) {
    let name = r"\??\Volume{01234567-89ab-cdef-0123-456789abcdef}";
    let small = system(&[(r"\DosDevices\C:", by_place(0x1234_5678, 1 << 20))]);
    let large = system(&[
        (r"\DosDevices\C:", by_guid([7; 16])),
        (name, by_guid([8; 16])),
    ]);
    let whole = |bytes: &[u8]| [&[0][..], bytes].concat();
    seeds.put("hive", "system", &whole(&large));
    let mut keys = MadeKey::new("ROOT").listed(*b"ri");
    for (list, name) in [(*b"lf", "a"), (*b"li", "b"), (*b"lh", "世界")] {
        let child = MadeKey::new("x")
            .value("", 1, b"a\0")
            .value("five", 3, b"12345");
        keys = keys.key(MadeKey::new(name).listed(list).key(child));
    }
    keys = keys.key(MadeKey::new("long").value("pieces", 3, &[9; 17_000]));
    seeds.put("hive", "lists", &whole(&hive(&keys)));
    let with_log = |log: &[u8]| {
        let hive = dirty(small.clone(), 8);
        let length = (hive.len() as u32).to_le_bytes();
        [&[1][..], &length, &hive, log].concat()
    };
    let entries = [head(&small, 6, 8), entry(8, &large, &[0])].concat();
    seeds.put("hive", "entries", &with_log(&entries));
    let mut sectors = head(&large, 1, 8);
    sectors.extend(b"DIRT\x0f");
    sectors.resize(1024, 0);
    sectors.extend(&large[BINS..BINS + 2048]);
    seeds.put("hive", "sectors", &with_log(&sectors));
    for (name, tag, flags, target) in [
        ("junction", 0xa000_0003u32, None, r"\??\C:\Users\..\x"),
        ("absolute", 0xa000_000c, Some(0u32), name),
        ("relative", 0xa000_000c, Some(1), r"..\..\a\.\b"),
        ("server", 0xa000_000c, Some(0), r"\??\UNC\server\share"),
    ] {
        let names: Vec<u8> = target.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut point = vec![0; 16];
        put(&mut point, 0, tag);
        point[10..12].copy_from_slice(&(names.len() as u16).to_le_bytes());
        point.extend(flags.into_iter().flat_map(u32::to_le_bytes));
        point.extend(names);
        seeds.put("reparse", name, &point);
    }
}
