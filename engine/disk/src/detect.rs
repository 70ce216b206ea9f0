//! What an image is, by its content, and how it is opened.

use crate::align::to_usize;
use crate::check::Check;
use crate::disk::{Format, FoundBy, Identity, ImageInfo, VirtualDisk};
use crate::layer::Opened;
use crate::raw::RawDisk;
use crate::reach::Reach;
use crate::source::FileSource;
use crate::stack::Stack;
use crate::table::Share;
use crate::vhd::footer::{DiskType, Footer};
use crate::{chain, foreign, vhd, vhdx};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// What the caller knows of an image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FormatHint {
    /// Nothing: the content decides, see [`detect`].
    #[default]
    Detect,
    /// It is a raw disk, whatever its bytes look like.
    Raw,
    /// It is a VHD, fixed or dynamic.
    Vhd,
    /// It is a VHDX, fixed or dynamic.
    Vhdx,
}

impl FormatHint {
    /// All that a caller can know. Whatever offers formats by name offers these.
    pub const KNOWN: &'static [FormatHint] = &[FormatHint::Raw, FormatHint::Vhd, FormatHint::Vhdx];

    /// Its name: what [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            FormatHint::Detect => "auto",
            FormatHint::Raw => "raw",
            FormatHint::Vhd => "vhd",
            FormatHint::Vhdx => "vhdx",
        }
    }
}

impl FromStr for FormatHint {
    type Err = Error;

    /// `auto`, or the name of a known format in any letters.
    fn from_str(text: &str) -> Result<FormatHint> {
        let mut all = std::iter::once(&FormatHint::Detect).chain(FormatHint::KNOWN);
        let found = all.find(|hint| hint.name().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = FormatHint::KNOWN.iter().map(|hint| hint.name()).collect();
            Error::invalid(format!("`{text}` is no format of disk images"))
                .advise(format!("there is auto, {}", names.join(", ")))
        })
    }
}

/// What was found in an image.
enum Found {
    Raw,
    Vhd(Footer, Vec<String>),
    Vhdx,
}

/// Which container `image` is, by its content: `vhdxfile` at the start, or a VHD footer at the end or (its copy) at the
/// start; anything else is raw. A guest cannot make its own raw disk pass for a VHDX without giving up its boot sector.
///
/// A VHDX is said to be dynamic here; only its metadata tell.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a container that is known and not read (QCOW2, VMDK, ...),
/// so that it is never taken for a disk; [`Kind::Damaged`](cairn_base::Kind::Damaged) if the image is empty, or if there is
/// a VHD footer and no copy of it can be used (see [`vhd::find_footer`]).
pub fn detect(image: &dyn ReadAt) -> Result<Format> {
    Ok(match find(image)? {
        Found::Raw => Format::Raw,
        Found::Vhdx => Format::VhdxDynamic,
        Found::Vhd(footer, _) => match footer.disk_type {
            DiskType::Fixed => Format::VhdFixed,
            DiskType::Dynamic => Format::VhdDynamic,
            DiskType::Differencing => Format::VhdDifferencing,
        },
    })
}

fn find(image: &dyn ReadAt) -> Result<Found> {
    if image.size() == 0 {
        return Err(Error::damaged("the image is empty"));
    }
    let length = image.size().min(to_u64(foreign::HEAD));
    let head = read_vec(image, 0, to_usize(length)?)?;
    if head.starts_with(vhdx::SIGNATURE) {
        return Ok(Found::Vhdx);
    }
    if let Some((footer, warnings)) = vhd::find_footer(image)? {
        return Ok(Found::Vhd(footer, warnings));
    }
    foreign::refuse(&head)?;
    Ok(Found::Raw)
}

/// What an image held, before its parents are known.
enum Content {
    Raw,
    Container(Box<Opened>),
}

fn open_content(image: &Arc<dyn ReadAt>, hint: FormatHint) -> Result<Content> {
    let found = match hint {
        FormatHint::Detect => find(&**image)?,
        FormatHint::Raw => Found::Raw,
        FormatHint::Vhdx => Found::Vhdx,
        FormatHint::Vhd => match vhd::find_footer(&**image)? {
            Some((footer, warnings)) => Found::Vhd(footer, warnings),
            None => return Err(Error::damaged("the image has no VHD footer")),
        },
    };
    let image = image.clone();
    Ok(match found {
        Found::Raw => Content::Raw,
        Found::Vhd(footer, warnings) => {
            Content::Container(Box::new(vhd::open(image, &footer, warnings, Share::ALL)?))
        }
        Found::Vhdx => Content::Container(Box::new(vhdx::open(image, Share::ALL)?)),
    })
}

/// Opens an image that may lie anywhere.
///
/// # Errors
/// See [`detect`]; [`Kind::Damaged`](cairn_base::Kind::Damaged) where the image contradicts its format;
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for what is required and not known;
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) for a differencing disk: see [`open_chain`].
pub fn open_bytes(image: Arc<dyn ReadAt>, hint: FormatHint) -> Result<Arc<dyn VirtualDisk>> {
    open_chain(image, Vec::new(), hint)
}

/// Opens a differencing disk whose parents are known: `parents` are its own, that one's, and so on.
///
/// # Errors
/// As [`open_bytes`]; [`Kind::Damaged`](cairn_base::Kind::Damaged) if an image is not the parent that the one before it
/// names, [`Kind::Invalid`](cairn_base::Kind::Invalid) if it names none, [`Kind::NotFound`](cairn_base::Kind::NotFound)
/// if the last one names another one.
pub fn open_chain(
    image: Arc<dyn ReadAt>,
    parents: Vec<Arc<dyn ReadAt>>,
    hint: FormatHint,
) -> Result<Arc<dyn VirtualDisk>> {
    match open_content(&image, hint)? {
        Content::Raw if parents.is_empty() => Ok(Arc::new(RawDisk::new(image, 512))),
        Content::Raw => Err(Error::invalid("a raw disk was given a parent")),
        Content::Container(opened) => {
            let chain = chain::of_images(*opened, parents)?;
            let images = chain.into_iter().map(|opened| (opened, None)).collect();
            Ok(Arc::new(Stack::new(images)?))
        }
    }
}

/// How an image file is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// What is known of its format.
    pub hint: FormatHint,
    /// Folders in which parents of a differencing disk are looked for, besides its own folder. A parent's file may be named itself.
    /// Where the disk says is looked too, whatever lies there, if the format is known; if it was found out by the content, only in
    /// these folders: see [`open_with`].
    pub parents: Vec<PathBuf>,
}

/// Opens an image file or a block device, its format found out by its content.
///
/// # Errors
/// As [`open_with`].
pub fn open(path: &Path) -> Result<Arc<dyn VirtualDisk>> {
    open_with(path, &OpenOptions::default())
}

/// Opens an image file or a block device whose format may be known.
///
/// # Errors
/// As [`open_with`].
pub fn open_as(path: &Path, hint: FormatHint) -> Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        hint,
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

/// Opens an image file or a block device; a differencing disk with all its parents.
///
/// A file called `.vhd` or `.vhdx` in which nothing of the kind is found is refused unless the caller says what it is:
/// its header is gone, and to keep the container as if it were the disk would be a recovery point of nothing.
///
/// The guest of a raw disk can write what it likes, also what begins or ends like a container, and name any file of this machine as
/// its parent. So an image whose format was not given ([`FormatHint::Detect`]) has no file opened but those in its own folder, below
/// it, and in [`OpenOptions::parents`], after links are followed; a block device none but the latter; and what is a differencing VHD by
/// its first sector alone, without a footer at the end, has no parent opened.
///
/// # Errors
/// What [`FileSource::open`] and [`open_bytes`] say, with the file's name; [`Kind::NotFound`](cairn_base::Kind::NotFound)
/// if a parent is nowhere, [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was changed since the child was made.
pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Arc<dyn VirtualDisk>> {
    match open_file(Arc::new(FileSource::open(path)?), options)? {
        (disk, None) => Ok(disk),
        (_, Some(error)) => Err(error),
    }
}

/// As [`open_with`]; if only parents are missing, the disk without them, and why.
pub(crate) fn open_file(
    file: Arc<FileSource>,
    options: &OpenOptions,
) -> Result<(Arc<dyn VirtualDisk>, Option<Error>)> {
    let path = file.path().to_path_buf();
    let image: Arc<dyn ReadAt> = file.clone();
    let content = open_content(&image, options.hint).map_err(|e| e.at_path(&path))?;
    let mut failure = None;
    let (disk, files): (Arc<dyn VirtualDisk>, _) = match content {
        Content::Raw => {
            if options.hint == FormatHint::Detect && chain::is_image_name(&path) {
                return Err(Error::damaged(
                    "the file is named like a VHD or VHDX and holds none: its header or footer is missing",
                )
                .at_path(path)
                .advise("say that the image is raw if it is a raw disk"));
            }
            let sector_size = file.sector_size().unwrap_or(512);
            let files = vec![(file, FoundBy::Caller)];
            (Arc::new(RawDisk::new(image, sector_size)), files)
        }
        Content::Container(opened) => {
            let is_told = options.hint != FormatHint::Detect;
            let reach = Reach::new(&options.parents, is_told);
            let (chain, end) = chain::with_parents(*opened, file, &options.parents, reach);
            failure = end.err();
            let mut files = Vec::with_capacity(chain.len());
            let mut images = Vec::with_capacity(chain.len());
            for member in chain {
                images.push((member.opened, Some(member.file.path().to_path_buf())));
                files.push((member.file, member.found));
            }
            let stack = Stack::new(images)?;
            let stack = match failure {
                None => stack,
                Some(_) => stack.without_parents(),
            };
            (Arc::new(stack), files)
        }
    };
    let disk = Arc::new(FileDisk { disk, path, files });
    Ok((disk, failure))
}

/// What an image in `file` is known by.
fn of_file(image: Identity, file: &FileSource) -> Identity {
    Identity {
        file: Some(file.stamp()),
        settled: file.settled(),
        ..image
    }
}

/// A disk whose image is a file, or several: errors name it, and it can be asked whether it changed.
struct FileDisk {
    disk: Arc<dyn VirtualDisk>,
    path: PathBuf,
    /// The disk's own file, then those of its parents.
    files: Vec<(Arc<FileSource>, FoundBy)>,
}

impl ReadAt for FileDisk {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk
            .read_exact_at(offset, buffer)
            .map_err(|e| e.at_path(&self.path))
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.disk
            .data_extents(range)
            .map_err(|e| e.at_path(&self.path))
    }
    fn will_need(&self, range: Range<u64>) {
        self.disk.will_need(range);
    }
}

impl VirtualDisk for FileDisk {
    fn format(&self) -> Format {
        self.disk.format()
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn identity(&self) -> Identity {
        self.files
            .first()
            .map_or_else(Identity::default, |(file, _)| {
                of_file(self.disk.identity(), file)
            })
    }
    fn chain(&self) -> Vec<Identity> {
        let images = self.disk.chain();
        // Which file is whose is known only where each image is one.
        if images.len() != self.files.len() {
            return images;
        }
        let known = images.into_iter().zip(&self.files);
        known
            .map(|(image, (file, _))| of_file(image, file))
            .collect()
    }
    fn held(&self, images: usize, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.disk
            .held(images, range)
            .map_err(|e| e.at_path(&self.path))
    }
    fn warnings(&self) -> &[String] {
        self.disk.warnings()
    }
    fn files(&self) -> Vec<PathBuf> {
        let paths = self.files.iter();
        let paths = paths.map(|(file, _)| file.path().to_path_buf());
        paths.collect()
    }
    fn changed(&self) -> Result<Option<PathBuf>> {
        for (file, _) in &self.files {
            if file.changed()? {
                return Ok(Some(file.path().to_path_buf()));
            }
        }
        Ok(None)
    }
    fn images(&self) -> Vec<ImageInfo> {
        let mut images = self.disk.images();
        for (image, (file, found)) in images.iter_mut().zip(&self.files) {
            image.files = vec![file.info()];
            image.found = *found;
            image.identity.file = Some(file.stamp());
        }
        images
    }
    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        self.disk.check(check).map_err(|e| e.at_path(&self.path))
    }
}

#[cfg(test)]
mod tests;
