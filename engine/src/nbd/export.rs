//! What a server shows.

use super::protocol::can;
use crate::overlay::Overlay;
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// A disk as clients see it.
pub struct NbdExport {
    name: String,
    description: String,
    pub(super) disk: Arc<dyn ReadAt>,
    pub(super) overlay: Option<Arc<Overlay>>,
}

impl NbdExport {
    /// A disk that can be read. The description is for people.
    pub fn fixed(
        name: impl Into<String>,
        description: impl Into<String>,
        disk: Arc<dyn ReadAt>,
    ) -> NbdExport {
        NbdExport {
            name: name.into(),
            description: description.into(),
            disk,
            overlay: None,
        }
    }

    /// A disk that can be written to as well, which changes the overlay and nothing else.
    pub fn writable(
        name: impl Into<String>,
        description: impl Into<String>,
        overlay: Arc<Overlay>,
    ) -> NbdExport {
        NbdExport {
            name: name.into(),
            description: description.into(),
            disk: overlay.clone(),
            overlay: Some(overlay),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Text for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.disk.size()
    }

    /// The protocol's flags. All connections see the same disk, so a flush on one of them is one for all.
    /// `structured`: whether the client has asked for replies in chunks, without which there are none to be kept whole.
    pub(super) fn flags(&self, structured: bool) -> u16 {
        let whole = if structured { can::DF } else { 0 };
        let always = can::HAS_FLAGS | can::FLUSH | whole | can::MULTI_CONN | can::CACHE;
        match self.overlay {
            None => always | can::READ_ONLY,
            Some(_) => always | can::FUA | can::TRIM | can::WRITE_ZEROES | can::FAST_ZERO,
        }
    }
}

/// All exports of a server: at least one, each name once.
pub(super) struct Exports(Vec<Arc<NbdExport>>);

impl Exports {
    pub(super) fn new(exports: Vec<NbdExport>) -> Result<Exports> {
        if exports.is_empty() {
            return Err(Error::invalid("there is no disk to serve"));
        }
        for (at, export) in exports.iter().enumerate() {
            let name = export.name();
            if name.is_empty() || exports.iter().take(at).any(|other| other.name() == name) {
                return Err(Error::invalid(format!(
                    "two disks are called `{name}`, or it is no name"
                )));
            }
        }
        Ok(Exports(exports.into_iter().map(Arc::new).collect()))
    }

    pub(super) fn all(&self) -> &[Arc<NbdExport>] {
        &self.0
    }

    /// The export that a client names; no name is the first one.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<NbdExport>> {
        match name {
            b"" => self.0.first(),
            name => self
                .0
                .iter()
                .find(|export| export.name().as_bytes() == name),
        }
    }
}
