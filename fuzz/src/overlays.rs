//! The kept files of overlays.

use blake3::hash;
use cairn::{Kind, Overlay, OverlayBase, ReadAt};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the disk below.
const SIZE: usize = 300_000;

/// What the target's overlays lie over.
pub fn base() -> (Arc<dyn ReadAt>, OverlayBase) {
    let of = OverlayBase {
        id: [5; 32],
        disk: "disk0".to_string(),
    };
    (Arc::new(vec![0xBA; SIZE]), of)
}

/// The checksum of everything before it, in a block of 4,096 bytes.
fn seal(block: &mut [u8]) {
    // What was never written.
    if block.iter().all(|byte| *byte == 0) {
        return;
    }
    if let Some((bytes, sum)) = block.split_at_mut_checked(4080)
        && sum.len() == 16
    {
        sum.copy_from_slice(&hash(bytes).as_bytes()[..16]);
    }
}

/// A file of data for the overlay with this id.
fn data(id: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4096 + SIZE.next_multiple_of(4096)];
    bytes[..8].copy_from_slice(b"CAIRNOVD");
    bytes[8] = 1;
    bytes[16..16 + id.len()].copy_from_slice(id);
    seal(&mut bytes[..4096]);
    bytes[4096..].fill(0x0F);
    bytes
}

/// A map. Of an even length it gets right checksums.
pub fn map(bytes: &[u8]) -> bool {
    let mut map = bytes.to_vec();
    if map.len().is_multiple_of(2) {
        map.chunks_mut(4096).for_each(seal);
    }
    let shared_memory = Path::new("/dev/shm");
    let folder = if shared_memory.is_dir() {
        tempfile::tempdir_in(shared_memory)
    } else {
        tempfile::tempdir()
    };
    let folder = folder.unwrap();
    let path = |end: &str| folder.path().join(format!("0505050505050505-disk0.{end}"));
    fs::write(path("map"), &map).unwrap();
    let id = map.get(16..32).unwrap_or_default();
    fs::write(path("data0"), data(id)).unwrap();
    let (base, of) = base();
    let read = |overlay: &Overlay| {
        let mut all = vec![0; SIZE];
        overlay.read_exact_at(0, &mut all).map(|()| all)
    };
    let overlay = match Overlay::kept(base.clone(), folder.path(), &of) {
        Ok(overlay) => overlay,
        Err(error) => {
            let expected = [Kind::Damaged, Kind::Unsupported, Kind::Exists];
            assert!(expected.contains(&error.kind()), "{error}");
            return false;
        }
    };
    let mut all = match read(&overlay) {
        Ok(all) => all,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            return false;
        }
    };
    // Whatever stood there, from now on it is as it is told.
    overlay.write_at(5000, b"written").unwrap();
    all[5000..5007].copy_from_slice(b"written");
    overlay.trim(8192..20_000).unwrap();
    all[8192..16_384].fill(0);
    drop(overlay);
    let again = Overlay::kept(base, folder.path(), &of).unwrap();
    assert!(read(&again).unwrap() == all);
    true
}
