//! A bare ext4 image with what is rare: odd names, a huge file, devices, sockets, lists, capabilities.

use super::{run, text};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Length of the file `huge`: 5 GiB, all hole but its end.
pub const HUGE: u64 = 5 << 30;
/// What `huge` ends with.
pub const END: &[u8] = b"the end";
/// A name that is not UTF-8.
pub const LATIN: &[u8] = b"caf\xe9.txt";

/// A name of 255 bytes.
pub fn long_name() -> String {
    format!("{}é", "n".repeat(253))
}

/// The image, made once for a test program. Files have lists, devices and owners only if root makes it.
pub fn odd() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let name = std::env::current_exe().unwrap();
        let name = name.file_name().unwrap().to_str().unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("odd-{name}"));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        let (source, image) = (folder.join("source"), folder.join("odd.raw"));
        fill(&source);
        let arguments = [
            "-q",
            "-t",
            "ext4",
            "-F",
            "-d",
            text(&source),
            text(&image),
            "32m",
        ];
        run("mke2fs", &arguments);
        fs::remove_dir_all(&source).unwrap();
        image
    })
}

fn fill(source: &Path) {
    fs::create_dir_all(source.join("Docs/Inner")).unwrap();
    fs::create_dir(source.join("secret")).unwrap();
    for (name, content) in [
        ("Docs/ReadMe.TXT", "one"),
        ("Docs/Same", "big"),
        ("Docs/same", "small"),
        ("Docs/Inner/GRÜSSE", "hello"),
        ("secret/key", "of root"),
        ("tool", "#!/bin/sh\n"),
        ("listed", "for nobody too"),
    ] {
        fs::write(source.join(name), content).unwrap();
    }
    fs::write(source.join(OsStr::from_bytes(LATIN)), "latin").unwrap();
    fs::write(source.join(long_name()), "long").unwrap();
    let huge = File::create(source.join("huge")).unwrap();
    huge.set_len(HUGE).unwrap();
    huge.write_all_at(END, HUGE - END.len() as u64).unwrap();
    huge.write_all_at(b"middle", (4 << 30) - 3).unwrap();
    drop(UnixListener::bind(source.join("socket")).unwrap());
    run("mkfifo", &[text(&source.join("fifo"))]);
    for (name, mode) in [
        ("secret", 0o700),
        ("secret/key", 0o600),
        ("tool", 0o6751),
        ("listed", 0o640),
        ("fifo", 0o666),
        ("socket", 0o777),
    ] {
        fs::set_permissions(source.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        fill_as_root(source);
    }
}

fn fill_as_root(source: &Path) {
    for (name, kind, numbers) in [("zero", "c", ["1", "5"]), ("disk", "b", ["7", "0"])] {
        let node = source.join(name);
        run(
            "mknod",
            &["-m", "666", text(&node), kind, numbers[0], numbers[1]],
        );
    }
    let listed = source.join("listed");
    run("setfacl", &["-m", "u:65534:r,g:4321:rw", text(&listed)]);
    run(
        "setfacl",
        &["-d", "-m", "u:65534:rx", text(&source.join("Docs"))],
    );
    let tool = source.join("tool");
    // cap_net_bind_service, as setcap writes it.
    let capability = "0x0100000200040000000000000000000000000000";
    run(
        "setfattr",
        &["-n", "security.capability", "-v", capability, text(&tool)],
    );
    run(
        "setfattr",
        &["-n", "trusted.note", "-v", "for root", text(&tool)],
    );
    std::os::unix::fs::chown(source.join("Docs/Same"), Some(1234), Some(4321)).unwrap();
}
