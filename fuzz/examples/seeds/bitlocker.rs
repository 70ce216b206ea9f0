//! Seeds of encrypted volumes: headers and metadata; what is encrypted with them is left out.

use crate::Seeds;
use crate::encrypted::{HEAD, KEPT, Looks, METADATA, Protect, Recipe, make, startup_key};
use cairn_fuzz::pieces::Pieces;

pub fn write(seeds: &Seeds) {
    let all = [
        Protect::Clear,
        Protect::Tpm,
        Protect::Startup,
        Protect::Recovery,
    ];
    for (name, looks, method, protectors) in [
        ("windows7", Looks::Windows7, 0x8004, &all[..1]),
        ("to_go", Looks::ToGo, 0x8001, &all[..]),
        ("vista", Looks::Vista, 0x8000, &all[..2]),
        ("on_write", Looks::OnWrite, 0x8003, &all[..1]),
        ("locked", Looks::Windows7, 0x8005, &all[1..]),
    ] {
        let mut recipe = Recipe::new(looks, method).protect(protectors);
        recipe.written.extend([0..0x8_0000, 0x10_0000..0x11_0000]);
        let mut plain = vec![0; 2 << 20];
        plain[11..14].copy_from_slice(&[0, 2, 8]);
        let mut image = make(&recipe, &plain);
        let mut kept = Vec::new();
        kept.push(0..512);
        // Of the metadata's areas most is room.
        kept.extend(METADATA.map(|at| at..at + 0x800));
        // Behind the beginning that is kept elsewhere lie tables.
        kept.push(HEAD + 0x8_0000..KEPT.end);
        let mut at = 0;
        for range in kept {
            image[at..range.start as usize].fill(0);
            at = range.end as usize;
        }
        image[at..].fill(0);
        let is_plain = looks == Looks::OnWrite;
        // Nothing but the tables is there.
        if !is_plain {
            image[(HEAD + 0x8_0000) as usize..].fill(0);
        }
        let pieces = Pieces::write(&image);
        let flags = if is_plain { 3 } else { 1 };
        seeds.put("bitlocker", name, &[&[0][..], &pieces].concat());
        let mended = format!("{name}_mended");
        seeds.put("bitlocker", &mended, &[&[flags][..], &pieces].concat());
    }
    seeds.put(
        "bitlocker",
        "startup_key",
        &[&[0][..], &startup_key()].concat(),
    );
}
