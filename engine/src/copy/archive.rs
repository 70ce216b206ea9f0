//! A stream as the target: members one after the other, each whole.

use crate::copy::content::each_piece;
use crate::copy::item::{Identity, Item};
use crate::copy::name::{join, numbered};
use crate::copy::report::CopyReport;
use crate::copy::tar::Tar;
use crate::copy::tree::{Takes, give};
use crate::copy::zip::Zip;
use crate::copy::{ArchiveFormat, Copier, CopyOptions, OnConflict};
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Monitor, ReadAt, Result, Stage};
use cairn_guest::{EntryId, EntryKind, Volume};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Files up to this many bytes are read before they begin in the archive: what cannot be read is left out.
const BUFFERED: u64 = 4 << 20;
/// Files with several names whose first one is remembered.
const MAX_LINKED: usize = 1 << 18;
/// Paths that were named, remembered to tell two of one name apart.
const MAX_TOPS: usize = 1 << 20;

/// Where an archive goes.
pub struct Out<'a> {
    to: &'a mut (dyn Write + Send),
    /// Bytes written.
    pub offset: u64,
}

impl Out<'_> {
    /// # Errors
    /// As the operating system reports.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.offset = self.offset.saturating_add(to_u64(bytes.len()));
        self.to.write_all(bytes).map_err(failed)
    }

    /// # Errors
    /// As the operating system reports.
    pub fn flush(&mut self) -> Result<()> {
        self.to.flush().map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot write the archive", Path::new("-"), error)
}

/// An entry as a member.
pub struct Member<'a> {
    /// Its path in the archive, without a slash at its end.
    pub path: &'a [u8],
    /// The entry.
    pub item: &'a Item,
    /// Of a link: where it leads.
    pub target: &'a [u8],
    /// Extended attributes.
    pub extended: &'a [(Vec<u8>, Vec<u8>)],
    /// Of a further name of a file: the path of the first.
    pub first: Option<&'a [u8]>,
    /// Of a file: its content.
    pub content: Option<&'a dyn ReadAt>,
}

/// An archive that is being written.
pub enum Archive<'a> {
    /// tar
    Tar(Tar<'a>),
    /// zip
    Zip(Zip<'a>),
}

impl<'a> Archive<'a> {
    /// To this stream.
    pub fn new(format: ArchiveFormat, to: &'a mut (dyn Write + Send)) -> Archive<'a> {
        let out = Out { to, offset: 0 };
        match format {
            ArchiveFormat::Tar => Archive::Tar(Tar::new(out)),
            ArchiveFormat::Zip => Archive::Zip(Zip::new(out)),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Archive::Tar(tar) => tar.out.offset,
            Archive::Zip(zip) => zip.out.offset,
        }
    }

    /// What of such an entry an archive of this form has no place for.
    fn lacks(&self, member: &Member<'_>) -> Option<&'static str> {
        let zip = matches!(self, Archive::Zip(_));
        match member.item.attributes.kind {
            EntryKind::Socket => Some("sockets have no place in an archive"),
            EntryKind::File | EntryKind::Folder | EntryKind::Symlink => None,
            _ if zip => Some("devices and pipes have no place in a zip archive"),
            _ => None,
        }
    }
}

/// A copy to an archive.
pub struct ToArchive<'a> {
    archive: Archive<'a>,
    options: &'a CopyOptions,
    monitor: &'a dyn Monitor,
    /// What was copied.
    pub report: CopyReport,
    linked: HashMap<Identity, Vec<u8>>,
    tops: HashSet<Vec<u8>>,
    /// What was lost, how often, and where first.
    lacking: HashMap<&'static str, (u64, Vec<u8>)>,
    /// A member is not whole, so that nothing can come behind it.
    broken: bool,
}

impl<'a> ToArchive<'a> {
    /// To this archive.
    pub fn new(
        archive: Archive<'a>,
        options: &'a CopyOptions,
        monitor: &'a dyn Monitor,
    ) -> ToArchive<'a> {
        ToArchive {
            archive,
            options,
            monitor,
            report: CopyReport::default(),
            linked: HashMap::new(),
            tops: HashSet::new(),
            lacking: HashMap::new(),
            broken: false,
        }
    }

    fn lacks(&mut self, what: &'static str, path: &[u8]) {
        self.lacking
            .entry(what)
            .or_insert_with(|| (0, path.to_vec()))
            .0 += 1;
    }

    fn incomplete(&mut self, path: &[u8], error: Error) {
        let shown = String::from_utf8_lossy(path);
        let what = format!("{shown} is not complete");
        self.report.fail(error.context(what));
    }

    fn member(&mut self, path: &[u8], item: &Item) -> Result<()> {
        let kind = item.attributes.kind;
        let extended = item.extended();
        for error in extended.missing {
            self.incomplete(path, error);
        }
        let target = match kind {
            EntryKind::Symlink => item.volume.read_link(item.id)?,
            _ => Vec::new(),
        };
        let member = Member {
            path,
            item,
            target: &target,
            extended: &extended.values,
            first: None,
            content: None,
        };
        if let Some(why) = self.archive.lacks(&member) {
            return Err(Error::unsupported(why));
        }
        if kind == EntryKind::File {
            return self.file(&member);
        }
        self.write(&member)?;
        self.written(&member);
        Ok(())
    }

    fn write(&mut self, member: &Member<'_>) -> Result<()> {
        let before = self.archive.offset();
        let written = match &mut self.archive {
            Archive::Tar(tar) => tar.member(member, self.monitor),
            Archive::Zip(zip) => zip.member(member, self.monitor).map(|()| Vec::new()),
        };
        self.broken = written.is_err() && self.archive.offset() != before;
        for error in written? {
            self.incomplete(member.path, error);
        }
        Ok(())
    }

    fn file(&mut self, member: &Member<'_>) -> Result<()> {
        let identity = member.item.identity();
        let first = identity.and_then(|identity| self.linked.get(&identity).cloned());
        let is_tar = matches!(self.archive, Archive::Tar(_));
        if first.is_some() && !is_tar {
            let what = "further names of files became files of their own in the zip archive";
            self.lacks(what, member.path);
        }
        let first = first.filter(|_| is_tar);
        let source = match first {
            Some(_) => None,
            None => Some(self.source(member.item)?),
        };
        let member = Member {
            first: first.as_deref(),
            content: source.as_deref(),
            ..*member
        };
        self.write(&member)?;
        match identity {
            Some(identity) if self.linked.len() < MAX_LINKED => {
                let path = member.path.to_vec();
                self.linked.entry(identity).or_insert(path);
            }
            Some(identity) if is_tar && !self.linked.contains_key(&identity) => {
                let what = "too many files have several names: further ones are files of their own";
                self.lacks(what, member.path);
            }
            _ => {}
        }
        if let Some(source) = &source {
            self.report.bytes = self.report.bytes.saturating_add(source.size());
            self.report.verified += u64::from(self.options.verify);
        }
        self.written(&member);
        Ok(())
    }

    /// The content of a file; a small one is in memory then, and a large one was read once if that is wanted.
    fn source(&self, item: &Item) -> Result<Arc<dyn ReadAt>> {
        let source = item.volume.open(item.id)?;
        if source.size() <= BUFFERED {
            let mut bytes = vec![0; usize::try_from(source.size()).unwrap_or(0)];
            source.read_exact_at(0, &mut bytes)?;
            return Ok(Arc::new(bytes));
        }
        if self.options.verify {
            each_piece(&*source, self.monitor, &mut |_| Ok(()))?;
        }
        Ok(source)
    }

    fn written(&mut self, member: &Member<'_>) {
        self.report.made(member.item.attributes.kind);
        let path = || String::from_utf8_lossy(member.path).into_owned();
        self.report.kept(member.item, false, path);
        if matches!(self.archive, Archive::Zip(_)) && !member.extended.is_empty() {
            let what = "extended attributes, ACLs and streams have no place in a zip archive";
            self.lacks(what, member.path);
        }
    }

    /// The path under which what is named goes in; none if it is left out.
    fn top(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.tops.len() >= MAX_TOPS {
            return Err(Error::unsupported("too many paths for one archive"));
        }
        if self.tops.insert(path.to_vec()) {
            return Ok(Some(path.to_vec()));
        }
        match self.options.on_conflict {
            OnConflict::Skip => {
                self.report.skipped += 1;
                return Ok(None);
            }
            OnConflict::Rename => {}
            _ => {
                let shown = String::from_utf8_lossy(path).into_owned();
                let what = format!("`{shown}` is in the archive already");
                return Err(
                    Error::new(Kind::Exists, what).advise("say --parents or --on-conflict rename")
                );
            }
        }
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (within, name) = path.split_at(at.map_or(0, |at| at + 1));
        for number in 2..u32::from(u16::MAX) {
            let other = [within, &numbered(name, number)].concat();
            if self.tops.insert(other.clone()) {
                self.report.renamed += 1;
                return Ok(Some(other));
            }
        }
        Err(Error::new(Kind::Exists, "all numbered names are taken"))
    }
}

impl Takes for ToArchive<'_> {
    fn take(&mut self, within: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
        let path = join(within, name);
        self.member(&path, item)?;
        if item.attributes.kind == EntryKind::File {
            self.monitor.advance(Stage::Copy, item.attributes.size);
        }
        Ok((item.attributes.kind == EntryKind::Folder).then_some(path))
    }

    fn missed(&mut self, within: &[u8], name: &[u8], error: Error) -> Result<()> {
        let slash: &[u8] = if within.is_empty() || name.is_empty() {
            b""
        } else {
            b"/"
        };
        let path = String::from_utf8_lossy(&[within, slash, name].concat()).into_owned();
        if self.broken {
            // Half a member must not pass for a whole one, and nothing can take it back.
            return Err(error
                .context(format!("the archive ends within {path}"))
                .advise("say --verify, and what cannot be read is left out"));
        }
        self.report
            .fail(error.context(format!("{path} was not copied")));
        Ok(())
    }
}

impl Copier for ToArchive<'_> {
    fn add(
        &mut self,
        volume: &Arc<dyn Volume>,
        id: EntryId,
        path: &[u8],
        _above: &[EntryId],
    ) -> Result<()> {
        let path = match self.top(path) {
            Ok(Some(path)) => path,
            Ok(None) => return Ok(()),
            Err(error) => return self.missed(b"", path, error),
        };
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (within, name) = path.split_at(at.map_or(0, |at| at + 1));
        let within = within.strip_suffix(b"/").unwrap_or(within);
        give(volume, id, (within, name), self.monitor, self)
    }

    fn settle(&mut self) -> Result<()> {
        self.linked.clear();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        for (what, (count, first)) in self.lacking.drain() {
            let first = String::from_utf8_lossy(&first).into_owned();
            let what = format!("{what}: {count}, of which the first is {first}");
            self.report.fail(Error::unsupported(what));
        }
        self.report.end();
        match &mut self.archive {
            Archive::Tar(tar) => tar.end(),
            Archive::Zip(zip) => zip.end(),
        }
    }
}
