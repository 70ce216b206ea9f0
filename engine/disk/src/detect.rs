//! What an image is, by its content, and how it is opened.

use crate::beside::Beside;
use crate::check::Check;
use crate::disk::{FileStamp, Format, FormatHint, FoundBy, Identity, ImageInfo, VirtualDisk};
use crate::raw::RawDisk;
use crate::reach::Reach;
use crate::source::FileSource;
use crate::stack::Stack;
use crate::table::Share;
use crate::{chain, content, named};
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which container `image` is, by its content: `vhdxfile` or `QFI\xfb` at the start, the signature of VDI at byte 64, the header or descriptor of a VMDK at the start, or a VHD footer at the end or
/// (its copy) at the start; anything else is raw. A guest that writes such a thing into its own raw disk has it taken for that: what it cannot
/// have read that way is said at [`open_with`].
///
/// A VHDX or VDI is said to be dynamic here, and a VMDK sparse; only their metadata tell.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a container that is known and not read (QED, EWF, ...),
/// so that it is never taken for a disk, and for an image of no bytes; [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is
/// a VHD footer and no copy of it can be used (see [`vhd::find_footer`](crate::vhd::find_footer)); [`Kind::Denied`](cairn_base::Kind::Denied) if it begins like a QCOW2, VDI or VMDK and ends like
/// a VHD: either may be what a guest wrote.
pub fn detect(image: &dyn ReadAt) -> Result<Format> {
    Ok(content::find(image)?.format())
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
/// As [`open_bytes`]; [`Kind::Denied`](cairn_base::Kind::Denied) if an image is not the parent that the one before it
/// names, [`Kind::Invalid`](cairn_base::Kind::Invalid) if it names none, [`Kind::NotFound`](cairn_base::Kind::NotFound)
/// if the last one names another one.
pub fn open_chain(
    image: Arc<dyn ReadAt>,
    parents: Vec<Arc<dyn ReadAt>>,
    hint: FormatHint,
) -> Result<Arc<dyn VirtualDisk>> {
    let found = content::find_as(&*image, hint)?;
    match found.open(image.clone(), Share::ALL, &Beside::NOTHING)? {
        None if parents.is_empty() => Ok(Arc::new(RawDisk::new(image, 512))),
        None => Err(Error::invalid("a raw disk was given a parent")),
        Some(opened) => {
            let chain = chain::of_images(opened, parents)?;
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
    /// Folders in which parents of a differencing disk, and other files of an image, are looked for, besides its own folder. A file may be named itself.
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
/// A file called `.vhd`, `.vhdx`, `.avhd`, `.avhdx`, `.vhds`, `.qcow2`, `.qcow`, `.qed` or `.vdi` in which nothing of the kind is found is refused unless
/// the caller says what it is: its header is gone (all of it, if the file is empty), and to keep the container as if it were the disk would be a recovery point of nothing. One called `.vmdk`
/// is refused too if it does not begin with a partition table or boot sector, or if a VMDK's descriptor or footer lies in it; otherwise it is a raw disk, with a
/// warning, and without one if it is called as VMware calls the disk's own bytes (`-flat`, `-rdm`, `-rdmp`).
///
/// The guest of a raw disk can write what it likes, also what begins or ends like a container, and name any file of this machine as
/// its parent, or as a part of it. So an image whose format was not given ([`FormatHint::Detect`]) has no file opened but those in its own folder, below
/// it, and in [`OpenOptions::parents`], after links are followed; a block device none but the latter; and what is a differencing VHD by
/// its first sector alone, without a footer at the end, has no parent opened. The same holds from the first parent on whose format the child
/// does not say.
///
/// # Errors
/// What [`FileSource::open`] and [`open_bytes`] say, with the file's name; [`Kind::Denied`](cairn_base::Kind::Denied) for a VMDK that
/// names other files, if nobody said that it is one and its own is not called `.vmdk`, or called as extents that guests write to are, and for a QCOW2 that does and is not called `.qcow2`; [`Kind::NotFound`](cairn_base::Kind::NotFound)
/// if a parent is nowhere, [`Kind::Denied`](cairn_base::Kind::Denied) if it was changed since the child was made, [`Kind::Unsupported`](cairn_base::Kind::Unsupported)
/// if what the image names is a folder or the like.
pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Arc<dyn VirtualDisk>> {
    match open_file(Arc::new(FileSource::open(path)?), options)? {
        (disk, None) => Ok(disk),
        (_, Some(error)) => Err(error),
    }
}

/// Refuses to take as a raw disk what is called like an image; what is to be said of it otherwise.
fn check_raw(file: &FileSource) -> Result<Option<String>> {
    named::check_raw(file).map_err(|error| {
        let advice = "if it is a raw disk, say so (`--format raw`)";
        error.at_path(file.path()).advise(advice)
    })
}

/// As [`open_with`]; if only parents are missing, the disk without them, and why.
pub(crate) fn open_file(
    file: Arc<FileSource>,
    options: &OpenOptions,
) -> Result<(Arc<dyn VirtualDisk>, Option<Error>)> {
    let path = file.path().to_path_buf();
    let image: Arc<dyn ReadAt> = file.clone();
    let is_told = options.hint != FormatHint::Detect;
    let mut reach = Reach::new(&options.parents, is_told);
    let beside = Beside::of(&file, &options.parents, &mut reach);
    if !is_told && image.size() == 0 {
        check_raw(&file)?;
    }
    let opened = content::find_as(&*image, options.hint)
        .and_then(|found| found.open(image.clone(), Share::ALL, &beside))
        .map_err(|e| e.at_path(&path))?;
    let mut failure = None;
    let (disk, files): (Arc<dyn VirtualDisk>, _) = match opened {
        None => {
            let warning = match is_told {
                false => check_raw(&file)?,
                true => None,
            };
            let sector_size = file.sector_size().unwrap_or(512);
            let disk = RawDisk::new(image, sector_size).warned(warning);
            (Arc::new(disk), vec![(vec![file], FoundBy::Caller)])
        }
        Some(opened) => {
            let (chain, end) = chain::with_parents(opened, file, &options.parents, reach);
            failure = end.err();
            let mut files = Vec::with_capacity(chain.len());
            let mut images = Vec::with_capacity(chain.len());
            for mut member in chain {
                let others = std::mem::take(&mut member.opened.files);
                images.push((member.opened, Some(member.file.path().to_path_buf())));
                let mut own = vec![member.file];
                own.extend(others);
                files.push((own, member.found));
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

/// What an image that lies in `files`, its own first, is known by. What changed of one file alone is told only of an image that is one.
fn of_files(image: Identity, files: &[Arc<FileSource>]) -> Identity {
    let settled = match files {
        [file] => file.settled(),
        _ => None,
    };
    Identity {
        file: files.iter().map(|file| file.stamp()).reduce(FileStamp::and),
        settled,
        ..image
    }
}

/// A disk whose image is a file, or several: errors name it, and it can be asked whether it changed.
struct FileDisk {
    disk: Arc<dyn VirtualDisk>,
    path: PathBuf,
    /// Of each image its own file and the others that belong to it, and how it was found.
    files: Vec<(Vec<Arc<FileSource>>, FoundBy)>,
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
        let own = self.files.first();
        own.map_or_else(Identity::default, |(files, _)| {
            of_files(self.disk.identity(), files)
        })
    }
    fn chain(&self) -> Vec<Identity> {
        let images = self.disk.chain().into_iter().zip(&self.files);
        images
            .map(|(image, (files, _))| of_files(image, files))
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
        let files = self.files.iter().flat_map(|(files, _)| files);
        files.map(|file| file.path().to_path_buf()).collect()
    }
    fn changed(&self) -> Result<Option<PathBuf>> {
        for file in self.files.iter().flat_map(|(files, _)| files) {
            if file.changed()? {
                return Ok(Some(file.path().to_path_buf()));
            }
        }
        Ok(None)
    }
    fn images(&self) -> Vec<ImageInfo> {
        let mut images = self.disk.images();
        for (image, (files, found)) in images.iter_mut().zip(&self.files) {
            image.files = files.iter().map(|file| file.info()).collect();
            image.found = *found;
            image.identity = of_files(image.identity, files);
        }
        images
    }
    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        self.disk.check(check).map_err(|e| e.at_path(&self.path))
    }
}

#[cfg(test)]
mod tests;
