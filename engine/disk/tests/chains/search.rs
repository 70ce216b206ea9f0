//! Where parents are found, and which ones are refused.

use super::made::{Image, Kind, Op, Parent, byte, id};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind as ErrorKind, Result};
use cairn_disk::{Format, FormatHint, OpenOptions, VirtualDisk, open, open_as, open_with};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const BOTH: [Kind; 2] = [Kind::Vhd, Kind::Vhdx];

fn extension(kind: Kind) -> &'static str {
    match kind {
        Kind::Vhd => "vhd",
        Kind::Vhdx => "vhdx",
    }
}

fn hint(kind: Kind) -> FormatHint {
    match kind {
        Kind::Vhd => FormatHint::Vhd,
        Kind::Vhdx => FormatHint::Vhdx,
    }
}

/// The keys of relative and absolute places.
fn keys(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Vhd => ["W2ru", "W2ku"],
        Kind::Vhdx => ["relative_path", "absolute_win32_path"],
    }
}

/// An image of 3 MiB that wrote sector 8 * `number`.
fn image(kind: Kind, path: PathBuf, number: u16, parent: Option<Parent>) -> Image {
    let at = u64::from(number) * 8;
    Image {
        kind,
        path,
        size: 3 << 20,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent,
        ops: vec![Op::Data(at..at + 1)],
    }
}

fn place(key: &'static str, path: &str) -> (&'static str, String) {
    (key, path.to_string())
}

fn child_of(number: u16, places: &[(&'static str, String)]) -> Option<Parent> {
    Some(Parent {
        id: id(number),
        modified: 0,
        places: places.to_vec(),
    })
}

/// Whether the disk shows what image 1, its oldest, wrote.
fn shows_parent(disk: &dyn VirtualDisk) -> bool {
    read_vec(disk, 8 * 512, 1).unwrap() == [byte(1, 8 * 512)]
}

fn open_in(path: &Path, folder: &Path) -> Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        parents: vec![folder.to_path_buf()],
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

#[test]
fn a_parent_is_found_where_the_child_says() {
    for kind in BOTH {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let ext = extension(kind);
        let [relative, absolute] = keys(kind);
        fs::create_dir_all(folder.join("child/links")).unwrap();
        fs::create_dir(folder.join("base disks")).unwrap();
        let base = folder.join(format!("base disks/base.{ext}"));
        let child = folder.join(format!("child/child.{ext}"));
        image(kind, base.clone(), 1, None).write();
        let beside = folder.join(format!("child/base.{ext}"));
        let cases = [
            place(relative, &format!(r"..\base disks\base.{ext}")),
            place(relative, &format!("../base disks/base.{ext}")),
            place(absolute, base.to_str().unwrap()),
        ];
        for case in &cases {
            // Another disk of that name beside the child is not taken, wherever the right one is.
            image(kind, beside.clone(), 5, None).write();
            image(
                kind,
                child.clone(),
                2,
                child_of(1, std::slice::from_ref(case)),
            )
            .write();
            let disk = open_as(&child, hint(kind)).unwrap();
            assert!(shows_parent(&*disk), "{case:?}");
            // What the image is was not said: its own folder is all it reaches.
            assert!(open(&child).is_err(), "{case:?}");
            let format = disk.format();
            assert!(matches!(
                format,
                Format::VhdDifferencing | Format::VhdxDifferencing
            ));
            assert!(format.to_string().ends_with("differencing"));
        }
        // What the path leads to is another disk; the right one lies beside the child.
        fs::copy(&base, &beside).unwrap();
        image(kind, base.clone(), 5, None).write();
        image(kind, child.clone(), 2, child_of(1, &cases[..1])).write();
        assert!(shows_parent(&*open(&child).unwrap()));
        // A path of Windows: its name counts.
        let windows = [place(absolute, &format!(r"\\?\D:\disks\base.{ext}"))];
        image(kind, child.clone(), 2, child_of(1, &windows)).write();
        assert!(shows_parent(&*open(&child).unwrap()));
        // By a link to the child.
        let link = folder.join(format!("child/links/link.{ext}"));
        std::os::unix::fs::symlink(&child, &link).unwrap();
        assert!(shows_parent(&*open(&link).unwrap()));
    }
}

#[test]
fn a_parent_is_found_by_its_id_whatever_its_name() {
    for kind in BOTH {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let ext = extension(kind);
        let elsewhere = folder.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let child = folder.join(format!("child.{ext}"));
        let base = [place(keys(kind)[0], &format!(r".\Base.{ext}"))];
        image(kind, child.clone(), 2, child_of(1, &base)).write();
        // Not an image, and another image.
        fs::write(elsewhere.join(format!("a.{ext}")), b"nothing").unwrap();
        image(kind, elsewhere.join(format!("b.{ext}")), 7, None).write();
        let error = open_in(&child, &elsewhere).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("Base."), "{error}");
        assert!(error.to_string().contains(&id(1).to_string()), "{error}");
        let renamed = elsewhere.join(format!("RENAMED.{}", ext.to_uppercase()));
        image(kind, renamed.clone(), 1, None).write();
        assert!(open(&child).is_err());
        assert!(shows_parent(&*open_in(&child, &elsewhere).unwrap()));
        assert!(shows_parent(&*open_in(&child, &renamed).unwrap()));
        fs::rename(&renamed, folder.join(format!("base.{ext}"))).unwrap();
        assert!(shows_parent(&*open(&child).unwrap()));
    }
}

#[test]
fn a_folder_full_of_images_leaves_the_others_to_be_searched() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for number in 0..2001 {
        fs::write(folder.join(format!("{number:05}.vhd")), b"nothing").unwrap();
    }
    let child = folder.join("child.vhd");
    let base = [place("W2ru", r".\base.vhd")];
    image(Kind::Vhd, child.clone(), 2, child_of(1, &base)).write();
    image(Kind::Vhd, elsewhere.join("renamed.vhd"), 1, None).write();
    assert!(shows_parent(&*open_in(&child, &elsewhere).unwrap()));
}

#[test]
fn a_parent_that_was_changed_is_refused() {
    for kind in BOTH {
        let temporary = tempfile::tempdir().unwrap();
        let ext = extension(kind);
        let base = temporary.path().join(format!("base.{ext}"));
        let child = temporary.path().join(format!("child.{ext}"));
        image(kind, child.clone(), 2, Some(Parent::beside(kind, 1, &base))).write();
        image(kind, base.clone(), 3, None).write();
        let error = open(&child).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        for said in [
            id(1).to_string(),
            id(3).to_string(),
            base.display().to_string(),
        ] {
            assert!(error.to_string().contains(&said), "{error} lacks {said}");
        }
        // Of another format.
        let other = match kind {
            Kind::Vhd => Kind::Vhdx,
            Kind::Vhdx => Kind::Vhd,
        };
        image(other, base.clone(), 1, None).write();
        assert!(open(&child).is_err());
        fs::write(&base, b"short").unwrap();
        let error = open(&child).err().unwrap();
        assert!(error.to_string().contains("base."), "{error}");
    }
}

#[test]
fn a_vhd_names_the_time_of_its_parent() {
    let temporary = tempfile::tempdir().unwrap();
    let base = temporary.path().join("base.vhd");
    let child = temporary.path().join("child.vhd");
    let then = 700_000_000;
    let mut parent = Parent::beside(Kind::Vhd, 1, &base);
    parent.modified = then;
    image(Kind::Vhd, child.clone(), 2, Some(parent.clone())).write();
    image(Kind::Vhd, base.clone(), 1, None).write();
    let error = open(&child).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let text = error.to_string();
    assert!(
        text.contains("time of change 2022-03-07T20:26:40Z"),
        "{text}"
    );
    // With its time given back, to two seconds.
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800 + seconds);
    let set = |seconds: u64| {
        File::open(&base)
            .unwrap()
            .set_modified(at(seconds))
            .unwrap()
    };
    set(u64::from(then) + 1);
    assert!(shows_parent(&*open(&child).unwrap()));
    set(u64::from(then) + 3);
    assert!(open(&child).is_err());
    set(u64::from(then));
    assert!(open(&child).unwrap().warnings().is_empty());
    // Some write the time that the parent's footer has, and some none: then nobody can tell whether it was changed.
    for (said, warning) in [(1_000_001, "footer"), (0, "does not say")] {
        parent.modified = said;
        image(Kind::Vhd, child.clone(), 2, Some(parent.clone())).write();
        let disk = open(&child).unwrap();
        assert!(shows_parent(&*disk));
        let warnings = disk.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for said in [warning, "base.vhd", "changed"] {
            assert!(warnings[0].contains(said), "{warnings:?}");
        }
    }
    // The parent was not written to since it was made.
    parent.modified = 1_000_001;
    image(Kind::Vhd, child.clone(), 2, Some(parent)).write();
    set(1_000_001);
    assert!(open(&child).unwrap().warnings().is_empty());
}

#[test]
fn circles_and_endless_chains_end() {
    for kind in BOTH {
        let temporary = tempfile::tempdir().unwrap();
        let ext = extension(kind);
        let path = |name: u16| temporary.path().join(format!("{name}.{ext}"));
        let with_parent = |number: u16, of: u16| {
            image(
                kind,
                path(number),
                number,
                Some(Parent::beside(kind, of, &path(of))),
            )
            .write();
        };
        with_parent(1, 1);
        let error = open(&path(1)).err().unwrap();
        assert!(error.to_string().contains("circle"), "{error}");
        with_parent(1, 3);
        with_parent(2, 1);
        with_parent(3, 2);
        let error = open(&path(2)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("circle"), "{error}");
    }
    let temporary = tempfile::tempdir().unwrap();
    let path = |number: u16| temporary.path().join(format!("{number}.vhd"));
    for number in 0..65 {
        let parent = (number > 0).then(|| Parent::beside(Kind::Vhd, number - 1, &path(number - 1)));
        let small = Image {
            size: 4096,
            block_size: 4096,
            ops: Vec::new(),
            ..image(Kind::Vhd, path(number), number, parent)
        };
        small.write();
    }
    assert!(open(&path(63)).is_ok());
    let error = open(&path(64)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn sizes_of_child_and_parent() {
    for (kind, of_parent, fine) in [
        (Kind::Vhd, 2 << 20, true),
        (Kind::Vhd, 4 << 20, false),
        (Kind::Vhdx, 2 << 20, false),
        (Kind::Vhdx, 4 << 20, false),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().join("base");
        let child = temporary.path().join("child");
        let mut parent = image(kind, base.clone(), 1, None);
        parent.size = of_parent;
        parent.ops.push(Op::Data(4000..4096));
        parent.write();
        image(kind, child.clone(), 2, Some(Parent::beside(kind, 1, &base))).write();
        match open(&child) {
            Ok(disk) => {
                assert!(fine, "{kind:?} {of_parent}");
                // What the parent does not reach is zeros.
                let bytes = read_vec(&*disk, (2 << 20) - 512, 1024).unwrap();
                assert!(bytes[..512].iter().all(|byte| *byte != 0));
                assert_eq!(bytes[512..], [0; 512]);
                let extents = disk.data_extents(0..u64::MAX).unwrap();
                assert!(extents.last().unwrap().end <= 2 << 20, "{extents:?}");
            }
            Err(error) => {
                assert!(!fine, "{error}");
                assert!(
                    error.to_string().contains(&of_parent.to_string()),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_change_of_any_file_of_the_chain_shows() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |number: u16| temporary.path().join(format!("{number}.vhdx"));
    image(Kind::Vhdx, path(1), 1, None).write();
    for number in 2..4 {
        let parent = Parent::beside(Kind::Vhdx, number - 1, &path(number - 1));
        image(Kind::Vhdx, path(number), number, Some(parent)).write();
    }
    for number in 1..4 {
        let disk = open(&path(3)).unwrap();
        assert_eq!(disk.changed().unwrap(), None);
        let file = File::options().append(true).open(path(number)).unwrap();
        std::io::Write::write_all(&mut &file, &[0; 4096]).unwrap();
        assert_eq!(
            disk.changed()
                .unwrap()
                .map(|path| fs::canonicalize(path).unwrap()),
            Some(fs::canonicalize(path(number)).unwrap())
        );
    }
}

#[test]
fn damage_of_a_parent_names_the_parent_and_leaves_the_rest() {
    let temporary = tempfile::tempdir().unwrap();
    let base = temporary.path().join("base.vhdx");
    let child = temporary.path().join("child.vhdx");
    let mut parent = image(Kind::Vhdx, base.clone(), 1, None);
    parent.ops.push(Op::Data(2048..2050));
    parent.write();
    image(
        Kind::Vhdx,
        child.clone(),
        2,
        Some(Parent::beside(Kind::Vhdx, 1, &base)),
    )
    .write();
    // The table lies at 3 MiB: the second block gets a state that does not exist.
    let file = File::options().write(true).open(&base).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[5], (3 << 20) + 8).unwrap();
    let disk = open(&child).unwrap();
    assert!(shows_parent(&*disk));
    let error = read_vec(&*disk, 1 << 20, 512).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("base.vhdx"), "{error}");
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    let covers = |extent: &Range<u64>| extent.start <= 1 << 20 && extent.end >= 2 << 20;
    assert!(extents.iter().any(covers), "{extents:?}");
    // A child whose sector bitmap is not there.
    let file = File::options().write(true).open(&child).unwrap();
    let entry = (3u64 << 20) + 4096 * 8;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8], entry).unwrap();
    let disk = open(&child).unwrap();
    let error = read_vec(&*disk, 0, 512).unwrap_err();
    assert!(error.to_string().contains("sector bitmap"), "{error}");
    assert!(error.to_string().contains("child.vhdx"), "{error}");
}
