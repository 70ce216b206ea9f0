//! FAT volumes made with mkfs.fat and filled with mtools, compared with what mtools and The Sleuth Kit read from them.

use crate::support::{FileDisk, have, shell};
use crate::trees::{blank, by_sleuth_kit, compare, files, noise, on_host, on_volume, timeless};
use cairn_base::ReadAt;
use cairn_guest::fat::{CodePage, FatVolume};
use cairn_guest::{Volume, open_volume};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const TOOLS: [&str; 5] = ["mkfs.fat", "mcopy", "mdel", "tsk_recover", "touch"];

/// What all commands of mtools need: UTF-8, and the code page that we read by.
const MTOOLS: &str =
    "export TZ=UTC LC_ALL=C.UTF-8 MTOOLS_SKIP_CHECK=1 MTOOLS_NO_VFAT=0 MTOOLSRC=/dev/null";

fn mtools(image: &Path, script: &str) -> String {
    let image = image.display();
    shell(&format!("set -e; {MTOOLS}; i='{image}'; {script}")).unwrap()
}

fn open(image: &Path) -> FatVolume {
    // mtools writes 8.3 names in code page 850.
    FatVolume::open(FileDisk::open(image), CodePage::new(850).unwrap()).unwrap()
}

/// Files of many names, lengths and depths.
fn fill(folder: &Path, cluster: usize) {
    let sub = folder.join("A folder with a long name/deeper/and deeper");
    fs::create_dir_all(&sub).unwrap();
    fs::create_dir(folder.join("EMPTY")).unwrap();
    let names = [
        "README.TXT",
        "lower.txt",
        "Mixed Case Name.Text",
        "noextension",
        "two.dots.in.it",
        "LONGNAME-first.dat",
        "longname-second.dat",
        "LongName-third.dat",
        "Ärger mit Umlauten.txt",
        "grüße an alle",
        "ÉTÉ",
        "日本語のファイル名.txt",
        "😀 beyond the first plane",
        ".hidden",
        "a",
        "+,;=[].plus",
        &"x".repeat(200),
    ];
    for (index, name) in names.iter().enumerate() {
        let length = [0, 1, cluster - 1, cluster, cluster + 1, cluster * 3 + 7][index % 6];
        fs::write(folder.join(name), noise(index as u64, length)).unwrap();
        fs::write(sub.join(name), noise(index as u64 + 100, index)).unwrap();
    }
    for index in 0..150 {
        let name = format!("one of a hundred and fifty, number {index}");
        fs::write(folder.join("A folder with a long name").join(name), [index]).unwrap();
    }
    let script = "find . -exec touch -d '2024-02-29 12:34:56 UTC' {} +";
    shell(&format!("cd '{}' && {script}", folder.display())).unwrap();
}

/// Makes a volume, fills it, removes something and adds more, so that files lie in pieces; then compares.
fn check(options: &str, size: u64) {
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), size);
    let made = shell(&format!(
        "mkfs.fat -n 'A LABEL' {options} '{}'",
        image.display()
    ))
    .unwrap();
    let volume = open(&image);
    let cluster = volume.info().block_size as usize;
    drop(volume);
    let from = scratch.path().join("from");
    fs::create_dir(&from).unwrap();
    fill(&from, cluster);
    let holes = scratch.path().join("holes");
    fs::create_dir(&holes).unwrap();
    for index in 0..12 {
        fs::write(holes.join(format!("hole{index}")), noise(index, cluster)).unwrap();
    }
    fs::write(scratch.path().join("pieces"), noise(77, cluster * 9 + 5)).unwrap();
    let folder = scratch.path().display();
    mtools(
        &image,
        &format!(
            "mcopy -m -i $i '{folder}'/holes/* ::; mcopy -s -m -i $i '{folder}'/from/* '{folder}'/from/.hidden ::; \
             mdel -i $i ::/hole1 ::/hole3 ::/hole5 ::/hole8 ::/hole9; mcopy -m -i $i '{folder}'/pieces ::; mattrib -i $i +h +s -a ::/README.TXT"
        ),
    );
    let ours = on_volume(&open(&image));
    let to = scratch.path().join("to");
    fs::create_dir(&to).unwrap();
    mtools(
        &image,
        &format!("mcopy -s -m -n -i $i ::/* '{}'", to.display()),
    );
    compare(&ours, &on_host(&to), &format!("mtools, {options}: {made}"));
    assert!(ours.len() > 180);
    if let Some(kind) = kind_for_sleuth_kit(&image) {
        let theirs = by_sleuth_kit(&image, scratch.path(), kind);
        let (mut ours, mut theirs) = (files(timeless(ours)), files(timeless(theirs)));
        // It cuts names of more than about 190 bytes, and has no letters for the upper half of 8.3 names.
        ours.retain(|path, _| !path.contains("xxxx") && !path.ends_with("ÉTÉ"));
        theirs.retain(|path, _| !path.contains("xxxx") && !path.ends_with("^T^"));
        assert!(theirs.len() > 150);
        compare(&ours, &theirs, &format!("The Sleuth Kit, {options}"));
    }
    check_facts(&image, options);
}

/// The Sleuth Kit takes volumes by the number of their clusters; mkfs.fat makes small FAT32, too.
fn kind_for_sleuth_kit(image: &Path) -> Option<&'static str> {
    let told = shell(&format!("fsstat -t '{}'", image.display()));
    match told.unwrap_or_default().trim() {
        "fat12" => Some("fat12"),
        "fat16" => Some("fat16"),
        "fat32" => Some("fat32"),
        other => {
            println!("SKIPPED: The Sleuth Kit does not take it for FAT: {other}");
            None
        }
    }
}

fn check_facts(image: &Path, options: &str) {
    let volume = open(image);
    let info = volume.info();
    assert_eq!(info.label, "A LABEL");
    assert!(info.clean, "{options}: {:?}", info.notes);
    assert_eq!(info.defects().count(), 0, "{:?}", info.notes);
    let free: String = mtools(
        image,
        "minfo -i $i :: >/dev/null 2>&1; mdir -i $i :: | tail -n 2",
    );
    let digits: String = free
        .split("bytes free")
        .next()
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    assert_eq!(info.free.to_string(), digits, "{options}: {free}");
    let readme = volume
        .lookup(volume.root(), b"readme.txt")
        .unwrap()
        .unwrap();
    assert_eq!(readme.name, b"README.TXT");
    assert_eq!(volume.attributes(readme.id).unwrap().dos_flags, 6);
    let short = volume
        .lookup(volume.root(), b"mixedc~1.tex")
        .unwrap()
        .unwrap();
    assert_eq!(short.name, b"Mixed Case Name.Text");
    let umlaut = volume.lookup(volume.root(), "äRGER MIT uMLAUTEN.TXT".as_bytes());
    assert!(umlaut.unwrap().is_some());
}

#[test]
fn volumes_of_every_width_and_sector_size_are_read_as_mtools_does() {
    if !have(&TOOLS) {
        return;
    }
    for (options, size) in [
        ("-F 12 -S 512 -s 4", 4 << 20),
        ("-F 12 -S 1024 -s 2", 7 << 20),
        ("-F 12 -S 4096 -s 1", 12 << 20),
        ("-F 16 -S 512 -s 1", 8 << 20),
        ("-F 16 -S 2048 -s 2", 64 << 20),
        ("-F 16 -S 4096 -s 4 -f 1", 128 << 20),
        ("-F 32 -S 512 -s 1", 40 << 20),
        ("-F 32 -S 1024 -s 1", 80 << 20),
        ("-F 32 -S 4096 -s 1", 300 << 20),
    ] {
        check(options, size);
    }
}

#[test]
fn volumes_of_every_cluster_size_are_read_as_mtools_does() {
    if !have(&TOOLS) {
        return;
    }
    for sectors in [1u64, 2, 8, 16, 32, 64, 128] {
        // The fewest clusters that FAT16 can have, and some.
        check(&format!("-F 16 -s {sectors}"), sectors * 512 * 4400);
        check(&format!("-F 32 -s {sectors}"), sectors * 512 * 67_000);
    }
}

#[test]
fn a_volume_with_many_files_is_read_as_mtools_does() {
    if !have(&TOOLS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), 256 << 20);
    shell(&format!("mkfs.fat -F 32 -s 1 '{}'", image.display())).unwrap();
    let folder = scratch.path().join("many");
    fs::create_dir(&folder).unwrap();
    for index in 0..400 {
        fs::write(
            folder.join(format!("{index:06} has a long name.dat")),
            index.to_string(),
        )
        .unwrap();
    }
    mtools(
        &image,
        &format!("mcopy -s -m -i $i '{}' ::", folder.display()),
    );
    let volume = open(&image);
    let ours = on_volume(&volume);
    let mut theirs = on_host(scratch.path());
    theirs.retain(|path, _| path.starts_with("/many"));
    compare(&timeless(ours), &timeless(theirs), "400 files");
    // A volume that is opened anew knows no folder: parents are found by going through them.
    let known = volume.lookup(volume.root(), b"many").unwrap().unwrap();
    let file = volume
        .lookup(known.id, b"000399 HAS A LONG NAME.DAT")
        .unwrap()
        .unwrap();
    let anew = open(&image);
    assert_eq!(anew.parent(file.id).unwrap(), Some(known.id));
    assert_eq!(anew.parent(known.id).unwrap(), Some(anew.root()));
    assert_eq!(anew.attributes(file.id).unwrap().size, 3);
}

#[test]
fn a_fake_table_of_partitions_in_a_boot_sector_is_none() {
    if !have(&TOOLS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), 64 << 20);
    shell(&format!("mkfs.fat --mbr=y -F 32 '{}'", image.display())).unwrap();
    let layout = cairn_guest::probe::volumes(&FileDisk::open(&image), None).unwrap();
    assert_eq!(layout.volumes.len(), 1);
    assert_eq!(layout.volumes[0].number, 0);
    assert_eq!(
        layout.volumes[0].open().unwrap().info().file_system,
        "fat32"
    );
    assert!(open_volume(FileDisk::open(&image)).unwrap().info().clean);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back(
        names in proptest::collection::btree_map("[a-zA-Z0-9äßéλя日][a-zA-Z0-9 äßéλя日_+-]{0,39}", (0usize..9000, 0usize..6), 1..40),
        width in prop_oneof![Just(12u32), Just(16), Just(32)],
    ) {
        if !have(&TOOLS) {
            return Ok(());
        }
        let scratch = tempfile::tempdir().unwrap();
        let image = blank(scratch.path(), if width == 32 { 40 << 20 } else { 12 << 20 });
        let sectors = if width == 12 { 8 } else { 1 };
        shell(&format!("mkfs.fat -F {width} -s {sectors} '{}'", image.display())).unwrap();
        let from = scratch.path().join("from");
        fs::create_dir(&from).unwrap();
        let mut taken = std::collections::HashSet::new();
        for (name, (length, depth)) in names {
            // Blanks at the ends are nobody's, and case makes no difference.
            let name = name.trim().to_string();
            if name.is_empty() || !taken.insert(name.to_lowercase()) {
                continue;
            }
            let folder = (0..depth).fold(from.clone(), |folder, level| folder.join(format!("Level {level}")));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), noise(length as u64, length)).unwrap();
        }
        shell(&format!("find '{}' -exec touch -d '2001-02-03 04:05:06 UTC' {{}} +", from.display())).unwrap();
        let expected = on_host(&from);
        if !expected.is_empty() {
            mtools(&image, &format!("mcopy -s -m -i $i '{}'/* ::", from.display()));
        }
        compare(&on_volume(&open(&image)), &expected, "mtools wrote it");
    }
}

#[test]
fn a_long_name_left_before_another_entry_hides_no_file() {
    if !have(&TOOLS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), 4 << 20);
    let put = |content: &str, name: &str| {
        let file = scratch.path().join("file");
        std::fs::write(&file, content).unwrap();
        let (image, file) = (image.display(), file.display());
        shell(&format!(
            "MTOOLS_SKIP_CHECK=1 mcopy -i '{image}' '{file}' '::{name}'"
        ))
        .unwrap();
    };
    shell(&format!("mkfs.fat -F 12 '{}'", image.display())).unwrap();
    put("a picture", "Report 2020.doc");
    // A writer that knows no long names deleted the file and gave its entry to another: the parts of the long name stay.
    let mut bytes = std::fs::read(&image).unwrap();
    let at = bytes
        .windows(11)
        .position(|name| name == b"REPORT~1DOC")
        .unwrap();
    bytes[at..at + 11].copy_from_slice(b"IMG_0001JPG");
    std::fs::write(&image, &bytes).unwrap();
    put("the report", "Report 2020.doc");
    let bytes = std::fs::read(&image).unwrap();
    let volume = open_volume(Arc::new(bytes) as Arc<dyn ReadAt>).unwrap();
    for (name, content) in [
        ("Report 2020.doc", "the report"),
        ("REPORT 2020.DOC", "the report"),
        ("IMG_0001.JPG", "a picture"),
    ] {
        let found = volume
            .lookup(volume.root(), name.as_bytes())
            .unwrap()
            .unwrap();
        let file = volume.open(found.id).unwrap();
        let mut read = vec![0; file.size() as usize];
        file.read_exact_at(0, &mut read).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), content, "{name}");
    }
}
