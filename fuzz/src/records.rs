//! The sealed records, and names that say something.

use cairn_base::Kind;
use cairn_store::codec::{self, Record};
use cairn_store::hash::checksum;
use cairn_store::header::Header;
use cairn_store::layout::PointFile;
use cairn_store::map::Shape;
use cairn_store::session::{Manifest, SessionRecord};
use cairn_store::state::State;
use cairn_store::{PointName, PointRecord, names};
use std::fmt::Debug;

/// The store's header.
pub fn header(data: &[u8]) -> bool {
    let header = record::<Header>(data);
    if let Some(header) = &header {
        let _sane = (header.writable(), header.cut.check());
    }
    header.is_some()
}

/// A slot of the state.
pub fn state(data: &[u8]) -> bool {
    let state = record::<State>(data);
    if let Some(state) = &state {
        let unanswered = state.unanswered_packs();
        assert!(
            state
                .condemned_packs()
                .all(|pack| unanswered.contains(&pack))
        );
        assert!(unanswered.len() <= state.condemned.len() + state.replaced.len());
    }
    state.is_some()
}

/// A recovery point.
pub fn point(data: &[u8]) -> bool {
    let Some(point) = record::<PointRecord>(data) else {
        return false;
    };
    for disk in &point.disks {
        if let Ok(shape) = Shape::of(disk.size) {
            assert_eq!(shape.size(), disk.size);
            assert!(shape.height() <= 5);
            let last = shape.regions().saturating_sub(1);
            assert!(disk.size == 0 || shape.region_length(last) > 0);
        }
    }
    true
}

/// What a session says of itself.
pub fn session(data: &[u8]) -> bool {
    record::<SessionRecord>(data).is_some()
}

/// What a session is about to make public.
pub fn manifest(data: &[u8]) -> bool {
    record::<Manifest>(data).is_some()
}

/// Decodes `data` as a whole file, and as the payload of one whose envelope is right: a fuzzer does not guess checksums.
fn record<R: Record + PartialEq + Debug>(data: &[u8]) -> Option<R> {
    if let Ok(record) = codec::open::<R>(data) {
        let sealed = codec::seal(&record).unwrap();
        // Only the zeros of the envelope are not looked at.
        assert_eq!(sealed[..12], data[..12]);
        assert_eq!(sealed[16..sealed.len() - 16], data[16..data.len() - 16]);
    }
    let file = envelope::<R>(data, R::VERSION);
    let other = codec::open::<R>(&envelope::<R>(data, R::VERSION.wrapping_add(1)));
    assert_eq!(other.unwrap_err().kind(), Kind::Unsupported);
    match codec::open::<R>(&file) {
        Ok(record) => {
            assert_eq!(codec::seal(&record).unwrap(), file, "{record:?}");
            Some(record)
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Damaged);
            None
        }
    }
}

fn envelope<R: Record>(payload: &[u8], version: u32) -> Vec<u8> {
    let mut bytes = R::MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(payload);
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes
}

/// Names of points' files, of points, machines and disks.
pub fn names(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let file = PointFile::parse(text);
    if let Some(file) = &file {
        assert_eq!(file.name(), text);
    }
    if names::check_machine(text).is_ok() {
        assert!(!text.contains(['/', '@', ':', '\0']) && text.len() <= 128);
        assert!(!text.starts_with('.'));
    }
    if names::is_disk_name(text) {
        assert!(text.len() <= 64 && !text.contains(['/', '=']));
    }
    let point = PointName::parse(text);
    file.is_some() || point.is_ok()
}
