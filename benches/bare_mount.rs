//! The least that a mount costs: one file, answered from memory, by as many threads and with as much reading ahead as `cairn mount` has. What `compare/mount.py` measures beside it.
//!
//! usage: bare_mount MOUNTPOINT BYTES; ends when it is unmounted.

use cairn_fuse::awake::Awake;
use cairn_fuse::device::{self, Manner};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
    Session, SessionACL,
};
use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// As `cairn mount` has it on two processors.
const LOOPS: usize = 8;
/// In KiB.
const READ_AHEAD: u32 = 8192;
const BACKGROUND: u16 = 128;
/// What the file holds, over and over: more than stays in a processor's cache.
const PATTERN: usize = 64 << 20;
/// The longest read.
const LONGEST: usize = 1 << 20;
const KEEP: Duration = Duration::from_secs(3600);
const FILE: INodeNo = INodeNo(2);

struct Bare {
    pattern: Vec<u8>,
    size: u64,
    awake: Awake,
}

impl Bare {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        let now = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size: if is_file { self.size } else { 0 },
            blocks: self.size / 512,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: if is_file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ | InitFlags::FUSE_NO_OPEN_SUPPORT;
        let _ = config.add_capabilities(wanted);
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "file" {
            reply.entry(&KEEP, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&KEEP, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.awake.asked();
        let left = self.size.saturating_sub(offset).min(u64::from(size));
        let length = usize::try_from(left).unwrap_or(0).min(LONGEST);
        let start = usize::try_from(offset).unwrap_or(0) % PATTERN;
        reply.data(&self.pattern[start..start + length]);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mountpoint = arguments.next().ok_or("which mountpoint?")?;
    let size = arguments.next().ok_or("a file of how many bytes?")?;
    let mut pattern = vec![0; PATTERN + LONGEST];
    blake3::Hasher::new().finalize_xof().fill(&mut pattern);
    let bare = Bare {
        pattern,
        size: size.parse()?,
        awake: Awake::new(),
    };
    let mut config = Config::default();
    config.n_threads = Some(LOOPS);
    config.clone_fd = device::can_open_devices(LOOPS);
    let manner = Manner {
        allow_other: false,
        writable: false,
        source: "bare",
    };
    let (fuse, place) = device::mount(Path::new(&mountpoint), manner)?;
    let session = Session::from_fd(bare, fuse, SessionACL::Owner, config)?;
    // Asks the mount itself, which is answered from below.
    std::thread::spawn(move || device::set_read_ahead(&place, READ_AHEAD));
    session.run()?;
    Ok(())
}
