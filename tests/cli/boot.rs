//! A machine of a recovery point starts, up to its prompt, and writes to a private copy of its disk.

use super::bench::{Bench, have, text};
use super::serve::Served;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a machine needs to start without its firmware: its own kernel and initial file system, and where its root begins on the disk.
pub(super) struct Machine {
    kernel: PathBuf,
    initrd: PathBuf,
    root: u64,
}

impl Machine {
    /// Taken out of the point `web01@latest`, whose root is the second partition and has its kernel in `/boot`.
    pub(super) fn fetched(bench: &Bench) -> Machine {
        let at = |path: &str| format!("web01@latest:/disk0{path}");
        let list = |path: &str| {
            let list = bench
                .expect(0, &["ls", "store", &at(path), "--json"])
                .json();
            list.as_array().unwrap().clone()
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
        let volumes = list("");
        let root = volumes
            .iter()
            .find(|volume| volume["name"] == "p2")
            .unwrap();
        Machine {
            kernel: fetch("vmlinuz-"),
            initrd: fetch("initrd.img-"),
            root: root["start"].as_u64().unwrap(),
        }
    }

    /// Starts it from `disk`, a path or the address of a server, and waits until it asks who logs in.
    pub(super) fn boots(&self, bench: &Bench, disk: &str) {
        let serial = bench.path("serial");
        let port = format!("file:{}", text(&serial));
        let root = self.root;
        let drive = format!("file={disk},format=raw,offset={root},if=none,id=disk,discard=unmap");
        // The root is the whole of what the machine sees, so its own list of file systems is of no use.
        let line = "root=/dev/vda rw console=ttyS0 fstab=no";
        let mut machine = Command::new("qemu-system-x86_64");
        machine
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-serial",
                &port,
            ])
            .args([
                "-kernel",
                text(&self.kernel),
                "-initrd",
                text(&self.initrd),
                "-append",
                line,
            ])
            .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"])
            .stdin(Stdio::null());
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
        println!(
            "COUNTED: {} seconds until machines asked who logs in",
            begun.elapsed().as_secs()
        );
    }
}

/// No machine takes so long to start.
const PATIENCE: Duration = Duration::from_secs(900);

/// The raw image that CAIRN_BOOT_IMAGE names.
pub(super) fn boot_image() -> Option<String> {
    if !have(&["qemu-system-x86_64"]) {
        return None;
    }
    let image = std::env::var("CAIRN_BOOT_IMAGE").ok();
    if image.is_none() {
        println!(
            "SKIPPED: CAIRN_BOOT_IMAGE does not name the image of a machine to boot, which takes a minute or more"
        );
    }
    image
}

#[test]
fn a_machine_boots_from_its_recovery_point() {
    let Some(image) = boot_image() else { return };
    let bench = Bench::new();
    bench.backup("web01", &[&image]);
    let machine = Machine::fetched(&bench);
    let served = Served::new(&bench, &["store", "web01@latest", "--writable"]);
    machine.boots(&bench, &served.uris[0]);
    served.end(0);
}
