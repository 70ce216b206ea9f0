//! The mount shared on: handles as an NFS server uses them, and Samba. Both need root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::DiskView;
use cairn_fuse::{Look, MountOptions, Mounted, Unmounted, mount_image, mount_store};
use shared::disks::windows;
use shared::odd::odd;
use shared::{fixture, fuse_is_there, run, store, text};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Makes and opens handles: the system calls have no safe wrapper, and perl is on every Debian. `make PATH` prints one, `open MNT HANDLE` the content or the error's number.
const HANDLES: &str = r#"
use strict; use Config;
my ($name, $open) = $Config{archname} =~ /^x86_64/ ? (303, 304) : $Config{archname} =~ /^aarch64/ ? (264, 265) : exit 77;
my ($what, $path, $hex) = @ARGV;
if ($what eq 'make') {
    my $handle = pack('Ii', 64, 0) . ("\0" x 64);
    my $mount = pack('i', 0);
    syscall($name, -100, $path, $handle, $mount, 0) == 0 or die "handle: $!";
    print unpack('H*', substr($handle, 0, 8 + unpack('I', $handle)));
} else {
    opendir(my $at, $path) or die "mount: $!";
    my $handle = pack('H*', $hex);
    my $file = syscall($open, fileno($at), $handle, 0);
    if ($file < 0) { print 'error ', $! + 0; exit }
    open(my $read, '<&=', $file) or die "read: $!";
    local $/; print <$read>;
}
"#;

fn handles(arguments: &[&str]) -> String {
    let arguments = [&["-e", HANDLES], arguments].concat();
    run("perl", &arguments)
}

fn can_share() -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, who alone can open handles and serve files to others");
        return false;
    }
    fuse_is_there()
}

/// **[handles]** A handle of a file or folder, as NFS servers keep them, opens the same thing after the kernel forgot it, and in the next mount of the store: for all that
/// a point shows of its first 16 disks and 64 partitions. One of something that is not there any more, or was given out for another thing of the same number, is ESTALE;
/// so is one of a folder below `versions` in the next mount, and one of an image in the mount of another image, or of one that was changed.
#[test]
fn handles_outlive_the_mount() {
    let machine = std::env::consts::ARCH;
    if !can_share() || !["x86_64", "aarch64"].contains(&machine) {
        return;
    }
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let mnt = temp.path().join("mnt");
    fs::create_dir(&mnt).unwrap();
    let mount = || mount_store(store.clone(), &mnt, &MountOptions::default()).unwrap();
    let end = |mounted: Mounted| assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    let point = mnt.join("web01/2026-11-20T02-00-00Z");
    let mounted = mount();
    let make = |path: &Path| handles(&["make", text(path)]);
    let open = |handle: &str| handles(&["open", text(&mnt), handle]);
    let hostname = make(&point.join("files/disk0/p1/etc/hostname"));
    let report = make(&point.join("files/disk0/p2/Report.TXT"));
    let raw = make(&point.join("disks/disk0.raw"));
    let past = make(&mnt.join("web01/versions/disk0"));
    assert_eq!(open(&hostname), "web01\n");
    // The kernel forgets what it can; where that is not allowed the next mount shows the same.
    if fs::write("/proc/sys/vm/drop_caches", "2").is_ok() {
        assert_eq!(open(&hostname), "web01\n");
    }
    end(mounted);
    let mounted = mount();
    assert_eq!(open(&hostname), "web01\n");
    assert_eq!(open(&report), "windows says hello");
    assert_eq!(open(&past), "error 116");
    // The number is right and what it was given out for is not.
    let (number, generation) = hostname.split_at(hostname.len() - 8);
    let other = if generation == "01020304" {
        "04030201"
    } else {
        "01020304"
    };
    assert_eq!(open(&format!("{number}{other}")), "error 116");
    assert_eq!(make(&point.join("files/disk0/p1/etc/hostname")), hostname);
    let disk = handles(&["open", text(&mnt), &raw]).len();
    assert!(disk > 0);
    end(mounted);
    // Another store knows nothing of them.
    let other = tempdir().unwrap();
    let strange = cairn::Store::create(&other.path().join("store")).unwrap();
    let mounted = mount_store(strange, &mnt, &MountOptions::default()).unwrap();
    assert_eq!(open(&hostname), "error 116");
    end(mounted);
    of_images(&mnt);
}

/// Every image has the same names and numbers in it.
fn of_images(mnt: &Path) {
    let temp = tempdir().unwrap();
    let other = temp.path().join("other.raw");
    fs::copy(&fixture().disk, &other).unwrap();
    let image = |path: &Path| DiskView::open_image(path).unwrap();
    // Nothing tells what such a disk is.
    let nothing = || DiskView::new("disk0", image(&fixture().disk).disk().clone(), None);
    let mount = |view: DiskView| mount_image(view, mnt, &MountOptions::default()).unwrap();
    let end = |mounted: Mounted| assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    let open = |handle: &str| handles(&["open", text(mnt), handle]);
    let names = ["disks", "disks/disk0.raw", "files/disk0/p1/etc/hostname"];
    let make = || names.map(|name| handles(&["make", text(&mnt.join(name))]));
    let stale = |handles: &[String]| {
        // Its own are given out, so that each number stands for something.
        make();
        let is_stale = |handle: &String| open(handle) == "error 116";
        assert_eq!(
            handles.iter().filter(|it| is_stale(it)).count(),
            handles.len()
        );
    };
    let mounted = mount(image(&fixture().disk));
    let first = make();
    assert_eq!(open(&first[2]), "web01\n");
    end(mounted);
    let mounted = mount(image(&other));
    stale(&first);
    end(mounted);
    let mounted = mount(nothing());
    stale(&first);
    let unknown = make();
    assert_eq!(open(&unknown[2]), "web01\n");
    end(mounted);
    let mounted = mount(nothing());
    stale(&unknown);
    end(mounted);
    let mounted = mount(image(&fixture().disk));
    assert_eq!(make(), first);
    assert_eq!(open(&first[2]), "web01\n");
    assert!(!open(&first[1]).is_empty());
    end(mounted);
}

/// An smbd of our own; ended with the test.
struct Samba {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Samba {
    fn start(folder: &Path, mnt: &Path) -> Samba {
        // Below those that the kernel hands out: one of these may connect to itself.
        let first = 20_000 + (std::process::id() % 10_000) as u16;
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = (first..32_000).find(is_free).unwrap();
        let mut config = format!(
            "[global]\nserver role = standalone server\ninterfaces = 127.0.0.1\nbind interfaces only = yes\nsmb ports = {port}\n\
             map to guest = Bad User\nguest account = nobody\nload printers = no\ndisable spoolss = yes\nunix extensions = no\n\
             log file = {0}/log\npassdb backend = tdbsam:{0}/passdb.tdb\n",
            folder.display()
        );
        for name in [
            "private dir",
            "lock directory",
            "state directory",
            "cache directory",
            "pid directory",
            "ncalrpc dir",
        ] {
            let place = folder.join(name.replace(' ', "-"));
            fs::create_dir(&place).unwrap();
            config.push_str(&format!("{name} = {}\n", place.display()));
        }
        for (share, rule) in [("windows", "no"), ("exact", "yes")] {
            let path = mnt.display();
            config.push_str(&format!(
                "[{share}]\npath = {path}\nread only = yes\nguest ok = yes\ncase sensitive = {rule}\n"
            ));
        }
        let file = folder.join("smb.conf");
        fs::write(&file, config).unwrap();
        // Not with `--no-process-group`: at its end it would take the tests with it.
        let process = Command::new("smbd")
            .args(["--foreground", "--configfile", text(&file)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let samba = Samba {
            process,
            folder: folder.to_path_buf(),
            port,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "smbd does not listen"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        samba
    }

    /// What smbclient says to commands, and whether it was content.
    fn client(&self, share: &str, commands: &str) -> (bool, String) {
        let output = Command::new("smbclient")
            .arg(format!("//127.0.0.1/{share}"))
            .args(["-N", "-p", &self.port.to_string()])
            .arg(format!(
                "--configfile={}",
                self.folder.join("smb.conf").display()
            ))
            .args(["-c", commands])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// A file as the client gets it.
    fn get(&self, share: &str, path: &str) -> Option<Vec<u8>> {
        let here = self.folder.join("fetched");
        fs::remove_file(&here).ok();
        let (_, said) = self.client(share, &format!("get \"{path}\" \"{}\"", here.display()));
        let bytes = fs::read(&here).ok();
        assert!(
            bytes.is_some() || said.contains("NT_STATUS_OBJECT_"),
            "{path}: {said}"
        );
        bytes
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        // Asked to end, it ends the processes it started too.
        drop(
            Command::new("kill")
                .arg(self.process.id().to_string())
                .status(),
        );
        drop(self.process.wait());
    }
}

fn have_samba() -> bool {
    let there = ["/usr/sbin/smbd", "/usr/bin/smbclient"].map(|path| Path::new(path).exists());
    if there != [true; 2] {
        println!("SKIPPED: smbd and smbclient are not installed");
    }
    there == [true; 2]
}

/// **[samba]** Samba shares a mount that others may look at: what its clients list and fetch are the guests' files, with names that differ in case only and names
/// in other letters than asked for; `ignore_case` finds these too where Samba itself does not look for them.
#[test]
fn samba_shares_the_mount() {
    if !can_share() || !have_samba() {
        return;
    }
    let temp = tempdir().unwrap();
    fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (mnt, folder) = (temp.path().join("mnt"), temp.path().join("samba"));
    fs::create_dir(&mnt).unwrap();
    fs::create_dir(&folder).unwrap();
    let store = store(temp.path());
    let disk = cairn::DiskImage::open("odd", odd()).unwrap();
    store
        .backup(
            vec![disk],
            &cairn::BackupOptions::new("odd"),
            &cairn::Silent,
        )
        .unwrap();
    let made = windows(temp.path(), &|_, _| {});
    if let Some(made) = &made {
        let disks = [("sys", &made.system), ("data", &made.data)];
        let disks = disks.map(|(name, path)| cairn::DiskImage::open(name, path).unwrap());
        let options = cairn::BackupOptions::new("pc");
        store
            .backup(Vec::from(disks), &options, &cairn::Silent)
            .unwrap();
    }
    let options = MountOptions {
        allow_other: true,
        look: Look {
            permissive: true,
            ignore_case: true,
            ..Look::default()
        },
        ..MountOptions::default()
    };
    let mounted = mount_store(store, &mnt, &options).unwrap();
    let samba = Samba::start(&folder, &mnt);
    what_clients_see(&samba);
    if made.is_some() {
        links_of_windows(&samba);
    }
    drop(samba);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// Links lead to other volumes, within the share; names with a colon are none for Windows, so letters have others there.
fn links_of_windows(samba: &Samba) {
    let system = "pc\\latest\\files\\sys\\p2";
    for (path, content) in [
        ("Users\\ann\\data\\table.txt", "a table"),
        ("Users\\ann\\volume\\Data\\table.txt", "a table"),
        ("Documents and Settings\\ann\\notes.txt", "ann's notes"),
        ("users\\ANN\\deep\\rooted", "ann's notes"),
    ] {
        let found = samba.get("windows", &format!("{system}\\{path}"));
        assert_eq!(found.as_deref(), Some(content.as_bytes()), "{path}");
    }
    let (fine, listed) = samba.client("windows", "ls \"pc\\latest\\files\\*\"");
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        fine && names.contains(&"sys") && !names.contains(&"C:"),
        "{listed}"
    );
}

fn what_clients_see(samba: &Samba) {
    let files = "web01\\latest\\files\\disk0";
    let point = "web01\\2026-11-20T02-00-00Z\\files\\disk0";
    let (fine, listed) = samba.client("windows", &format!("ls \"{point}\\p1\\*\""));
    assert!(
        fine && listed.contains("Grüße 世界") && listed.contains("large too"),
        "{listed}"
    );
    let (fine, listed) = samba.client("windows", &format!("ls \"{point}\\p1\\many\\*\""));
    assert!(fine, "{listed}");
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.contains("file number"))
            .count(),
        700
    );
    let source = &fixture().source;
    for share in ["windows", "exact"] {
        let get = |path: &str| samba.get(share, path);
        let large = get(&format!("{point}\\p1\\large")).unwrap();
        assert!(large == fs::read(source.join("large")).unwrap(), "{share}");
        assert_eq!(
            get(&format!("{point}\\p1\\etc\\private")).unwrap(),
            b"for root\n"
        );
        assert_eq!(
            get(&format!("{point}\\p2\\report.txt")).unwrap(),
            b"windows says hello"
        );
        assert_eq!(
            get(&format!("{files}\\P1\\ETC\\HostName")).unwrap(),
            b"web01\n",
            "{share}"
        );
        assert_eq!(get(&format!("{point}\\p1\\nothing")), None);
        let odd = "odd\\latest\\files\\odd\\p0\\Docs";
        assert_eq!(get(&format!("{odd}\\Same")).unwrap(), b"big");
        assert_eq!(get(&format!("{odd}\\same")).unwrap(), b"small");
        let version = "web01\\versions\\disk0\\p1\\etc\\hostname\\2026-11-19T02-00-00Z";
        assert_eq!(get(version).unwrap(), b"web01\n");
    }
    let (fine, listed) = samba.client("windows", "ls \"web01\\versions\\disk0\\p1\\etc\\*\"");
    assert!(fine && listed.contains("hostname"), "{listed}");
}
