//! Raw images: the disk's bytes and nothing else.

use crate::check::Check;
use crate::disk::{Format, FoundBy, Identity, ImageInfo, VirtualDisk};
use crate::layer::{Facts, Layer, Opened};
use crate::property::Property;
use crate::runs::{Detail, Place, Runs};
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// A raw disk.
pub struct RawDisk {
    bytes: Arc<dyn ReadAt>,
    sector_size: u32,
    warnings: Vec<String>,
}

impl RawDisk {
    /// All of `bytes` as a disk with logical sectors of `sector_size` bytes.
    pub fn new(bytes: Arc<dyn ReadAt>, sector_size: u32) -> RawDisk {
        RawDisk {
            bytes,
            sector_size,
            warnings: Vec::new(),
        }
    }

    /// The same, with what a user should know of it.
    pub(crate) fn warned(self, warnings: impl IntoIterator<Item = String>) -> RawDisk {
        RawDisk {
            warnings: warnings.into_iter().collect(),
            ..self
        }
    }
}

impl ReadAt for RawDisk {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.bytes.read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.bytes.data_extents(range)
    }
    fn will_need(&self, range: Range<u64>) {
        self.bytes.will_need(range);
    }
}

impl VirtualDisk for RawDisk {
    fn format(&self) -> Format {
        Format::Raw
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn identity(&self) -> Identity {
        Identity::default()
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
    fn images(&self) -> Vec<ImageInfo> {
        vec![ImageInfo {
            format: Format::Raw,
            files: Vec::new(),
            found: FoundBy::Caller,
            disk_size: self.size(),
            block_size: None,
            sector_size: self.sector_size,
            identity: Identity::default(),
            properties: Vec::new(),
            warnings: self.warnings.clone(),
        }]
    }
    /// Without structures nothing can be wrong with them.
    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        check.begin_image(None);
        Ok(())
    }
}

/// A raw disk as an image of a chain.
struct Whole(Arc<dyn ReadAt>);

/// All of `bytes` as the last image of a chain.
pub(crate) fn open(bytes: Arc<dyn ReadAt>) -> Opened {
    let facts = Facts {
        format: Format::Raw,
        sector_size: 512,
        identity: Identity::default(),
        warnings: Vec::new(),
    };
    Opened::of_one_file(Whole(bytes), facts, None)
}

impl Layer for Whole {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn block_size(&self) -> u64 {
        u64::MAX
    }

    fn image(&self) -> &dyn ReadAt {
        &*self.0
    }

    fn runs(&self, range: Range<u64>, _detail: Detail) -> Result<Runs> {
        let mut runs = Runs::default();
        let length = range.end.saturating_sub(range.start);
        runs.push(length, Place::Image(range.start));
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        Vec::new()
    }

    fn check(&self, _check: &mut Check<'_>) -> Result<()> {
        Ok(())
    }
}
