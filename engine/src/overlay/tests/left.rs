//! Overlays that another process left behind: ended at any moment, its writes still in the page cache, or its files damaged.

use super::faulty::{Faults, Memory};
use super::*;
use crate::DiskView;
use std::path::PathBuf;

const DISK: u64 = 100_000;

fn files(map: &Arc<Memory>, data: &Arc<Memory>) -> Files {
    Files {
        id: [3; 16],
        map: map.clone(),
        data: vec![data.clone()],
    }
}

/// The bytes of unit `unit`, which are all the same.
fn unit(overlay: &Overlay, unit: u64) -> u8 {
    let bytes = read_vec(overlay, unit * UNIT, UNIT as usize).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes[0]
}

fn write(overlay: &Overlay, unit: u64, fill: u8) {
    overlay
        .write_at(unit * UNIT, &[fill; UNIT as usize])
        .unwrap();
}

/// Cuts the power before the next call, which is made, and says what is found then.
fn cut(faults: &Faults, base: &Arc<dyn ReadAt>, next: impl FnOnce()) -> Overlay {
    let now = faults.calls.load(Ordering::Relaxed);
    faults.cut_at.store(now + 1, Ordering::Relaxed);
    next();
    let found = std::mem::take(&mut *faults.found.lock());
    Overlay::found(base.clone(), files(&found[0], &found[1])).unwrap()
}

#[test]
fn what_a_process_left_in_the_page_cache_is_durable_after_the_next_ones_flush() {
    let base = base(DISK);
    for seed in 1..40 {
        let faults = Arc::new(Faults::default());
        faults.calls.store(seed * 1000, Ordering::Relaxed);
        let (map, data) = (faults.file(), faults.file());
        let first = Overlay::found(base.clone(), files(&map, &data)).unwrap();
        write(&first, 0, 1);
        first.flush().unwrap();
        // In place: the map stays as it is.
        write(&first, 0, 2);
        // Killed: nothing is flushed.
        std::mem::forget(first);
        let second = Overlay::found(base.clone(), files(&map, &data)).unwrap();
        assert_eq!(unit(&second, 0), 2);
        second.flush().unwrap();
        let found = cut(&faults, &base, || write(&second, 5, 5));
        assert_eq!(unit(&found, 0), 2, "seed {seed}");
    }
}

#[test]
fn a_page_that_was_written_and_not_synced_is_not_what_the_next_process_builds_on() {
    let base = base(DISK);
    for seed in 1..40 {
        let faults = Arc::new(Faults::default());
        faults.calls.store(seed * 1000, Ordering::Relaxed);
        let (map, data) = (faults.file(), faults.file());
        let first = Overlay::found(base.clone(), files(&map, &data)).unwrap();
        write(&first, 0, 1);
        first.flush().unwrap();
        write(&first, 1, 2);
        // Killed in the middle of a flush.
        first.data[0].sync().unwrap();
        first.map.write(&first.map.changed()).unwrap();
        std::mem::forget(first);
        let second = Overlay::found(base.clone(), files(&map, &data)).unwrap();
        assert_eq!([unit(&second, 0), unit(&second, 1)], [1, 2]);
        write(&second, 2, 3);
        second.data[0].sync().unwrap();
        second.map.write(&second.map.changed()).unwrap();
        let found = cut(&faults, &base, || second.map.sync().unwrap());
        assert_eq!([unit(&found, 0), unit(&found, 1)], [1, 2], "seed {seed}");
    }
}

#[test]
fn a_map_that_could_not_be_written_is_noticed_though_it_is_not_kept() {
    let (good, bad) = (Arc::new(Faults::default()), Arc::new(Faults::default()));
    let overlay = Overlay::of(base(DISK), files(&bad.file(), &good.file()), false);
    write(&overlay, 0, 1);
    overlay.flush().unwrap();
    write(&overlay, 0, 2);
    bad.sync_fails.store(true, Ordering::Relaxed);
    assert_eq!(overlay.flush().unwrap_err().kind(), Kind::Io);
    bad.sync_fails.store(false, Ordering::Relaxed);
    assert!(read_vec(&overlay, 0, 1).is_err());
    assert!(overlay.write_at(0, b"x").is_err());
}

/// A kept overlay of three pages with something in the last: its folder, its map, its data, and how to open it.
fn kept() -> (
    tempfile::TempDir,
    PathBuf,
    PathBuf,
    impl Fn() -> Result<Overlay>,
) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("not").join("there");
    let of = OverlayBase {
        id: [1; 32],
        disk: "disk0".to_string(),
    };
    let (map, data) = ("0101010101010101-disk0.map", "0101010101010101-disk0.data0");
    let (map, data) = (folder.join(map), folder.join(data));
    let base: Arc<dyn ReadAt> = Arc::new(vec![0; SIZE as usize]);
    let open = move || Overlay::kept(base.clone(), &folder, &of);
    open()
        .unwrap()
        .write_at(SIZE - 9, b"far behind")
        .unwrap_err();
    open().unwrap().write_at(SIZE - 9, b"far away!").unwrap();
    (temp, map, data, open)
}

fn refused(open: &impl Fn() -> Result<Overlay>) -> Option<Kind> {
    open().err().map(|error| error.kind())
}

#[test]
fn a_map_that_is_cut_short_or_gone_is_damage_and_its_data_stays() {
    let (_temp, map, data, open) = kept();
    let (whole, written) = (fs::read(&map).unwrap(), fs::read(&data).unwrap());
    assert_eq!(whole.len(), 4096 + 3 * 8192);
    for length in [0, 100, 4095, 4096, 4096 + 8192, whole.len() - 1] {
        fs::write(&map, &whole[..length]).unwrap();
        assert_eq!(refused(&open), Some(Kind::Damaged), "{length} bytes");
    }
    let mut broken = whole[..4096].to_vec();
    broken[40] ^= 1;
    fs::write(&map, broken).unwrap();
    assert_eq!(refused(&open), Some(Kind::Damaged));
    fs::remove_file(&map).unwrap();
    assert_eq!(refused(&open), Some(Kind::Damaged));
    assert!(fs::read(&data).unwrap() == written);
    fs::write(&map, whole).unwrap();
    assert_eq!(
        read_vec(&open().unwrap(), SIZE - 9, 9).unwrap(),
        b"far away!"
    );
}

#[test]
fn a_newer_map_is_never_made_anew() {
    let (_temp, map, data, open) = kept();
    let mut newer = fs::read(&map).unwrap();
    newer.truncate(4096);
    newer[8] = 2;
    let sum = cairn_store::hash::checksum(&newer[..4080]);
    newer[4080..].copy_from_slice(&sum);
    fs::write(&map, &newer).unwrap();
    fs::File::create(&data).unwrap();
    assert_eq!(refused(&open), Some(Kind::Unsupported));
    assert!(fs::read(&map).unwrap() == newer);
    // Without data one that is broken was not made to its end.
    newer[8] = 1;
    fs::write(&map, &newer).unwrap();
    assert_eq!(
        read_vec(&open().unwrap(), SIZE - 9, 9).unwrap(),
        [0; 9],
        "made anew"
    );
}

#[test]
fn an_image_has_one_identity_and_a_changed_one_another() {
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk.raw");
    fs::write(&image, [1; 8192]).unwrap();
    let of = || OverlayBase::of_view(&DiskView::open_image(&image).unwrap());
    let (before, again) = (of(), of());
    assert_eq!(before, again);
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_ne!(of(), before);
    // Nothing is known of this one but its name.
    let unknown = OverlayBase::of_view(&DiskView::new("disk0", base(DISK), None));
    let kept = Overlay::kept(base(DISK), temp.path(), &unknown);
    assert_eq!(kept.err().unwrap().kind(), Kind::Unsupported);
}

#[test]
fn files_that_lost_only_their_maker_are_swept() {
    let temp = tempfile::tempdir().unwrap();
    let names = [
        format!("cairn-{}.scratch", "0a".repeat(16)),
        format!("cairn-{}.scratch", "0b".repeat(16)),
        "cairn-notes.scratch".to_string(),
    ];
    for (name, bytes) in names.iter().zip(["", "somebody's", ""]) {
        fs::write(temp.path().join(name), bytes).unwrap();
    }
    drop(super::super::folders::named_for_a_moment(temp.path()).unwrap());
    let mut left: Vec<String> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, names[1..]);
}
