//! An entry of a guest, with everything that belongs to it.

use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use cairn_guest::{Attributes, EntryId, EntryKind, StreamInfo, Volume};
use std::sync::Arc;

/// The longest value of an extended attribute that Linux takes.
pub const LONGEST: u64 = 64 << 10;
/// What stands before the name of a stream where it is an extended attribute.
const STREAM: &[u8] = b"user.ntfs.streams.";

/// In which Windows keeps the content of a file that it has compressed by itself, and the reparse tag of such files (WOF).
const COMPRESSED: &[u8] = b"WofCompressedData";
const COMPRESSED_TAG: [u8; 4] = [0x17, 0, 0, 0x80];

/// An entry that is to be copied.
#[derive(Clone)]
pub struct Item {
    /// Where it is.
    pub volume: Arc<dyn Volume>,
    /// Which one.
    pub id: EntryId,
    /// What is known of it.
    pub attributes: Attributes,
    /// Whether owner and mode mean something: Windows has others.
    pub unix: bool,
}

/// Extended attributes, and why some are missing.
#[derive(Default)]
pub struct Extended {
    /// Full name and value.
    pub values: Vec<(Vec<u8>, Vec<u8>)>,
    /// What has no place.
    pub missing: Vec<Error>,
}

impl Item {
    /// # Errors
    /// As the volume reports.
    pub fn of(volume: &Arc<dyn Volume>, id: EntryId) -> Result<Item> {
        Ok(Item {
            attributes: volume.attributes(id)?,
            unix: !volume.info().ignores_case,
            volume: volume.clone(),
            id,
        })
    }

    /// Of an entry that has further names: what is the same for all of them.
    pub fn identity(&self) -> Option<Identity> {
        let several = self.attributes.kind == EntryKind::File && self.attributes.links > 1;
        // Volumes live as long as what is copied of them, so that their addresses tell them apart.
        let volume = Arc::as_ptr(&self.volume).cast::<()>().addr();
        several.then_some((volume, self.id))
    }

    /// Extended attributes and ACLs; named streams as attributes `user.ntfs.streams.<name>`, as the mount shows them, where they are short enough.
    pub fn extended(&self) -> Extended {
        let mut all = Extended::default();
        match self.volume.listed_xattrs(self.id) {
            Ok(values) => all.values = values,
            Err(error) => all
                .missing
                .push(error.context("its extended attributes are lost")),
        }
        match self.streams() {
            Ok(streams) => {
                for stream in streams {
                    match self.stream(&stream.name, stream.size) {
                        Ok(value) => all.values.push(([STREAM, &stream.name].concat(), value)),
                        Err(error) => all.missing.push(error),
                    }
                }
            }
            Err(error) => all
                .missing
                .push(error.context("its named streams are lost")),
        }
        all
    }

    /// The named streams, but for one that only has the content in another form.
    ///
    /// # Errors
    /// As the volume reports.
    pub fn streams(&self) -> Result<Vec<StreamInfo>> {
        let mut streams = self.volume.streams(self.id)?;
        if streams.iter().any(|stream| stream.name == COMPRESSED) {
            let point = self.volume.xattr(self.id, b"system.ntfs_reparse_data")?;
            if point.is_some_and(|point| is_compressed(&point)) {
                streams.retain(|stream| stream.name != COMPRESSED);
            }
        }
        Ok(streams)
    }

    fn stream(&self, name: &[u8], size: u64) -> Result<Vec<u8>> {
        let shown = String::from_utf8_lossy(name);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if to_u64(length) > LONGEST {
            return Err(Error::unsupported(format!(
                "its stream `{shown}` of {size} bytes is too long for an extended attribute"
            ))
            .advise("`cairn cat --stream` writes it out"));
        }
        let mut value = vec![0; length];
        self.volume
            .open_stream(self.id, name)
            .and_then(|stream| stream.read_exact_at(0, &mut value))
            .map_err(|error| error.context(format!("its stream `{shown}` is lost")))?;
        Ok(value)
    }
}

/// Whether a reparse point says that Windows has compressed the file by itself: the copy has the content, and must not be taken for compressed.
pub fn is_compressed(point: &[u8]) -> bool {
    point.starts_with(&COMPRESSED_TAG)
}

/// What the names of one file have in common.
pub type Identity = (usize, EntryId);
