//! A volume of FAT is one, whatever short marks of others its bytes have by chance.

use crate::support::{have, shell};
use crate::trees::{blank, on_volume};
use cairn_base::ReadAt;
use cairn_guest::{Detected, open_volume, probe};
use std::sync::Arc;

/// A volume with two files.
fn made(options: &str, size: u64) -> Option<Vec<u8>> {
    if !have(&["mkfs.fat", "mcopy"]) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), size);
    for name in ["one", "two"] {
        std::fs::write(scratch.path().join(name), name).unwrap();
    }
    shell(&format!(
        "cd '{}' && mkfs.fat {options} '{1}' && MTOOLS_SKIP_CHECK=1 mcopy -i '{1}' one two ::",
        scratch.path().display(),
        image.display(),
    ))
    .unwrap();
    Some(std::fs::read(image).unwrap())
}

type Marks<'a> = &'a [(usize, &'a [u8])];

#[test]
fn short_marks_of_others_do_not_hide_a_volume() {
    // Both have these places in their first table, or in sectors that nobody uses: entries may be any number.
    let marks: &[(&str, Marks<'_>)] = &[
        ("NILFS2", &[(0x406, b"\x34\x34")]),
        ("HFS+", &[(0x400, b"H+\0\x04")]),
        ("F2FS", &[(0x400, b"\x10\x20\xf5\xf2")]),
        ("EROFS", &[(0x400, b"\xe2\xe1\xf5\xe0")]),
        ("JFS", &[(0x8000, b"JFS1")]),
        ("UFS", &[(0x255c, b"\x54\x19\x01\0")]),
        ("UFS", &[(0x1_055c, b"\x19\x01\x54\x19")]),
        ("GFS2", &[(0x1_0000, b"\x01\x16\x19\x70")]),
        // Numbers before and behind it as chains have them.
        (
            "ext",
            &[
                (0x400, b"\x01\x01\x02\x01\x03\x01\x04\x01"),
                (0x420, b"\x11\x01\x12\x01\x13\x01\x14\x01\x15\x01\x16\x01"),
                (0x438, b"\x53\xef"),
            ],
        ),
    ];
    for (options, size) in [("-F 16 -s 1 -R 1", 30 << 20), ("-F 32 -s 1", 40 << 20)] {
        let Some(sound) = made(options, size) else {
            return;
        };
        for (name, places) in marks {
            let mut bytes = sound.clone();
            for (at, mark) in *places {
                bytes[*at..at + mark.len()].copy_from_slice(mark);
            }
            let told = probe::detect(&bytes).unwrap();
            assert_eq!(told, Detected::Fat, "{options} with a mark of {name}");
            let volume = open_volume(Arc::new(bytes) as Arc<dyn ReadAt>).unwrap();
            assert_eq!(on_volume(&*volume).len(), 2, "{options} {name}");
        }
    }
}

/// `mke2fs` overwrites the boot sector that it finds; others do not, so what lies in front of a whole superblock is no volume any more.
#[test]
fn an_old_boot_sector_does_not_hide_ext() {
    let Some(fat) = made("-F 16 -s 1 -R 1", 30 << 20) else {
        return;
    };
    if !have(&["mke2fs"]) {
        return;
    }
    for options in ["-t ext4", "-t ext2 -b 1024", "-t ext4 -O bigalloc -C 16384"] {
        let scratch = tempfile::tempdir().unwrap();
        let image = blank(scratch.path(), 30 << 20);
        shell(&format!("mke2fs -q -F {options} '{}'", image.display())).unwrap();
        let mut bytes = std::fs::read(image).unwrap();
        bytes[..512].copy_from_slice(&fat[..512]);
        assert_eq!(probe::detect(&bytes).unwrap(), Detected::Ext, "{options}");
    }
}
