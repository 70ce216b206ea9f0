//! What was found of one volume: versions of paths, in the order of the paths, in memory while they are few and in a file without a name when they are many.

use cairn_base::{Error, Result};
use cairn_guest::{EntryId, EntryKind};
use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes of one volume's versions in memory; more are written to a file.
const IN_MEMORY: usize = 8 << 20;

/// A version of a path, as it was from one stand of its volume to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `disk0/p1/etc/passwd`
    pub path: Vec<u8>,
    /// The entry, in the last stand.
    pub id: EntryId,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
    /// When its content was changed: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// The first and the last stand of the volume that has it.
    pub stands: (u32, u32),
}

/// Paths by their names: a folder comes before what is in it, and that before its neighbours.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let names = |path| <[u8]>::split(path, |byte: &u8| *byte == b'/');
    names(a).cmp(names(b))
}

const KINDS: [EntryKind; 7] = [
    EntryKind::File,
    EntryKind::Folder,
    EntryKind::Symlink,
    EntryKind::CharDevice,
    EntryKind::BlockDevice,
    EntryKind::Fifo,
    EntryKind::Socket,
];

fn failed(error: std::io::Error) -> Error {
    Error::io(
        "cannot keep what was found",
        Path::new("a temporary file"),
        error,
    )
    .advise("name another folder in TMPDIR, or look for less")
}

/// Versions in the order of paths, those of one path from old to new.
#[derive(Debug, Default)]
pub struct Versions {
    memory: Vec<u8>,
    file: Option<File>,
}

impl Versions {
    /// Reads them from the beginning.
    ///
    /// # Errors
    /// As the operating system reports of the temporary file.
    pub fn read(&mut self) -> Result<Reader<'_>> {
        let source: Box<dyn Read> = match &mut self.file {
            Some(file) => {
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                Box::new(BufReader::with_capacity(1 << 18, &*file))
            }
            None => Box::new(Cursor::new(&self.memory[..])),
        };
        let mut reader = Reader { source, next: None };
        reader.fill()?;
        Ok(reader)
    }
}

/// Reads versions.
pub struct Reader<'a> {
    source: Box<dyn Read + 'a>,
    next: Option<Version>,
}

impl Reader<'_> {
    /// The next version, which stays the next one.
    pub fn peek(&self) -> Option<&Version> {
        self.next.as_ref()
    }

    /// The next version.
    ///
    /// # Errors
    /// As the operating system reports of the temporary file.
    pub fn next(&mut self) -> Result<Option<Version>> {
        let next = self.next.take();
        self.fill()?;
        Ok(next)
    }

    fn fill(&mut self) -> Result<()> {
        let mut head = [0u8; 49];
        let mut length = [0u8; 4];
        match self.source.read_exact(&mut length) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(failed)?,
        }
        self.source.read_exact(&mut head).map_err(failed)?;
        let mut at = 0;
        let mut take = || {
            let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            at += 8;
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let [tree, number, size, seconds, nanos, stands] = [(); 6].map(|()| take());
        let kind = usize::from(head.last().copied().unwrap_or_default());
        let mut path = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap_or(0)];
        self.source.read_exact(&mut path).map_err(failed)?;
        let half = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
        self.next = Some(Version {
            path,
            id: EntryId { tree, number },
            kind: KINDS.get(kind).copied().unwrap_or(EntryKind::File),
            size,
            modified: (seconds.cast_signed(), half(nanos)),
            stands: (half(stands >> 32), half(stands)),
        });
        Ok(())
    }
}

/// Writes versions, in the order of paths.
#[derive(Default)]
pub struct Writer {
    memory: Vec<u8>,
    file: Option<BufWriter<File>>,
}

impl Writer {
    /// One more.
    ///
    /// # Errors
    /// As the operating system reports of the temporary file.
    pub fn add(&mut self, version: &Version) -> Result<()> {
        let length = u32::try_from(version.path.len()).unwrap_or(u32::MAX);
        let kind = KINDS.iter().position(|kind| *kind == version.kind);
        let (first, last) = version.stands;
        self.memory.extend_from_slice(&length.to_le_bytes());
        for number in [
            version.id.tree,
            version.id.number,
            version.size,
            version.modified.0.cast_unsigned(),
            u64::from(version.modified.1),
            (u64::from(first) << 32) | u64::from(last),
        ] {
            self.memory.extend_from_slice(&number.to_le_bytes());
        }
        self.memory
            .push(kind.and_then(|kind| u8::try_from(kind).ok()).unwrap_or(0));
        self.memory.extend_from_slice(&version.path);
        if self.memory.len() >= IN_MEMORY {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(BufWriter::new(tempfile::tempfile().map_err(failed)?)),
        };
        file.write_all(&self.memory).map_err(failed)?;
        self.memory.clear();
        Ok(())
    }

    /// All that was added.
    ///
    /// # Errors
    /// As the operating system reports of the temporary file.
    pub fn finish(mut self) -> Result<Versions> {
        if self.file.is_some() {
            self.spill()?;
        }
        let file = match self.file {
            Some(file) => Some(file.into_inner().map_err(|e| failed(e.into_error()))?),
            None => None,
        };
        Ok(Versions {
            memory: self.memory,
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_versions_comes_back() {
        for count in [0u64, 3, 200_000] {
            let of = |n: u64| Version {
                path: format!("disk0/p1/{n:08}").into_bytes(),
                id: EntryId {
                    tree: n,
                    number: !n,
                },
                kind: KINDS[usize::try_from(n % 7).unwrap()],
                size: n << 40,
                modified: (-5 - n.cast_signed(), 999_999_999),
                stands: (u32::MAX - 1, 7),
            };
            let mut writer = Writer::default();
            for n in 0..count {
                writer.add(&of(n)).unwrap();
            }
            let mut versions = writer.finish().unwrap();
            assert_eq!(versions.file.is_some(), count > 100_000);
            for _ in 0..2 {
                let mut reader = versions.read().unwrap();
                for n in 0..count {
                    assert_eq!(reader.peek(), Some(&of(n)));
                    assert_eq!(reader.next().unwrap(), Some(of(n)));
                }
                assert_eq!(reader.next().unwrap(), None);
            }
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut paths = ["a.b", "a/z", "a", "a/b/c", "a/b", "b", "a-"];
        paths.sort_by(|a, b| order(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/z", "a-", "a.b", "b"]);
    }
}
