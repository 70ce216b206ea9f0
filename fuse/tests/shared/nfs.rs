//! An NFS server of our own, and as much of a client (NFS 4.0, RFC 7530) as shows what clients keep: programs show no handles.

use super::text;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The status of a handle that stands for nothing any more.
pub const STALE: u32 = 70;
/// What the server calls the mount.
const EXPORT: &str = "points";
/// Where rpcbind listens: a server enters itself there, in the place of any other.
const REGISTRY: [&str; 2] = ["/run/rpcbind.sock", "/var/run/rpcbind.sock"];

/// Whether the programs are there and harm nobody; says so if not.
pub fn have_nfs() -> bool {
    let module = |folder: fs::DirEntry| folder.path().join("ganesha/libfsalvfs.so").exists();
    let modules = fs::read_dir("/usr/lib").is_ok_and(|all| all.flatten().any(module));
    let programs = ["ganesha.nfsd", "nfs-ls", "nfs-cp"].map(|name| format!("/usr/bin/{name}"));
    if !modules || !programs.iter().all(|path| Path::new(path).exists()) {
        println!("SKIPPED: nfs-ganesha, nfs-ganesha-vfs and libnfs-utils are not installed");
        return false;
    }
    let asked = |path: &&str| std::os::unix::net::UnixStream::connect(path).is_ok();
    if REGISTRY.iter().any(asked) {
        println!(
            "SKIPPED: rpcbind is running, where a second NFS server would take the place of the first"
        );
        return false;
    }
    true
}

/// A server; ended with the test.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Shares `mnt` and keeps what it writes in `folder`, a new one.
    pub fn start(folder: &Path, mnt: &Path) -> Server {
        fs::create_dir(folder).unwrap();
        let port = free_port();
        let (config, log) = (folder.join("config"), folder.join("log"));
        let told = format!(
            "NFS_CORE_PARAM {{ NFS_Port = {port}; Bind_addr = 127.0.0.1; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}\n\
             NFSV4 {{ Graceless = true; RecoveryRoot = {0}; Only_Numeric_Owners = true; }}\n\
             NFS_KRB5 {{ Active_krb5 = false; }}\n\
             EXPORT {{ Export_Id = 7; Path = {1}; Pseudo = /{EXPORT}; Access_Type = RO; Squash = No_Root_Squash; SecType = sys; Protocols = 4;\n\
             Attr_Expiration_Time = 0; FSAL {{ Name = VFS; }} }}\n",
            folder.display(),
            mnt.display()
        );
        fs::write(&config, told).unwrap();
        let mut process = Command::new("ganesha.nfsd")
            .args(["-F", "-f", text(&config), "-L", text(&log)])
            .args(["-p", text(&folder.join("pid"))])
            // It looks for the system's bus, where another one may be.
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        loop {
            let said = fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if said.contains("NFS SERVER INITIALIZED") {
                return Server { process, port };
            }
            let ended = process.try_wait().unwrap().is_some();
            let late = begun.elapsed() > Duration::from_secs(120);
            assert!(!ended && !late, "the server does not serve: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file or folder of the mount as the programs of libnfs call it.
    pub fn url(&self, path: &str) -> String {
        format!(
            "nfs://127.0.0.1/{EXPORT}/{path}?version=4&nfsport={}",
            self.port
        )
    }

    /// A file as such a program fetches it to `folder`.
    pub fn fetch(&self, path: &str, folder: &Path) -> Vec<u8> {
        let here: PathBuf = folder.join("fetched");
        fs::remove_file(&here).ok();
        super::run("nfs-cp", &[&self.url(path), text(&here)]);
        fs::read(here).unwrap()
    }

    /// A client.
    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // A server that does not answer fails the test instead of holding it up.
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        Client { stream, sent: 0 }
    }
}

/// A port for one server only, of all that this process starts.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Below those that the kernel hands out: one of these may connect to itself.
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    loop {
        let port = first + TAKEN.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end, it lets go of the mount.
        let pid = self.process.id().to_string();
        drop(Command::new("kill").arg(pid).status());
        drop(self.process.wait());
    }
}

/// The numbers of operations.
mod op {
    pub const GETATTR: u32 = 9;
    pub const GETFH: u32 = 10;
    pub const LOOKUP: u32 = 15;
    pub const PUTFH: u32 = 22;
    pub const PUTROOTFH: u32 = 24;
    pub const READ: u32 = 25;
    pub const READDIR: u32 = 26;
    pub const READLINK: u32 = 27;
}

/// Kind, change, size and file number; mode, number of links and modification time.
const WANTED: [u32; 2] = [
    1 << 1 | 1 << 3 | 1 << 4 | 1 << 20,
    1 << 1 | 1 << 3 | 1 << 21,
];
/// Bytes of an answer about a folder: so few that a folder takes several.
const PIECE: u32 = 8192;

/// What a client is told of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub kind: u32,
    pub change: u64,
    pub size: u64,
    pub number: u64,
    pub mode: u32,
    pub links: u32,
    pub modified: (i64, u32),
}

/// What a client keeps of an entry.
pub type Handle = Vec<u8>;
/// An answer, or the status that the server gives instead.
pub type Answer<T> = Result<T, u32>;

/// A connection to a server.
pub struct Client {
    stream: TcpStream,
    sent: u32,
}

impl Client {
    /// The handle of what is at a path of the mount.
    pub fn find(&mut self, path: impl AsRef<[u8]>) -> Answer<Handle> {
        let names = path.as_ref().split(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty());
        let names: Vec<&[u8]> = std::iter::once(EXPORT.as_bytes()).chain(names).collect();
        let mut request = Request::default().op(op::PUTROOTFH);
        for name in &names {
            request = request.op(op::LOOKUP).bytes(name);
        }
        let mut reply = self.ask(&request.op(op::GETFH));
        reply.done(op::PUTROOTFH)?;
        for _ in &names {
            reply.done(op::LOOKUP)?;
        }
        reply.done(op::GETFH)?;
        Ok(reply.bytes())
    }

    /// What is said of it.
    pub fn facts(&mut self, of: &Handle) -> Answer<Facts> {
        let request = at(of).op(op::GETATTR).wanted();
        let mut reply = self.ask(&request);
        reply.done(op::PUTFH)?;
        reply.done(op::GETATTR)?;
        Ok(reply.facts())
    }

    /// Bytes of a file, fewer at its end.
    pub fn read(&mut self, of: &Handle, offset: u64, length: u32) -> Answer<Vec<u8>> {
        // No state: the file was not opened.
        let request = at(of).op(op::READ).number(0).long(0).number(0);
        let mut reply = self.ask(&request.long(offset).number(length));
        reply.done(op::PUTFH)?;
        reply.done(op::READ)?;
        reply.number();
        Ok(reply.bytes())
    }

    /// The target of a link.
    pub fn target(&mut self, of: &Handle) -> Answer<Vec<u8>> {
        let mut reply = self.ask(&at(of).op(op::READLINK));
        reply.done(op::PUTFH)?;
        reply.done(op::READLINK)?;
        Ok(reply.bytes())
    }

    /// The names in a folder, read piece by piece. None may come twice.
    pub fn list(&mut self, of: &Handle) -> Answer<BTreeMap<Vec<u8>, Facts>> {
        let mut found = BTreeMap::new();
        let (mut cookie, mut check) = (0, 0);
        loop {
            let request = at(of).op(op::READDIR).long(cookie).long(check);
            let request = request.number(PIECE).number(PIECE).wanted();
            let mut reply = self.ask(&request);
            reply.done(op::PUTFH)?;
            reply.done(op::READDIR)?;
            check = reply.long();
            while reply.number() == 1 {
                cookie = reply.long();
                let name = reply.bytes();
                let facts = reply.facts();
                let again = found.insert(name.clone(), facts);
                assert!(again.is_none(), "{} twice", String::from_utf8_lossy(&name));
            }
            if reply.number() == 1 {
                return Ok(found);
            }
        }
    }

    /// One compound of operations, as root.
    fn ask(&mut self, request: &Request) -> Reply {
        self.sent += 1;
        let mut call = Request::default();
        for number in [self.sent, 0, 2, 100_003, 4, 1] {
            call = call.number(number);
        }
        let who = Request::default()
            .number(0)
            .bytes(b"")
            .number(0)
            .number(0)
            .number(0);
        call = call.number(1).bytes(&who.body).number(0).number(0);
        call = call.bytes(b"").number(0).number(request.operations);
        call.body.extend_from_slice(&request.body);
        let mut record = (call.body.len() as u32 | 1 << 31).to_be_bytes().to_vec();
        record.extend_from_slice(&call.body);
        self.stream.write_all(&record).unwrap();
        let mut reply = Reply {
            body: self.receive(),
            at: 0,
        };
        let head = [0; 6].map(|_: u32| reply.number());
        assert_eq!(head, [self.sent, 1, 0, 0, 0, 0], "the call was refused");
        // The status is that of the last operation, which is asked for there.
        reply.number();
        reply.bytes();
        reply.number();
        reply
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut mark = [0; 4];
            self.stream.read_exact(&mut mark).unwrap();
            let mark = u32::from_be_bytes(mark);
            let from = body.len();
            body.resize(from + (mark & !(1 << 31)) as usize, 0);
            self.stream.read_exact(&mut body[from..]).unwrap();
            if mark & 1 << 31 != 0 {
                return body;
            }
        }
    }
}

/// Operations, in XDR.
#[derive(Default)]
struct Request {
    body: Vec<u8>,
    operations: u32,
}

fn at(handle: &Handle) -> Request {
    Request::default().op(op::PUTFH).bytes(handle)
}

impl Request {
    fn op(mut self, operation: u32) -> Request {
        self.operations += 1;
        self.number(operation)
    }

    fn number(mut self, number: u32) -> Request {
        self.body.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn long(mut self, number: u64) -> Request {
        self.body.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Request {
        self = self.number(bytes.len() as u32);
        self.body.extend_from_slice(bytes);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn wanted(self) -> Request {
        self.number(2).number(WANTED[0]).number(WANTED[1])
    }
}

struct Reply {
    body: Vec<u8>,
    at: usize,
}

impl Reply {
    fn take(&mut self, length: usize) -> &[u8] {
        let taken = &self.body[self.at..self.at + length];
        self.at += length;
        taken
    }

    fn number(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.number() as usize;
        let bytes = self.take(length).to_vec();
        self.at = self.at.next_multiple_of(4);
        bytes
    }

    /// The result of the next operation, whose content follows.
    fn done(&mut self, operation: u32) -> Answer<()> {
        assert_eq!(self.number(), operation);
        match self.number() {
            0 => Ok(()),
            status => Err(status),
        }
    }

    fn facts(&mut self) -> Facts {
        assert_eq!(
            [0; 3].map(|_: u32| self.number()),
            [2, WANTED[0], WANTED[1]]
        );
        self.number();
        Facts {
            kind: self.number(),
            change: self.long(),
            size: self.long(),
            number: self.long(),
            mode: self.number(),
            links: self.number(),
            modified: (self.long() as i64, self.number()),
        }
    }
}
