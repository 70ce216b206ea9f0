//! Machines of recovery points start, up to the question who logs in, and write to private copies of their disks.
//!
//! One is made by `tests/machine.sh`, with a boot loader of its own; it notes each start, and whether what it wrote at the earlier
//! ones is there. Another is the one that CAIRN_BOOT_IMAGE names, if it does.

use super::bench::{Bench, search_path, text, tool};
use super::mount::{Mounted, have_fuse};
use super::serve::Served;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No machine takes so long to start.
const PATIENCE: Duration = Duration::from_secs(900);

/// A machine that can be started.
struct Machine {
    /// Its disk, a raw image.
    image: PathBuf,
    /// The program that it runs in.
    qemu: PathBuf,
    /// Whether it is the one of `tests/machine.sh`.
    is_ours: bool,
}

/// All machines that there are; says so if there is none.
fn machines() -> Vec<Machine> {
    // target/debug/deps/all-0123456789abcdef
    let test = std::env::current_exe().unwrap();
    let made = test.ancestors().nth(3).unwrap().join("machine");
    let name = "qemu-system-x86_64";
    let installed = search_path()
        .split(':')
        .map(|at| Path::new(at).join(name))
        .find(|path| path.exists());
    let qemu = installed.unwrap_or_else(|| made.join("bin").join(name));
    if !qemu.exists() {
        println!("SKIPPED: {name} is not installed, and tests/machine.sh has not fetched it");
        return Vec::new();
    }
    let ours = made.join("disk.raw");
    let theirs = std::env::var_os("CAIRN_BOOT_IMAGE").map(PathBuf::from);
    if !ours.exists() {
        println!("SKIPPED: tests/machine.sh has not made a machine to start");
    }
    let images = [Some(ours).filter(|ours| ours.exists()), theirs];
    let numbered = images.into_iter().enumerate();
    numbered
        .filter_map(|(number, image)| {
            Some(Machine {
                image: image?,
                qemu: qemu.clone(),
                is_ours: number == 0,
            })
        })
        .collect()
}

impl Machine {
    /// Starts it from `disk`, a path or the address of a server, and waits until it asks who logs in. Then its power is cut.
    fn boots(&self, bench: &Bench, disk: &str) {
        let serial = bench.path("serial");
        // What it said at its last start.
        drop(fs::remove_file(&serial));
        let mut machine = Command::new(&self.qemu);
        machine
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", &format!("file:{}", text(&serial))])
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::null());
        let offset = match self.is_ours {
            true => 0,
            false => with_kernel(bench, &mut machine),
        };
        let kind = "format=raw,if=none,id=disk,discard=unmap";
        machine.args(["-drive", &format!("file={disk},offset={offset},{kind}")]);
        let mut machine = machine.spawn().unwrap();
        let begun = Instant::now();
        let answer = loop {
            let said = fs::read(&serial).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            if said.contains(" login:") {
                break Ok(());
            }
            let ended = machine.try_wait().unwrap().is_some();
            if ended || said.contains("Kernel panic") || begun.elapsed() > PATIENCE {
                break Err(said);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        drop(machine.kill());
        drop(machine.wait());
        if let Err(said) = answer {
            panic!("it does not come up:\n{said}");
        }
        let seconds = begun.elapsed().as_secs();
        println!("COUNTED: 1 machines started until they asked who logs in");
        println!("COUNTED: {seconds} seconds until machines asked who logs in");
    }

    /// What a disk of it says after this many starts, and that the point is what it was.
    fn has_written(&self, bench: &Bench, disk: &Path, starts: usize) {
        if !self.is_ours {
            return;
        }
        let name = format!("after{starts}");
        bench.backup(&name, &[text(disk)]);
        let address = |path: &str| format!("{name}@latest:/disk0/p1/var/{path}");
        let log = bench.expect(0, &["cat", "store", &address("log/starts")]);
        let expected = (1..=starts).map(|start| format!("start {start}, files are whole"));
        assert_eq!(log.lines(), expected.collect::<Vec<_>>());
        let files = bench.expect(0, &["ls", "store", &address("lib")]).text();
        for start in 0..=starts {
            assert!(files.contains(&format!("file{start}")), "{files}");
        }
        assert!(!files.contains("once"), "{files}");
        let point = bench.expect(0, &["restore", "store", "web01@latest", "--to", "-"]);
        assert!(point.stdout == fs::read(&self.image).unwrap());
    }
}

/// Has the machine `web01` start without its firmware: with the kernel in `/boot` of its second partition, which is its root.
/// Answers where that begins.
fn with_kernel(bench: &Bench, machine: &mut Command) -> u64 {
    let at = |path: &str| format!("web01@latest:/disk0{path}");
    let list = |path: &str| {
        let list = bench.expect(0, &["ls", "store", &at(path), "--json"]);
        list.json().as_array().unwrap().clone()
    };
    let names = list("/p2/boot");
    let fetch = |begin: &str| {
        let mut names = names.iter().filter_map(|entry| entry["name"].as_str());
        let name = names
            .find(|name| name.starts_with(begin))
            .expect("a kernel in /boot");
        let file = bench.expect(0, &["cat", "store", &at(&format!("/p2/boot/{name}"))]);
        let path = bench.path(begin);
        fs::write(&path, file.stdout).unwrap();
        path
    };
    machine
        .args(["-kernel", text(&fetch("vmlinuz-"))])
        .args(["-initrd", text(&fetch("initrd.img-"))])
        // The root is the whole of what the machine sees, so its own list of file systems is of no use.
        .args(["-append", "root=/dev/vda rw console=ttyS0 fstab=no"]);
    let volumes = list("");
    let root = volumes.iter().find(|volume| volume["name"] == "p2");
    root.unwrap()["start"].as_u64().unwrap()
}

#[test]
fn machines_boot_over_nbd_and_go_on_with_what_they_wrote() {
    for machine in machines() {
        let bench = Bench::new();
        bench.backup("web01", &[text(&machine.image)]);
        let point = ["store", "web01@latest", "--writable"];
        let kept = [&point[..], &["--scratch", "scratch", "--keep"]].concat();
        for starts in 1..=2 {
            let served = Served::new(&bench, &kept);
            machine.boots(&bench, &served.uris[0]);
            served.end(0);
            let served = Served::new(&bench, &kept);
            let disk = bench.path("disk.raw");
            if machine.is_ours {
                let from = ["convert", "-f", "raw", "-O", "raw", &served.uris[0]];
                tool("qemu-img", &[&from[..], &[text(&disk)]].concat());
            }
            machine.has_written(&bench, &disk, starts);
            served.end(0);
        }
    }
}

#[test]
fn machines_boot_from_the_disks_of_a_mount() {
    for machine in machines() {
        if !have_fuse() {
            return;
        }
        let bench = Bench::new();
        bench.backup("web01", &[text(&machine.image)]);
        // What is not kept is gone the second time, and the first start is the first one again.
        for _ in 1..=2 {
            let mounted = Mounted::with(&bench, "store", &["--writable", "--scratch", "scratch"]);
            let latest = mounted.folder.join("web01/latest");
            let disk = latest.join("disks/disk0.raw");
            machine.boots(&bench, text(&disk));
            machine.has_written(&bench, &disk, 1);
            if machine.is_ours {
                let log = latest.join("files/disk0/p1/var/log/starts");
                assert_eq!(fs::read(log).unwrap(), b"", "files are the point's");
            }
            mounted.end();
        }
        let left = fs::read_dir(bench.path("scratch")).unwrap().count();
        assert_eq!(left, 0);
    }
}
