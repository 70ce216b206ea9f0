//! Why an operation on the tree fails, and the one place where that becomes an errno.

use cairn::{Error, Kind};
use rustix::io::Errno;
use std::fmt;

/// Why an operation fails.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The engine reports it.
    Engine(Error),
    /// What it belongs to was in the store, and is not any more: a point that was forgotten.
    Gone(Error),
    /// The inode number belongs to nothing of this mount.
    Stale,
    /// A folder was needed.
    NotAFolder,
    /// Something other than a folder was needed.
    IsAFolder,
    /// Nothing can be changed.
    ReadOnly,
    /// The mode does not allow it.
    NotPermitted,
    /// There is no such extended attribute.
    NoAttribute,
    /// The attribute's value, or the list of names, is longer than Linux passes on (64 KiB).
    TooLong,
    /// The path is longer than is remembered of any (64 KiB).
    LongPath,
    /// The caller's buffer is too small.
    SmallBuffer,
    /// There is no data, or no hole, at or behind the offset.
    BeyondEnd,
    /// A disk has the size it has.
    FixedSize,
    /// Nothing can be written beyond the end of a disk.
    BeyondDisk,
    /// The request makes no sense here.
    Invalid,
}

/// The result of every operation on the tree.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Failure {
    /// The number that the caller's system call ends with.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Failure::Engine(error) => of_kind(error.kind()),
            Failure::Gone(_) | Failure::Stale => Errno::STALE,
            Failure::NotAFolder => Errno::NOTDIR,
            Failure::IsAFolder => Errno::ISDIR,
            Failure::ReadOnly => Errno::ROFS,
            Failure::NotPermitted => Errno::ACCESS,
            Failure::NoAttribute => Errno::NODATA,
            Failure::TooLong => Errno::TOOBIG,
            Failure::LongPath => Errno::NAMETOOLONG,
            Failure::SmallBuffer => Errno::RANGE,
            Failure::BeyondEnd => Errno::NXIO,
            Failure::FixedSize => Errno::PERM,
            Failure::BeyondDisk => Errno::FBIG,
            Failure::Invalid => Errno::INVAL,
        };
        errno.raw_os_error()
    }
}

/// The only translation of the engine's kinds; a new kind does not compile until it has its line here.
fn of_kind(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound => Errno::NOENT,
        Kind::Exists => Errno::EXIST,
        Kind::Invalid => Errno::INVAL,
        Kind::Unsupported => Errno::OPNOTSUPP,
        Kind::Damaged => Errno::IO,
        Kind::Io => Errno::IO,
        Kind::Full => Errno::NOSPC,
        Kind::Busy => Errno::BUSY,
        Kind::Denied => Errno::ACCESS,
        Kind::Interrupted => Errno::INTR,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) | Failure::Gone(error) => error.fmt(f),
            other => Errno::from_raw_os_error(other.errno()).fmt(f),
        }
    }
}

impl std::error::Error for Failure {}
