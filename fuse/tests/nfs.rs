//! The mount shared on over NFS, by a server that keeps handles as the kernel's does. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{BackupOptions, DiskImage, Silent, Store};
use cairn_fuse::{MountOptions, Mounted, Unmounted, mount_store};
use rustix::fs::{major, minor};
use shared::asked::record_of;
use shared::nfs::{Client, Facts, Handle, STALE, Server, have_nfs};
use shared::odd::{END, HUGE, LATIN, long_name, odd};
use shared::{PARTITIONS, back_up, fixture, fuse_is_there, run, store};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

const POINT: &str = "web01/2026-11-20T02-00-00Z";

/// A store, and where it is mounted.
struct Place {
    temp: TempDir,
    store: Store,
    mnt: PathBuf,
}

impl Place {
    /// None where it cannot be shared.
    fn new() -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: not root, who alone can open handles and serve files to others");
            return None;
        }
        if !fuse_is_there() || !have_nfs() {
            return None;
        }
        let temp = tempdir().unwrap();
        let mnt = temp.path().join("mnt");
        fs::create_dir(&mnt).unwrap();
        let store = store(temp.path());
        Some(Place { temp, store, mnt })
    }

    fn mount(&self) -> Mounted {
        let options = MountOptions {
            allow_other: true,
            ..MountOptions::default()
        };
        mount_store(self.store.clone(), &self.mnt, &options).unwrap()
    }

    fn serve(&self, folder: &str) -> Server {
        Server::start(&self.temp.path().join(folder), &self.mnt)
    }
}

/// **[nfs]** An NFS server shares a mount that others may look at: what its clients list and fetch are the guests' files, links and disks, with the numbers, modes,
/// times and counts of links that the mount shows. Names that are not UTF-8 are passed on as they are, though NFS 4 has none.
#[test]
fn nfs_shares_the_mount() {
    let Some(place) = Place::new() else {
        return;
    };
    let disk = DiskImage::open("odd", odd()).unwrap();
    let options = BackupOptions::new("odd");
    place.store.backup(vec![disk], &options, &Silent).unwrap();
    let mounted = place.mount();
    let server = place.serve("server");
    what_programs_fetch(&server, place.temp.path());
    let mut client = server.client();
    for top in [POINT, "odd/latest"] {
        let top = match fs::read_link(place.mnt.join(top)) {
            Ok(target) => format!("odd/{}", target.to_str().unwrap()),
            Err(_) => top.to_string(),
        };
        let seen = compare(&mut client, &place.mnt, &top);
        assert!(seen > 20, "{top}: {seen}");
    }
    rare_things(&mut client, &place.mnt);
    drop(server);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

fn what_programs_fetch(server: &Server, folder: &Path) {
    let source = &fixture().source;
    let listed = run("nfs-ls", &[&server.url("")]);
    assert!(
        listed.contains("web01") && listed.contains("db"),
        "{listed}"
    );
    let many = format!("{POINT}/files/disk0/p1/many");
    let listed = run("nfs-ls", &[&server.url(&many)]);
    assert_eq!(listed.matches("file number").count(), 700, "{listed}");
    let fetch = |path: &str| server.fetch(&format!("{POINT}/{path}"), folder);
    assert!(fetch("files/disk0/p1/large") == fs::read(source.join("large")).unwrap());
    assert_eq!(fetch("files/disk0/p1/etc/deep/er/still/empty"), b"");
    assert_eq!(fetch("files/disk0/p1/etc/private"), b"for root\n");
    assert_eq!(fetch("files/disk0/p2/Report.TXT"), b"windows says hello");
    assert!(fetch("disks/disk0.raw") == fs::read(&fixture().disk).unwrap());
    let version = "web01/versions/disk0/p1/etc/hostname/2026-11-19T02-00-00Z";
    assert_eq!(server.fetch(version, folder), b"web01\n");
}

/// Compares all below a folder with what the mount itself shows; says how much there was.
fn compare(client: &mut Client, mnt: &Path, top: &str) -> usize {
    let mut folders = vec![(client.find(top).unwrap(), mnt.join(top))];
    let mut seen = 0;
    while let Some((folder, path)) = folders.pop() {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(Result::unwrap).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let listed = client.list(&folder).unwrap();
        let told: Vec<&[u8]> = listed.keys().map(Vec::as_slice).collect();
        let here: Vec<_> = names.iter().map(fs::DirEntry::file_name).collect();
        let here: Vec<&[u8]> = here.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(told, here, "{}", path.display());
        seen += names.len();
        for (entry, facts) in names.iter().zip(listed.values()) {
            let metadata = entry.metadata().unwrap();
            assert_eq!(plain(facts), shown(&metadata), "{}", entry.path().display());
            assert!(facts.links > 0);
            if metadata.is_dir() {
                let path = entry.path();
                let below = path.strip_prefix(mnt).unwrap().to_str().unwrap();
                folders.push((client.find(below).unwrap(), path));
            }
        }
    }
    seen
}

/// The change of an entry is the server's to choose.
fn plain(facts: &Facts) -> Facts {
    Facts {
        change: 0,
        ..facts.clone()
    }
}

fn shown(metadata: &fs::Metadata) -> Facts {
    let kind = metadata.file_type();
    let is = [
        kind.is_file(),
        kind.is_dir(),
        kind.is_block_device(),
        kind.is_char_device(),
        kind.is_symlink(),
        kind.is_socket(),
        kind.is_fifo(),
    ];
    Facts {
        kind: 1 + is.iter().position(|is| *is).unwrap() as u32,
        change: 0,
        size: metadata.size(),
        number: metadata.ino(),
        mode: metadata.mode() & 0o7777,
        links: metadata.nlink() as u32,
        modified: (metadata.mtime(), metadata.mtime_nsec() as u32),
    }
}

fn rare_things(client: &mut Client, mnt: &Path) {
    let mut at = |path: &str| client.find(format!("{POINT}/{path}"));
    let link = at("files/disk0/p1/link").unwrap();
    let away = at("files/disk0/p1/away").unwrap();
    let raw = at("disks/disk0.raw").unwrap();
    assert_eq!(at("files/disk0/p1/nothing"), Err(2));
    assert_eq!(client.target(&link).unwrap(), b"etc/hostname");
    assert_eq!(client.target(&away).unwrap(), "/absolute/Ä".as_bytes());
    let disk = fs::read(&fixture().disk).unwrap();
    let from = (PARTITIONS[2].0 << 20) as usize;
    let part = client.read(&raw, from as u64 + 1, 100_000).unwrap();
    assert!(part == disk[from + 1..from + 100_001]);
    assert_eq!(client.read(&raw, disk.len() as u64, 512).unwrap(), b"");
    let latest = fs::read_link(mnt.join("odd/latest")).unwrap();
    let top = format!("odd/{}/files/odd/p0", latest.display());
    let huge = client.find(format!("{top}/huge")).unwrap();
    let end = HUGE - END.len() as u64;
    assert_eq!(client.read(&huge, end, 100).unwrap(), END);
    client.find(format!("{top}/{}", long_name())).unwrap();
    let folder = client.find(&top).unwrap();
    assert!(client.list(&folder).unwrap().contains_key(LATIN));
    let latin = client.find([top.as_bytes(), b"/", LATIN].concat());
    assert_eq!(client.read(&latin.unwrap(), 0, 100).unwrap(), b"latin");
}

/// **[nfs-handles]** What an NFS client keeps of files, folders, links and disks stays good when the store is unmounted and mounted again and its server started anew. A server that
/// tells mounts apart by their device numbers (NFS-Ganesha; the kernel's without `fsid=`) puts that number before the handle, and another mount may get another one. What belongs
/// to a point that was forgotten meanwhile is stale.
#[test]
fn what_clients_keep_outlives_the_mount() {
    let Some(place) = Place::new() else {
        return;
    };
    let paths = [
        "web01",
        POINT,
        "web01/2026-11-20T02-00-00Z/disks/disk0.raw",
        "web01/2026-11-20T02-00-00Z/files/disk0/p1",
        "web01/2026-11-20T02-00-00Z/files/disk0/p1/etc/hostname",
        "web01/2026-11-20T02-00-00Z/files/disk0/p1/large",
        "web01/2026-11-20T02-00-00Z/files/disk0/p1/link",
        "web01/2026-11-20T02-00-00Z/files/disk0/p2/Report.TXT",
    ];
    let facts_of = |client: &mut Client, handles: &[Handle]| -> Vec<Facts> {
        let facts = handles.iter().map(|handle| client.facts(handle));
        facts.map(|facts| plain(&facts.unwrap())).collect()
    };
    let mounted = place.mount();
    let device = fs::metadata(&place.mnt).unwrap().dev();
    let server = place.serve("first");
    let mut client = server.client();
    let handles = paths.map(|path| client.find(path).unwrap());
    let past = client.find("web01/versions/disk0/p1/etc").unwrap();
    let older = "web01/2026-11-19T02-00-00Z";
    let gone = client.find(format!("{older}/files/disk0/p1/etc/hostname"));
    let gone = gone.unwrap();
    let before = facts_of(&mut client, &handles);
    drop(server);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    let older = place.store.find_point(&older.replace('/', "@")).unwrap();
    fs::remove_file(record_of(place.temp.path(), &older.id.to_string())).unwrap();

    let mounted = place.mount();
    let now = fs::metadata(&place.mnt).unwrap().dev();
    let server = place.serve("second");
    let mut client = server.client();
    let kept = handles.map(|handle| renumbered(&handle, device, now));
    assert_eq!(facts_of(&mut client, &kept), before);
    let [_, point, raw, top, hostname, large, link, report] = &kept;
    assert_eq!(client.read(hostname, 0, 100).unwrap(), b"web01\n");
    assert_eq!(client.read(report, 0, 100).unwrap(), b"windows says hello");
    assert_eq!(client.target(link).unwrap(), b"etc/hostname");
    let source = fs::read(fixture().source.join("large")).unwrap();
    assert!(client.read(large, 4_000_000, 65_536).unwrap() == source[4_000_000..4_065_536]);
    let disk = fs::read(&fixture().disk).unwrap();
    assert!(client.read(raw, 1 << 20, 65_536).unwrap() == disk[1 << 20..(1 << 20) + 65_536]);
    assert!(client.list(point).unwrap().contains_key(&b"disks"[..]));
    assert!(client.list(top).unwrap().contains_key(&b"etc"[..]));
    for nothing in [past, gone] {
        let nothing = renumbered(&nothing, device, now);
        assert_eq!(client.facts(&nothing), Err(STALE));
    }
    // And they are what is given out anew.
    assert_eq!(paths.map(|path| client.find(path).unwrap()), kept);
    drop(server);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// A server's handle with the number of another device in it; all else stays, above all what the mount said.
fn renumbered(handle: &Handle, from: u64, to: u64) -> Handle {
    let number = |device: u64| [major(device).to_le_bytes(), minor(device).to_le_bytes()].concat();
    let is_it = |at: &usize| handle[*at..].starts_with(&number(from));
    let found: Vec<usize> = (0..handle.len()).filter(is_it).collect();
    let [at] = found[..] else {
        panic!("device {from} in {handle:x?}: {found:?}");
    };
    let mut handle = handle.clone();
    handle[at..at + 8].copy_from_slice(&number(to));
    handle
}

#[test]
fn clients_see_points_come_and_go() {
    let Some(place) = Place::new() else {
        return;
    };
    let mounted = place.mount();
    let server = place.serve("server");
    let mut client = server.client();
    let root = client.find("").unwrap();
    let machine = client.find("web01").unwrap();
    assert_eq!(client.list(&root).unwrap().len(), 2);
    assert_eq!(client.list(&machine).unwrap().len(), 4);
    back_up(&place.store, "third", None);
    // One that is older than those that are there.
    back_up(&place.store, "web01", Some("2026-11-18T02:00:00Z"));
    until(&mut client, &root, |names| names.contains("third"));
    until(&mut client, &machine, |names| {
        names.contains("2026-11-18T02-00-00Z")
    });
    let gone = place.store.find_point(&POINT.replace('/', "@")).unwrap();
    fs::remove_file(record_of(place.temp.path(), &gone.id.to_string())).unwrap();
    until(&mut client, &machine, |names| !names.contains(&POINT[6..]));
    drop(server);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// Lists a folder until it is as expected.
fn until(client: &mut Client, folder: &Handle, expected: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let names = client.list(folder).unwrap();
        let names: Vec<_> = names
            .keys()
            .map(|name| String::from_utf8_lossy(name))
            .collect();
        let names = names.join("\n");
        if expected(&names) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "still {names}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
