//! `versions`: what a machine's files were in all its points. The tree is asked directly, and once through the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{EntryKind, PointFile, PointId, Time};
use cairn_fuse::{Look, MountOptions, Tree, Unmounted, mount_store};
use shared::asked::{content, find, names, record_of, try_find};
use shared::days::{Days, HOME, day, four_days};
use shared::{fuse_is_there, noise, run, text};
use std::fs;
use std::sync::Arc;

/// **[versions]** `versions/<disk>/p<N>/<path>/` in a machine's folder lists the versions of one file over all its points: each content that is not the same as in the point
/// before, by the time of the first point that has it. A file that is the same again later is listed again; times and modes alone make no version. Links are versions by
/// their targets.
///
/// **[version-names]** A version is called by its point's time and the ending of the file's name (`2026-11-20T02-00-00Z.odt`, `.tar.gz` whole), which is a name on Windows
/// too. It is the file of that point itself: with its content, attributes and inode number.
#[test]
fn each_content_is_a_version() {
    let days = four_days();
    let tree = days.tree();
    let report = format!("{HOME}/report.odt");
    let wanted = [1, 2, 4].map(|number| format!("{}.odt", day(number)));
    assert_eq!(names(&tree, &report), wanted);
    for (name, bytes) in wanted
        .iter()
        .zip([noise(50_000, 1), noise(50_000, 3), noise(40_000, 4)])
    {
        let path = format!("{report}/{name}");
        assert!(content(&tree, &path) == bytes, "{name}");
        let point = name.trim_end_matches(".odt");
        let same = find(
            &tree,
            &format!("pc/{point}/files/disk0/p0/home/a/report.odt"),
        );
        let shown = find(&tree, &path);
        assert_eq!(
            (shown.inode, &shown.attributes),
            (same.inode, &same.attributes)
        );
        assert!(!shown.lasting);
    }
    // What is listed says the same as what is looked up.
    for listed in tree
        .readdir(find(&tree, &report).inode)
        .unwrap()
        .iter()
        .skip(2)
    {
        let stat = listed.stat.clone().unwrap();
        let name = String::from_utf8(listed.name.clone()).unwrap();
        assert_eq!(stat, find(&tree, &format!("{report}/{name}")));
    }
    let only = [format!("{}.txt", day(1))];
    assert_eq!(names(&tree, &format!("{HOME}/same.txt")), only);
    assert_eq!(
        names(&tree, &format!("{HOME}/gone.tar.gz")),
        [format!("{}.tar.gz", day(1))]
    );
    assert_eq!(names(&tree, &format!("{HOME}/link")), [day(1)]);
    let link = find(&tree, &format!("{HOME}/link/{}", day(1)));
    assert_eq!(link.attributes.kind, EntryKind::Symlink);
    assert_eq!(tree.readlink(link.inode).unwrap(), b"report.odt");
    assert!(try_find(&tree, &format!("{report}/{}.odt", day(3))).is_none());
    // Back to what it was, and gone and back.
    days.write("/home/a/report.odt", &noise(50_000, 3));
    days.back_up(5);
    days.change(&["rm /home/a/report.odt"]);
    days.back_up(6);
    days.write("/home/a/report.odt", &noise(50_000, 3));
    days.back_up(7);
    let wanted = [1, 2, 4, 5].map(|number| format!("{}.odt", day(number)));
    assert_eq!(names(&days.tree(), &report), wanted);
}

/// **[versions-folders]** Below `versions` every folder lists all names that it had in any point, also those that were deleted since; each of them is a folder in its
/// turn. A name that was a file at one time and a folder at another shows versions and names. Where NTFS ignores case, the newest spelling counts.
#[test]
fn deleted_names_show_up() {
    let days = four_days();
    let tree = days.tree();
    assert_eq!(names(&tree, "pc/versions"), ["disk0"]);
    assert_eq!(names(&tree, "pc/versions/disk0"), ["p0"]);
    let all = ["gone.tar.gz", "link", "new", "report.odt", "same.txt"];
    assert_eq!(names(&tree, HOME), all);
    for nothing in [
        "nothing",
        "report.odt/nothing",
        "link/x",
        "2026-11-01T02-00-00Z",
        ".error",
    ] {
        assert!(
            try_find(&tree, &format!("{HOME}/{nothing}")).is_none(),
            "{nothing}"
        );
    }
    for nothing in ["disk1", "disk0/p1", "disk0/p00", "disk0/p0.error", "DISK0"] {
        assert!(
            try_find(&tree, &format!("pc/versions/{nothing}")).is_none(),
            "{nothing}"
        );
    }
    days.change(&["rmdir /home/a/new"]);
    days.write("/home/a/new", b"a file now");
    days.back_up(5);
    days.change(&[
        "rm /home/a/new",
        "mkdir /home/a/new",
        "mkdir /home/a/new/inner",
    ]);
    days.back_up(6);
    let tree = days.tree();
    assert_eq!(
        names(&tree, &format!("{HOME}/new")),
        [day(5), "inner".into()]
    );
    assert_eq!(
        content(&tree, &format!("{HOME}/new/{}", day(5))),
        b"a file now"
    );
    // The folder above is known to every folder.
    for path in ["pc/versions", "pc/versions/disk0", HOME] {
        let (above, _) = path.rsplit_once('/').unwrap();
        let folder = find(&tree, path);
        let listed = tree.readdir(folder.inode).unwrap();
        assert_eq!(listed[1].inode, find(&tree, above).inode, "{path}");
        assert_eq!(find(&tree, &format!("{path}/..")).inode, listed[1].inode);
        assert_eq!(tree.getattr(folder.inode).unwrap(), folder);
    }
}

/// **[versions-cost]** Nothing is looked at before it is asked for. Looking up a name asks the newest points first; listing a folder or the versions of a file looks at every
/// point in which the volume is not the same as in the point before, three of them open at a time for each of the few requests that are worked at, and what was found is kept: up to 64 folders and files with a million names in
/// all, and the numbers of the last 65,536 paths, 16 MiB at most; a path of more than 64 KiB is ENAMETOOLONG. A number that was forgotten is ESTALE, upon which the kernel looks the path up again.
#[test]
fn what_is_remembered_has_a_bound() {
    let days = Days::new();
    days.back_up(1);
    let first = days.store.find_point("pc@latest").unwrap();
    // The same disk again and again: one look for all of them.
    for number in 2..=28 {
        days.back_up(number);
    }
    let tree = days.tree();
    assert_eq!(names(&tree, "pc").len(), 30);
    assert_eq!(tree.paths_in_use(), 1);
    // Points whose disk is the same are not even looked at: their records alone are read.
    let sessions = || {
        fs::read_dir(days.folder.path().join("store/sessions"))
            .unwrap()
            .count()
    };
    assert_eq!(sessions(), 0);
    assert_eq!(
        names(&tree, &format!("{HOME}/report.odt")),
        [format!("{}.odt", day(1))]
    );
    assert!(sessions() <= 1, "{} points are open", sessions());
    let file = find(&tree, &format!("{HOME}/report.odt/{}.odt", day(1)));
    let same = format!(
        "pc/{}/files/disk0/p0/home/a/report.odt",
        first.time().folder_name()
    );
    assert_eq!(file.inode, find(&tree, &same).inode);
    // Numbers are the same in every mount, and known once their path was looked up.
    let (one, other) = (days.tree(), days.tree());
    let inode = find(&one, HOME).inode;
    assert_eq!(find(&other, HOME).inode, inode);
    assert_eq!(days.tree().getattr(inode).unwrap_err().errno(), 116);
}

/// **[versions-owner]** `versions` is for the one who mounted, as `disks/*.raw` is: it lists names from times at which others may not have been let in. With `permissive` it
/// is for everybody.
#[test]
fn versions_are_for_the_one_who_mounted() {
    let days = Days::new();
    days.back_up(1);
    let mode = |tree: &Tree| find(tree, HOME).attributes.mode;
    assert_eq!(mode(&days.tree()), 0o500);
    let permissive = Look {
        permissive: true,
        ..Look::default()
    };
    let tree = days.tree().shown(permissive, Arc::default());
    assert_eq!(mode(&tree), 0o555);
    let ignoring = Look {
        ignore_case: true,
        ..Look::default()
    };
    let tree = days.tree().shown(ignoring, Arc::default());
    let path = format!("PC/Versions/DISK0/P0/Home/A/REPORT.odt/{}.odt", day(1));
    assert!(content(&tree, &path) == noise(50_000, 1));
}

/// Through the kernel: a new point shows up, what is open stays.
#[test]
fn programs_see_versions_come() {
    if !fuse_is_there() {
        return;
    }
    let days = four_days();
    let mnt = days.folder.path().join("mnt");
    fs::create_dir(&mnt).unwrap();
    let mounted = mount_store(days.store.clone(), &mnt, &MountOptions::default()).unwrap();
    let count = |path: &str| fs::read_dir(mnt.join(path)).unwrap().count();
    let report = format!("{HOME}/report.odt");
    assert_eq!(count(&report), 3);
    let found = run(
        "find",
        &[
            text(&mnt.join("pc/versions")),
            "-name",
            "*.odt",
            "-type",
            "f",
        ],
    );
    assert_eq!(found.lines().count(), 3);
    days.write("/home/a/report.odt", b"the fifth");
    days.back_up(5);
    let newest = mnt.join(&report).join(format!("{}.odt", day(5)));
    let begun = std::time::Instant::now();
    while !newest.exists() {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(60),
            "it does not come"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(fs::read(&newest).unwrap(), b"the fifth");
    assert_eq!(count(&report), 4);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// **[thousands]** Points cost nothing until they are entered: thousands of them are listed by the names of their files, and none is opened or read for that.
#[test]
fn thousands_of_points_are_listed_by_name() {
    let days = Days::new();
    let real = days.back_up(1);
    let record = record_of(days.folder.path(), &real.to_string());
    // Names of points whose files hold nothing: whoever opens one of them fails.
    for number in 1..3000u64 {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let file = PointFile {
            sequence: number + 1,
            seconds: 1_700_000_000 + 3600 * number as i64,
            import: true,
            id: PointId(id),
        };
        fs::write(record.with_file_name(file.name()), "").unwrap();
    }
    let tree = days.tree();
    assert_eq!(names(&tree, ""), ["pc"]);
    let listed = names(&tree, "pc");
    assert_eq!(listed.len(), 3002);
    let sessions = fs::read_dir(days.folder.path().join("store/sessions")).unwrap();
    assert_eq!(sessions.count(), 0);
    assert!(
        content(
            &tree,
            &format!("pc/{}/files/disk0/p0/home/a/report.odt", day(1))
        ) == noise(50_000, 1)
    );
    let broken = Time::from_seconds(1_700_000_000 + 3600).folder_name();
    assert_eq!(
        names(&tree, &format!("pc/{broken}")),
        ["disks", "files", "point.error"]
    );
    // Of the past the one that can be read is told, and each of the others is named, up to a thousand.
    let report = format!("{HOME}/report.odt");
    assert_eq!(
        names(&tree, &report),
        [".error".to_string(), format!("{}.odt", day(1))]
    );
    let said = String::from_utf8(content(&tree, &format!("{report}/.error"))).unwrap();
    assert!(
        said.ends_with("And 1999 more.\n") && said.lines().count() == 1002,
        "{said}"
    );
}
