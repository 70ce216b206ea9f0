//! Disks served over NBD: to the tools of qemu and libnbd, and to clients that mean harm.

use super::bench::{Bench, Running, eventually, have, text, tool};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server in the background, and how to reach what it serves.
pub(super) struct Served {
    process: Running,
    pub(super) uris: Vec<String>,
    socket: PathBuf,
}

impl Served {
    pub(super) fn new(bench: &Bench, arguments: &[&str]) -> Served {
        let socket = bench.path("socket");
        let all = [&["serve", "nbd"], arguments, &["--socket", text(&socket)]].concat();
        Served::start(bench, &all, socket.clone())
    }

    fn start(bench: &Bench, arguments: &[&str], socket: PathBuf) -> Served {
        let said = bench.path("uris");
        let output = File::create(&said).unwrap();
        let mut process = bench.start_into(Stdio::from(output), arguments);
        let uris = || fs::read_to_string(&said).unwrap();
        eventually("it is served", || {
            assert!(
                process.is_alive() || uris().ends_with('\n'),
                "it ended at once"
            );
            uris().ends_with('\n')
        });
        let uris = uris().lines().map(str::to_string).collect();
        Served {
            process,
            uris,
            socket,
        }
    }

    pub(super) fn end(mut self, code: i32) -> String {
        self.process.signal("INT");
        let (status, answer) = self.process.end();
        assert_eq!(status.code(), Some(code), "{}", answer.stderr);
        assert!(!self.socket.exists());
        answer.stderr
    }
}

/// A disk of noise and holes.
fn disk(bench: &Bench, name: &str, seed: u64) -> PathBuf {
    let path = bench.noise(name, seed, 3 << 20);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len((9 << 20) + 512).unwrap();
    path
}

#[track_caller]
fn same(raw: &Path, uri: &str) {
    tool(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", text(raw), uri],
    );
}

#[track_caller]
fn qemu_io(target: &str, commands: &[String]) -> String {
    let mut arguments = vec!["-f", "raw"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(target);
    tool("qemu-io", &arguments)
}

#[test]
fn tools_of_qemu_read_what_was_backed_up() {
    let bench = Bench::new();
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let (a, b) = (disk(&bench, "a.raw", 1), disk(&bench, "b.raw", 2));
    bench.backup("web01", &["system=a.raw", "b.raw"]);
    let served = Served::new(&bench, &["store", "web01@latest"]);
    assert_eq!(served.uris.len(), 2);
    assert!(served.uris[0].starts_with("nbd+unix:///system?socket=/"));
    let mode = fs::metadata(&served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    same(&a, &served.uris[0]);
    same(&b, &served.uris[1]);
    // No name is the first disk.
    same(&a, &served.uris[0].replace("system", ""));
    let map = tool("qemu-img", &["map", "--output=json", &served.uris[0]]);
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    assert_eq!(map[0]["data"], true);
    assert_eq!(map[1]["zero"], true);
    assert_eq!(map[1]["data"], false);
    let copy = bench.path("copy.qcow2");
    tool(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            &served.uris[1],
            text(&copy),
        ],
    );
    tool(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", text(&b), text(&copy)],
    );
    let mut write = Command::new("qemu-io");
    write.args(["-f", "raw", "-c", "write 0 512", &served.uris[0]]);
    assert!(
        !write.output().unwrap().status.success(),
        "it cannot be written to"
    );
    served.end(0);
    let served = Served::new(&bench, &["b.raw", "--disk", "disk0"]);
    same(&b, &served.uris[0]);
    served.end(0);
}

#[test]
fn tools_of_libnbd_read_what_was_backed_up() {
    let bench = Bench::new();
    if !have(&["nbdinfo", "nbdcopy"]) {
        return;
    }
    let a = disk(&bench, "a.raw", 3);
    bench.backup("web01", &["a.raw"]);
    let served = Served::new(&bench, &["store", "web01@latest", "--writable"]);
    let uri = &served.uris[0];
    let facts = tool("nbdinfo", &["--json", uri]);
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    let export = &facts["exports"][0];
    assert_eq!(facts["protocol"], "newstyle-fixed");
    assert_eq!(facts["structured"], true);
    assert_eq!(export["export-size"], (9 << 20) + 512);
    for can in [
        "cache",
        "df",
        "fast_zero",
        "flush",
        "fua",
        "multi_conn",
        "trim",
        "zero",
    ] {
        assert_eq!(export[format!("can_{can}")], true, "{can}");
    }
    assert!(tool("nbdinfo", &["--list", uri]).contains("disk0 of web01 at "));
    assert!(tool("nbdinfo", &["--map", uri]).contains("hole,zero"));
    // Several connections at once, many requests on each.
    let copy = bench.path("copy.raw");
    tool(
        "nbdcopy",
        &["--connections=4", "--requests=16", uri, text(&copy)],
    );
    assert!(fs::read(&copy).unwrap() == fs::read(&a).unwrap());
    let other = disk(&bench, "other.raw", 4);
    tool(
        "nbdcopy",
        &["--connections=4", "--flush", text(&other), uri],
    );
    tool("nbdcopy", &[uri, text(&copy)]);
    assert!(fs::read(&copy).unwrap() == fs::read(&other).unwrap());
    served.end(0);
}

/// The same writes for everybody.
fn writes(seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let size = (9 << 20) + 512;
    let mut commands = Vec::new();
    for _ in 0..80 {
        let at = next(size / 512) * 512;
        let length = (next(200) * 512 + 512).min(size - at);
        commands.push(match next(8) {
            0 => format!("write -z {at} {length}"),
            1 => format!("write -z -u {at} {length}"),
            2 => format!("write -f -P {} {at} {length}", next(256)),
            3 => "flush".to_string(),
            pattern => format!("aio_write -P {} {at} {length}", pattern * 31),
        });
        // One after the other, so that all agree on what comes last.
        commands.push("aio_flush".to_string());
    }
    commands
}

#[test]
fn what_is_written_goes_to_a_copy_that_is_kept_or_not() {
    let bench = Bench::new();
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let a = disk(&bench, "a.raw", 5);
    bench.backup("web01", &["a.raw"]);
    let model = bench.path("model.raw");
    fs::copy(&a, &model).unwrap();
    let scratch = bench.path("scratch");
    let point = ["store", "web01@latest"];
    let writable = [&point[..], &["--writable", "--scratch", text(&scratch)]].concat();
    let kept = [&writable[..], &["--keep"]].concat();
    let mut served = Served::new(&bench, &kept);
    qemu_io(text(&model), &writes(1));
    qemu_io(&served.uris[0], &writes(1));
    same(&model, &served.uris[0]);
    // Another one must not have it too.
    let socket = bench.path("second");
    let second = [&["serve", "nbd"], &kept[..], &["--socket", text(&socket)]].concat();
    assert!(bench.expect(5, &second).stderr.contains("another process"));
    // qemu-io has flushed at its end.
    served.process.signal("KILL");
    served.process.end();
    let served = Served::new(&bench, &kept);
    same(&model, &served.uris[0]);
    qemu_io(text(&model), &writes(2));
    qemu_io(&served.uris[0], &writes(2));
    served.end(0);
    let served = Served::new(&bench, &kept);
    same(&model, &served.uris[0]);
    served.end(0);
    // Not kept: gone at the end, and nothing to be seen of it before.
    let files = fs::read_dir(&scratch).unwrap().count();
    for _ in 0..2 {
        let served = Served::new(&bench, &writable);
        same(&a, &served.uris[0]);
        qemu_io(&served.uris[0], &writes(3));
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), files);
        served.end(0);
    }
    let served = Served::new(&bench, &point);
    same(&a, &served.uris[0]);
    served.end(0);
}

#[test]
fn a_full_scratch_disk_is_an_error_to_the_writer_and_nothing_else() {
    let bench = Bench::new();
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let Some(small) = super::full::Small::of(bench.path("small"), "1M") else {
        return;
    };
    let a = disk(&bench, "a.raw", 6);
    bench.backup("web01", &["a.raw"]);
    let served = Served::new(
        &bench,
        &["store", "web01@latest", "--writable", "--scratch", "small"],
    );
    let uri = &served.uris[0];
    let mut write = Command::new("qemu-io");
    write.args(["-f", "raw", "-c", "write -P 7 0 4M", uri]);
    let out = write.output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("No space left on device"), "{said}");
    // What was not written to is as before, and what was is the old or the new.
    let model = bench.path("model.raw");
    tool(
        "qemu-img",
        &["convert", "-f", "raw", "-O", "raw", uri, text(&model)],
    );
    let (now, before) = (fs::read(&model).unwrap(), fs::read(&a).unwrap());
    assert!(now[4 << 20..] == before[4 << 20..]);
    let mut pairs = now.iter().zip(&before);
    assert!(pairs.all(|(now, before)| now == before || *now == 7));
    let told = served.end(3);
    assert!(told.contains("disk0: a write at byte 0 failed"), "{told}");
    drop(small);
}

#[test]
fn a_point_that_is_served_stays_while_it_is_forgotten_and_pruned() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let a = disk(&bench, "a.raw", 7);
    disk(&bench, "b.raw", 8);
    let first = bench.backup("web01", &["a.raw"]);
    bench.backup("web01", &["b.raw"]);
    let id = first["point"].as_str().unwrap();
    let served = Served::new(&bench, &["store", id]);
    bench.expect(0, &["forget", "store", id]);
    bench.expect(0, &["prune", "store"]);
    same(&a, &served.uris[0]);
    served.end(0);
    assert_eq!(bench.store_files("sessions"), Vec::<PathBuf>::new());
}

/// Sends bytes and reads until the server hangs up, or has said enough.
fn say(socket: &Path, bytes: &[u8]) -> usize {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The server may have gone before all is sent.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut said = Vec::new();
    drop(stream.take(1 << 20).read_to_end(&mut said));
    said.len()
}

#[test]
fn clients_that_mean_harm_do_none() {
    let bench = Bench::new();
    let a = disk(&bench, "a.raw", 9);
    bench.backup("web01", &["a.raw"]);
    let served = Served::new(&bench, &["store", "web01@latest", "--writable"]);
    let option = |number: u32, length: u32| {
        [
            &b"\0\0\0\x03IHAVEOPT"[..],
            &number.to_be_bytes(),
            &length.to_be_bytes(),
        ]
        .concat()
    };
    let begun = [&option(1, 5)[..], b"disk0"].concat();
    let request = |command: u16, offset: u64, length: u32| {
        let numbers = [
            &[0x25, 0x60, 0x95, 0x13, 0, 0][..],
            &command.to_be_bytes(),
            &[0; 8],
        ];
        [
            &numbers.concat()[..],
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ]
        .concat()
    };
    let after = |rest: &[u8]| [&begun[..], rest].concat();
    let conversations = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xFF; 100_000],
        option(1, u32::MAX),
        option(7, 65_536),
        [&option(1, 5)[..], b"nodis"].concat(),
        after(&[0; 28]),
        after(&request(1, 0, u32::MAX)),
        after(&request(0, 0, u32::MAX)),
        after(&request(0, u64::MAX - 5, 10)),
        after(&request(1, 0, 4096)),
        after(&request(0, 0, 9 << 20).repeat(500)),
    ];
    // Some are silent and stay.
    let mut silent: Vec<UnixStream> = Vec::new();
    for bytes in &conversations {
        assert!(say(&served.socket, bytes) >= 18, "everybody is greeted");
        silent.push(UnixStream::connect(&served.socket).unwrap());
        silent.last_mut().unwrap().write_all(&bytes[..3]).unwrap();
    }
    // And an honest one is served all the same.
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    stream.write_all(&after(&request(0, 512, 1024))).unwrap();
    let mut said = vec![0; 18 + 10 + 16 + 1024];
    stream.read_exact(&mut said).unwrap();
    assert!(said[44..] == fs::read(&a).unwrap()[512..1536]);
    // More than there may be are turned away, and those that are there stay.
    for _ in 0..60 {
        silent.push(UnixStream::connect(&served.socket).unwrap());
    }
    let last = silent.last_mut().unwrap();
    let ended = last.read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    stream.write_all(&request(0, 0, 512)).unwrap();
    stream.read_exact(&mut said[..16 + 512]).unwrap();
    let told = served.end(3);
    assert!(told.contains("a client could not be served"), "{told}");
}

#[test]
fn sockets_and_ports_are_taken_with_care() {
    let bench = Bench::new();
    disk(&bench, "a.raw", 10);
    let socket = bench.path("socket");
    let serve = ["serve", "nbd", "a.raw", "--socket", "socket"];
    fs::write(&socket, "mine").unwrap();
    assert!(bench.expect(1, &serve).stderr.contains("there is a file"));
    assert_eq!(fs::read(&socket).unwrap(), b"mine");
    fs::remove_file(&socket).unwrap();
    // What a process left that was killed is replaced.
    let mut killed = Served::new(&bench, &["a.raw"]);
    killed.process.signal("KILL");
    killed.process.end();
    assert!(socket.exists());
    let served = Served::new(&bench, &["a.raw"]);
    assert!(bench.expect(5, &serve).stderr.contains("another process"));
    served.end(0);

    let far = ["serve", "nbd", "a.raw", "--listen", "0.0.0.0:0"];
    assert!(bench.expect(2, &far).stderr.contains("--allow-remote"));
    for (address, shown) in [
        ("127.0.0.1:0", "nbd://127.0.0.1:"),
        ("[::1]:0", "nbd://[::1]:"),
    ] {
        if std::net::TcpListener::bind(address).is_err() {
            println!("SKIPPED: {address} cannot be listened on here");
            continue;
        }
        let near = ["serve", "nbd", "a.raw", "--listen", address];
        let served = Served::start(&bench, &near, bench.path("none"));
        assert!(served.uris[0].starts_with(shown), "{}", served.uris[0]);
        let port = served.uris[0]
            .trim_start_matches(shown)
            .trim_end_matches("/disk0");
        assert_ne!(port.parse::<u16>().unwrap(), 0);
        if have(&["qemu-img"]) {
            same(&bench.path("a.raw"), &served.uris[0]);
        }
        served.end(0);
    }
    bench.expect(2, &["serve", "nbd", "store"]);
    bench.expect(1, &["serve", "nbd", "a.raw", "--disk", "other"]);
    bench.expect(2, &["serve", "nbd", "a.raw", "--keep"]);
}
