//! Random damage to sound volumes: no panic, every walk ends, and what is read was on the disk.

use crate::exfat::{Mount, make};
use crate::malformed::{exercise_all, in_time};
use crate::support::{have, shell};
use crate::trees::{blank, noise};
use cairn_base::ReadAt;
use proptest::prelude::*;
use std::path::Path;
use std::sync::{Arc, OnceLock};

fn fill(folder: &Path) {
    for depth in ["one", "one/two", "one/two/three"] {
        std::fs::create_dir_all(folder.join(depth)).unwrap();
        for index in 0..8u64 {
            let name = format!("{depth}/a file of some length {index}");
            std::fs::write(folder.join(name), noise(index, index as usize * 700)).unwrap();
        }
    }
}

/// A volume of each kind; none of a kind that cannot be made here.
fn sound() -> &'static [Vec<u8>] {
    static SOUND: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let mut all = Vec::new();
        if have(&["mkfs.fat", "mcopy"]) {
            for (options, size) in [("-F 12 -s 4", 3), ("-F 16 -s 1", 3), ("-F 32 -s 1", 34)] {
                let scratch = tempfile::tempdir().unwrap();
                fill(&scratch.path().join("files"));
                let image = blank(scratch.path(), size << 20);
                let script = format!(
                    "cd '{}' && mkfs.fat {options} image && MTOOLS_SKIP_CHECK=1 mcopy -s -i image files/one ::",
                    scratch.path().display()
                );
                shell(&script).unwrap();
                all.push(std::fs::read(image).unwrap());
            }
        }
        if have(&["mkfs.exfat", "mount.exfat-fuse"]) {
            let scratch = tempfile::tempdir().unwrap();
            let image = make(scratch.path(), 2 << 20, "-b 64K -c 512");
            if let Some(mount) = Mount::new(&image, scratch.path()) {
                fill(&mount.0);
                drop(mount);
                all.push(std::fs::read(image).unwrap());
            }
        }
        all
    })
}

/// Bytes that matter: not zeros.
fn places(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at] != 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_damage_is_survived(
        which: prop::sample::Index,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..40), 1..40),
        cut: Option<prop::sample::Index>,
    ) {
        let sound = sound();
        if sound.is_empty() {
            return Ok(());
        }
        let mut bytes = sound[which.index(sound.len())].clone();
        let places = places(&bytes);
        for (index, value, beside) in changes {
            let at = (places[index.index(places.len())] + beside).min(bytes.len() - 1);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let device: Arc<dyn ReadAt> = Arc::new(bytes);
        in_time("damaged at random", move || exercise_all(&device));
    }
}
