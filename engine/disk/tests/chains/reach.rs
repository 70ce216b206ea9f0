//! Which files of this machine an image may have opened: who writes to a disk must not decide what is read.

use super::made::{Image, Kind, Op, Parent, byte, id};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind as ErrorKind};
use cairn_disk::{Format, FormatHint, OpenOptions, VirtualDisk, open, open_as, open_with};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn image(path: PathBuf, number: u16, places: &[(&'static str, String)]) -> Image {
    let parent = Parent {
        id: id(1),
        modified: 0,
        places: places.to_vec(),
    };
    Image {
        kind: Kind::Vhd,
        path,
        size: 3 << 20,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent: (!places.is_empty()).then_some(parent),
        ops: vec![Op::Data(u64::from(number) * 8..u64::from(number) * 8 + 1)],
    }
}

fn open_in(path: &Path, folder: &Path) -> cairn_base::Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        parents: vec![folder.to_path_buf()],
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

/// Whether the disk shows what image 1 wrote.
fn shows_victim(disk: &dyn VirtualDisk) -> bool {
    read_vec(disk, 8 * 512, 1).unwrap() == [byte(1, 8 * 512)]
}

fn refusal(path: &Path) -> Error {
    open(path).err().unwrap()
}

#[test]
fn what_lies_elsewhere_is_read_only_if_the_caller_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    for name in ["victim", "tenant/links"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let victim = folder.join("victim/v.vhd");
    let kept = folder.join("victim/kept");
    let disk = folder.join("tenant/disk.raw");
    std::os::unix::fs::symlink(&victim, folder.join("tenant/link.vhd")).unwrap();
    std::os::unix::fs::symlink(folder.join("victim"), folder.join("tenant/links/v")).unwrap();
    let cases = [
        ("MacX", format!("file://{}", victim.display())),
        ("W2ku", victim.display().to_string()),
        ("W2ru", r"..\victim\v.vhd".to_string()),
        ("W2ru", r".\links\..\..\victim\v.vhd".to_string()),
        ("W2ru", r".\link.vhd".to_string()),
        ("W2ru", r".\links\v\v.vhd".to_string()),
    ];
    for case in cases {
        image(disk.clone(), 2, std::slice::from_ref(&case)).write();
        image(victim.clone(), 1, &[]).write();
        let error = refusal(&disk);
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{case:?}: {text}");
        for said in ["not followed", "v.vhd", "--parent DIR"] {
            assert!(
                text.contains(said) || case.1.contains("link.vhd"),
                "{case:?}: {text}"
            );
        }
        // Whether there is such a file is nothing to be learnt.
        if !case.1.contains("link") {
            fs::rename(&victim, &kept).unwrap();
            assert_eq!(refusal(&disk).to_string(), text, "{case:?}");
            fs::rename(&kept, &victim).unwrap();
        }
        assert!(shows_victim(
            &*open_in(&disk, &folder.join("victim")).unwrap()
        ));
        assert!(shows_victim(&*open_in(&disk, &victim).unwrap()));
        assert!(shows_victim(&*open_as(&disk, FormatHint::Vhd).unwrap()));
    }
    // Nor by a link that is found when the folder is searched.
    image(disk.clone(), 2, &[("W2ru", r".\gone.vhd".to_string())]).write();
    assert_eq!(refusal(&disk).kind(), ErrorKind::NotFound);
}

#[test]
fn parents_of_parents_are_looked_for_where_the_whole_chain_lies() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir_all(folder.join("sub")).unwrap();
    image(folder.join("base.vhd"), 1, &[]).write();
    let place = |path: &str| [("W2ru", path.to_string())];
    image(folder.join("sub/middle.vhd"), 2, &place(r"..\base.vhd")).write();
    let mut child = image(folder.join("child.vhd"), 3, &place(r".\sub\middle.vhd"));
    child.parent.as_mut().unwrap().id = id(2);
    child.write();
    assert!(shows_victim(&*open(&child.path).unwrap()));
    // Opened by itself it may not look outside of its folder.
    let error = refusal(&folder.join("sub/middle.vhd"));
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // By a file that the caller names, and by a link to the child.
    let link = folder.join("sub/link.vhd");
    std::os::unix::fs::symlink(&child.path, &link).unwrap();
    assert!(shows_victim(&*open(&link).unwrap()));
}

#[test]
fn a_first_sector_alone_makes_no_differencing_disk() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let disk = folder.join("disk.raw");
    image(folder.join("v.vhd"), 1, &[]).write();
    image(disk.clone(), 2, &[("W2ru", r".\v.vhd".to_string())]).write();
    assert!(shows_victim(&*open(&disk).unwrap()));
    let file = File::options().write(true).open(&disk).unwrap();
    let size = file.metadata().unwrap().len();
    file.write_all_at(&[0; 512], size).unwrap();
    for error in [refusal(&disk), open_in(&disk, folder).err().unwrap()] {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Denied, "{text}");
        for said in ["first sector", "v.vhd", "not followed", "raw"] {
            assert!(text.contains(said), "{text}");
        }
    }
    // Who knows what it is says so.
    let told = open_as(&disk, FormatHint::Vhd).unwrap();
    assert_eq!(told.format(), Format::VhdDifferencing);
    assert!(shows_victim(&*told));
    assert_eq!(open_as(&disk, FormatHint::Raw).unwrap().size(), size + 512);
}
