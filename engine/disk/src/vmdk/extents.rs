//! The extents of a disk: which file each lies in, and where in the space of all files.

use super::descriptor::{ExtentKind, ExtentLine};
use super::grains::{File, Grain, Grains, Tables};
use super::header::{self, Directory, Header, sectors};
use super::space::Space;
use super::stream::{self, Stream};
use crate::align::to_usize;
use crate::check::Check;
use crate::layer::Layer;
use crate::property::Property;
use crate::runs::{Detail, Place, Runs};
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Grain tables that are kept, of 2 KiB each (ESX: 16): enough for 8 GiB of disk with grains of 64 KiB.
const TABLES: u64 = 256;
/// Grains that are looked at together where the whole disk is asked about.
const GRAINS: u64 = 64;

/// By what a file is known: device and inode.
pub(super) type FileId = (u64, u64);

/// An extent.
struct Extent {
    /// Bytes of the disk.
    range: Range<u64>,
    content: Content,
}

enum Content {
    Zeros,
    /// The address of its first byte.
    Flat(u64),
    /// The grains, and the address of its file, or of what its compressed grains hold.
    Sparse(Arc<Grains>, u64),
}

/// The extents of a disk in order.
pub(super) struct Extents {
    list: Vec<Extent>,
    space: Space,
    size: u64,
    block_size: u64,
    /// What a grain stands for that was never written: zeros, or the parent's.
    absent: Place,
    tables: Arc<Tables>,
    share: Share,
    /// Sparse extents that there are, or will be.
    sparse: usize,
    warnings: Vec<String>,
    /// What the descriptor says.
    properties: Vec<Property>,
    /// Of each file its address, and what of it extents are; nothing if it is a sparse one.
    files: HashMap<FileId, (u64, Vec<Range<u64>>)>,
}

impl Extents {
    /// None yet; `sparse` of those that are to come are sparse.
    ///
    /// # Errors
    /// None on machines of 64 bits.
    pub(super) fn new(absent: Place, sparse: usize, share: Share) -> Result<Extents> {
        Ok(Extents {
            list: Vec::new(),
            space: Space::default(),
            size: 0,
            block_size: u64::MAX,
            absent,
            tables: Arc::new(Tables::new(to_usize(share.of(TABLES).max(1))?)),
            share,
            sparse,
            warnings: Vec::new(),
            properties: Vec::new(),
            files: HashMap::new(),
        })
    }

    /// What `cairn disk` shows of it.
    pub(super) fn describe(&mut self, properties: Vec<Property>) {
        self.properties = properties;
    }

    /// Appends what `line` says; `file` is the file that it names, and by what that is known, if it is one.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the file is too short, is no extent, or is part of the disk already.
    pub(super) fn add(
        &mut self,
        line: &ExtentLine,
        file: Option<(File, Option<FileId>)>,
    ) -> Result<()> {
        // Bounded by the descriptor, all together.
        let length = sectors(line.sectors).unwrap_or(u64::MAX);
        let content = match (line.kind, file) {
            (ExtentKind::Zero, _) => Content::Zeros,
            (_, None) => return Err(Error::invalid("an extent of a VMDK has no file")),
            (ExtentKind::Flat | ExtentKind::Vmfs, Some((file, id))) => {
                let start = sectors(line.offset).unwrap_or(u64::MAX);
                let range = start..start.saturating_add(length);
                let added = self.add_flat(&file, id, range);
                Content::Flat(added.map_err(|error| file.name(error))?)
            }
            (ExtentKind::Sparse | ExtentKind::VmfsSparse, Some((file, id))) => {
                let added = self.add_sparse(&file, id, length);
                let (grains, base) = added.map_err(|error| file.name(error))?;
                Content::Sparse(grains, base)
            }
        };
        let end = self.size.saturating_add(length);
        self.list.push(Extent {
            range: self.size..end,
            content,
        });
        self.size = end;
        Ok(())
    }

    fn add_flat(&mut self, file: &File, id: Option<FileId>, range: Range<u64>) -> Result<u64> {
        let size = file.bytes.size();
        if range.end > size {
            return Err(Error::damaged(format!(
                "the VMDK has an extent from byte {} to {} of this file, which has only {size} bytes",
                range.start, range.end
            ))
            .advise("the file may have been cut off while it was copied"));
        }
        let start = range.start;
        let address = match id.and_then(|id| self.files.get_mut(&id)) {
            // A sparse one has no ranges.
            Some((_, ranges)) if ranges.is_empty() => return Err(twice()),
            Some((address, ranges)) => {
                ranges.push(range);
                *address
            }
            None => {
                let address = self.space.add_file(file.clone())?;
                if let Some(id) = id {
                    self.files.insert(id, (address, vec![range]));
                }
                address
            }
        };
        Ok(address.saturating_add(start))
    }

    fn add_sparse(
        &mut self,
        file: &File,
        id: Option<FileId>,
        length: u64,
    ) -> Result<(Arc<Grains>, u64)> {
        if id.is_some_and(|id| self.files.contains_key(&id)) {
            return Err(twice());
        }
        let mut header = read_header(&*file.bytes)?;
        if header.is_unclean {
            self.warnings.push(format!(
                "{} was not closed properly, or was open when it was copied",
                named(file)
            ));
        }
        if header.directory == Directory::InFooter {
            header = stream::footer(&*file.bytes, &header)?;
        }
        // The header's may be rounded up to whole grains.
        let said = header.size;
        if said < length || said.saturating_sub(length) >= header.grain {
            return Err(Error::damaged(format!(
                "the VMDK descriptor says that the extent has {length} bytes, and its header says {said}"
            ))
            .at_offset(0));
        }
        let block = header
            .grain
            .saturating_mul(GRAINS.min(header.table_entries));
        let is_compressed = header.is_compressed;
        let number = self.list.len();
        if is_compressed && self.sparse != 1 {
            return Err(Error::unsupported(
                "the VMDK has several sparse extents, and compressed ones among them, which is not read",
            ));
        }
        let share = self.share.among(self.sparse);
        let tables = self.tables.clone();
        let (grains, warning) = Grains::open(file.clone(), header, number, tables, share)?;
        let name = |warning: String| format!("{}: {warning}", named(file));
        self.warnings.extend(warning.map(name));
        let grains = Arc::new(grains);
        let base = match is_compressed {
            true => {
                let stream = Stream::new(grains.clone(), self.share)?;
                self.space.add_stream(stream)?
            }
            false => self.space.add_file(file.clone())?,
        };
        if let Some(id) = id {
            self.files.insert(id, (base, Vec::new()));
        }
        self.block_size = self.block_size.min(block);
        Ok((grains, base))
    }

    /// Refuses what shows only when all extents are there: parts of a file that are the disk twice. What is to be said of the disk.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged).
    pub(super) fn finish(&mut self) -> Result<Vec<String>> {
        for (_, ranges) in std::mem::take(&mut self.files).values_mut() {
            ranges.sort_unstable_by_key(|range| range.start);
            let pairs = ranges.iter().zip(ranges.iter().skip(1));
            for (one, next) in pairs {
                if next.start < one.end {
                    return Err(Error::damaged(format!(
                        "two extents of the VMDK overlap: one ends at byte {} of a file, and another one begins at byte {}",
                        one.end, next.start
                    )));
                }
            }
        }
        Ok(std::mem::take(&mut self.warnings))
    }

    fn sparse_runs(
        &self,
        (grains, base): (&Grains, u64),
        range: Range<u64>,
        detail: Detail,
        runs: &mut Runs,
    ) -> Result<()> {
        let header = grains.header();
        grains.walk(range, detail, |number, grain, part| {
            let length = part.end.saturating_sub(part.start);
            let place = match grain {
                Grain::Absent => self.absent,
                Grain::Zeros => Place::Zeros,
                // What it holds has an address by where it belongs.
                Grain::At(_) if header.is_compressed => {
                    Place::Image(base.saturating_add(part.start))
                }
                Grain::At(at) => {
                    grains.check(number, at)?;
                    let start = number.saturating_mul(header.grain);
                    let skipped = part.start.saturating_sub(start);
                    Place::Image(base.saturating_add(at).saturating_add(skipped))
                }
            };
            runs.push(length, place);
            Ok(())
        })
    }
}

impl Layer for Extents {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn image(&self) -> &dyn ReadAt {
        &self.space
    }

    /// What is flat or zeros is one step; the rest goes by the tables of each extent.
    fn step_end(&self, at: u64, blocks: u64) -> u64 {
        let behind = |extent: &Extent| extent.range.end <= at;
        let Some(extent) = self.list.get(self.list.partition_point(behind)) else {
            return u64::MAX;
        };
        let start = extent.range.start;
        match &extent.content {
            Content::Zeros | Content::Flat(_) => extent.range.end,
            Content::Sparse(grains, _) => {
                let most = blocks.saturating_mul(GRAINS);
                let end = grains.step_end(at.saturating_sub(start), most);
                start.saturating_add(end).min(extent.range.end)
            }
        }
    }

    fn runs(&self, range: Range<u64>, detail: Detail) -> Result<Runs> {
        let mut runs = Runs::default();
        let first = self
            .list
            .partition_point(|extent| extent.range.end <= range.start);
        for extent in self.list.iter().skip(first) {
            let of_extent = |at: u64| at.saturating_sub(extent.range.start);
            let part = of_extent(range.start)..of_extent(range.end.min(extent.range.end));
            if part.is_empty() {
                break;
            }
            let length = part.end.saturating_sub(part.start);
            match &extent.content {
                Content::Zeros => runs.push(length, Place::Zeros),
                Content::Flat(address) => {
                    runs.push(length, Place::Image(address.saturating_add(part.start)));
                }
                Content::Sparse(grains, base) => {
                    self.sparse_runs((grains, *base), part, detail, &mut runs)?;
                }
            }
        }
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        self.properties.clone()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let mut failure = None;
        for extent in &self.list {
            let Content::Sparse(grains, _) = &extent.content else {
                continue;
            };
            let file = grains.file();
            if let Some(path) = &file.path {
                check.begin_file(Some(path));
            }
            // What keeps one file from being looked at says nothing of the others.
            match super::check::check(grains, check).map_err(|error| file.name(error)) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// The header at the beginning of a sparse extent.
///
/// # Errors
/// What [`Header::parse`] says.
pub(super) fn read_header(file: &dyn ReadAt) -> Result<Header> {
    if file.size() < cairn_base::units::to_u64(header::SIZE) {
        return Err(Error::damaged(
            "a sparse extent of a VMDK begins with a header, and this file is too short for one",
        )
        .advise("the file may have been cut off while it was copied"));
    }
    Header::parse(&read_vec(file, 0, header::SIZE)?, 0)
}

fn twice() -> Error {
    Error::damaged("the file is an extent of the VMDK twice")
}

fn named(file: &File) -> String {
    match &file.path {
        Some(path) => path.display().to_string(),
        None => "the sparse extent".to_string(),
    }
}
