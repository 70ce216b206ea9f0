//! The kernel's requests, brought to the tree and back. Nothing is decided here but what the kernel may keep.

mod contents;
mod convert;
mod handles;
mod refused;
mod shared;
mod spare;

use crate::awake::Awake;
use crate::failure::Failure;
use crate::stat::Stat;
use crate::tree::{Found, Tree};
use crate::workers::Workers;
use cairn::{EntryKind, Time};
use convert::{attributes, errno, file_type, ttl};
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use refused::refused;
use shared::{Shared, add_to, answer};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Requests that the kernel may have under way of its own accord, such as reading ahead.
const BACKGROUND: u16 = 128;
/// Longest read answered at once; the kernel asks for 1 MiB at most.
const LONGEST_READ: usize = 16 << 20;

const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The tree, served to the kernel.
pub struct Adapter {
    shared: Arc<Shared>,
    /// The kernel heeds access control lists.
    lists: bool,
    workers: Workers,
    awake: Awake,
}

impl Adapter {
    /// For so many event loops; with `lists` the kernel decides by access control lists too.
    pub fn new(tree: Arc<Tree>, loops: usize, lists: bool) -> Adapter {
        Adapter {
            shared: Arc::new(Shared::new(tree)),
            workers: Workers::new(loops),
            lists,
            awake: Awake::new(),
        }
    }

    fn serve(&self, job: impl FnOnce(&Shared) + Send + 'static) {
        self.awake.asked();
        let shared = self.shared.clone();
        self.workers.run(move || job(&shared));
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPORT_SUPPORT,
        ];
        for flag in wanted {
            // An older kernel does without.
            let _ = config.add_capabilities(flag);
        }
        if self.lists {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        let _ = config.set_max_background(BACKGROUND);
        // What was read of a file that is opened without us is read again if its time or size is another; then it need not be asked for again otherwise.
        let needed = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_AUTO_INVAL_DATA;
        if let Some(shared) = Arc::get_mut(&mut self.shared)
            && shared.tree.opens_once()
        {
            shared.opens_once = config.add_capabilities(needed).is_ok();
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        let thread = request.pid();
        self.serve(
            move |shared| match shared.look_up(thread, parent.0, &name) {
                Ok((Found::Node(stat), keep)) => {
                    if let Err(failure) = shared.told(stat.inode, true) {
                        return reply.error(errno(&failure));
                    }
                    let generation = shared.generation(stat.inode);
                    reply.entry_with_ttls(&ttl(&stat), &keep, &attributes(&stat), generation);
                }
                // The number 0 means that there is nothing, and that this may be remembered.
                Ok((Found::Nothing { lasting: true }, keep)) => {
                    let nothing = Stat::made(0, EntryKind::File, 0, 0, Time::default());
                    reply.entry(&keep, &attributes(&nothing), Generation(0));
                }
                Ok((Found::Nothing { lasting: false }, _)) => reply.error(Errno::ENOENT),
                Err(failure) => reply.error(errno(&failure)),
            },
        );
    }

    fn forget(&self, _: &Request, inode: INodeNo, tellings: u64) {
        // Closing may take a while: like an answer, never on the last loop that listens.
        if self.shared.opens_once
            && let Some(closing) = self.shared.forgotten(inode.0, tellings)
        {
            self.serve(move |_| drop(closing));
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(move |shared| match shared.tree.getattr(inode.0) {
            Ok(stat) => reply.attr(&ttl(&stat), &attributes(&stat)),
            Err(failure) => reply.error(errno(&failure)),
        });
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        self.serve(move |shared| match shared.tree.readlink(inode.0) {
            Ok(target) => reply.data(&target),
            Err(failure) => reply.error(errno(&failure)),
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.shared.opens_once {
            // It does not ask again, for no file.
            return reply.error(Errno::ENOSYS);
        }
        let to_write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        self.serve(
            move |shared| match shared.tree.open_for(inode.0, to_write) {
                Ok(content) => {
                    let mut flags = FopenFlags::FOPEN_NOFLUSH;
                    // What is written goes through the kernel, and so through what it keeps.
                    if content.lasting() {
                        flags |= FopenFlags::FOPEN_KEEP_CACHE;
                    }
                    reply.opened(shared.files.add(content), flags);
                }
                Err(failure) => reply.error(errno(&failure)),
            },
        );
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(move |shared| {
            let content = match shared.content(inode, handle) {
                Ok(content) => content,
                Err(failure) => return reply.error(errno(&failure)),
            };
            let length = usize::try_from(size)
                .unwrap_or(LONGEST_READ)
                .min(LONGEST_READ);
            shared
                .spare
                .with(length, |buffer| match content.read(offset, buffer) {
                    Ok(read) => reply.data(buffer.get(..read).unwrap_or_default()),
                    Err(failure) => reply.error(errno(&failure)),
                });
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(move |shared| {
            shared.files.remove(handle);
            reply.ok();
        });
    }

    fn lseek(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.serve(move |shared| {
            let found = || {
                let content = shared.content(inode, handle)?;
                let from = u64::try_from(offset).map_err(|_| Failure::BeyondEnd)?;
                let at = match whence {
                    SEEK_DATA => content.seek_data(from)?,
                    SEEK_HOLE => content.seek_hole(from)?,
                    _ => return Err(Failure::Invalid),
                };
                i64::try_from(at).map_err(|_| Failure::Invalid)
            };
            match found() {
                Ok(at) => reply.offset(at),
                Err(failure) => reply.error(errno(&failure)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.serve(move |shared| {
            let written = || shared.files.get(handle)?.write(offset, &data);
            match written() {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
                Err(failure) => reply.error(errno(&failure)),
            }
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.serve(move |shared| {
            let end = offset.saturating_add(length);
            let done = || shared.files.get(handle)?.zero(offset..end, mode);
            match done() {
                Ok(()) => reply.ok(),
                Err(failure) => reply.error(errno(&failure)),
            }
        });
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve(move |shared| {
            let done = || shared.files.get(handle)?.flush();
            match done() {
                Ok(()) => reply.ok(),
                Err(failure) => reply.error(errno(&failure)),
            }
        });
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.serve(move |shared| match shared.tree.set_size(inode.0, size) {
            Ok(stat) => reply.attr(&ttl(&stat), &attributes(&stat)),
            Err(failure) => reply.error(errno(&failure)),
        });
    }

    refused! {
        mknod(INodeNo, &OsStr, u32, u32, u32) ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) ReplyEntry;
        unlink(INodeNo, &OsStr) ReplyEmpty;
        rmdir(INodeNo, &OsStr) ReplyEmpty;
        symlink(INodeNo, &OsStr, &Path) ReplyEntry;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) ReplyEmpty;
        link(INodeNo, INodeNo, &OsStr) ReplyEntry;
        create(INodeNo, &OsStr, u32, u32, i32) ReplyCreate;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) ReplyEmpty;
        removexattr(INodeNo, &OsStr) ReplyEmpty;
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.serve(move |shared| match shared.tree.open_folder(inode.0) {
            Ok(folder) => {
                let flags = if folder.lasting() {
                    FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
                } else {
                    FopenFlags::empty()
                };
                reply.opened(shared.folders.add(folder), flags);
            }
            Err(failure) => reply.error(errno(&failure)),
        });
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.serve(move |shared| {
            let mut told = false;
            let read = shared.read_folder(handle, offset, false, &mut |listed| {
                told = true;
                let name = OsStr::from_bytes(&listed.name);
                reply.add(
                    INodeNo(listed.inode),
                    listed.offset,
                    file_type(listed.kind),
                    name,
                )
            });
            match read {
                // Names before a damage are told; whoever asks for more gets the error.
                Err(failure) if !told => reply.error(errno(&failure)),
                _ => reply.ok(),
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(move |shared| {
            let mut told = false;
            let mut failed = Ok(());
            let read = shared.read_folder(handle, offset, true, &mut |listed| {
                // The folder itself and the one above are not counted by the kernel.
                let counts = !matches!(&*listed.name, b"." | b"..");
                let lasting = listed.stat.as_ref().is_some_and(|stat| stat.lasting);
                if counts {
                    failed = shared.told(listed.inode, lasting);
                }
                let full = failed.is_err() || add_to(&mut reply, listed, shared);
                if counts && full && failed.is_ok() {
                    shared.untold(listed.inode);
                }
                told |= !full;
                full
            });
            match read.and(failed) {
                // Names before a damage are told; whoever asks for more gets the error.
                Err(failure) if !told => reply.error(errno(&failure)),
                _ => reply.ok(),
            }
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.serve(move |shared| {
            shared.folders.remove(handle);
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, inode: INodeNo, reply: ReplyStatfs) {
        self.serve(move |shared| match shared.tree.statfs(inode.0) {
            Ok(space) => reply.statfs(
                space.blocks,
                space.free,
                space.free,
                space.files,
                0,
                space.block_size,
                space.longest_name,
                space.block_size,
            ),
            Err(failure) => reply.error(errno(&failure)),
        });
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.serve(move |shared| answer(shared.tree.getxattr(inode.0, &name), size, reply));
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(move |shared| answer(shared.tree.listxattr(inode.0), size, reply));
    }

    fn access(&self, _: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let wanted = u32::try_from(mask.bits()).unwrap_or(0);
        self.serve(move |shared| match shared.tree.access(inode.0, wanted) {
            Ok(()) => reply.ok(),
            Err(failure) => reply.error(errno(&failure)),
        });
    }
}
