//! Metadata that contradict themselves, each other or the volume header: no bytes are shown that only one of them would show.

use crate::maker::*;
use crate::support::*;
use cairn_base::Kind;
use cairn_guest::Keys;
use cairn_guest::bitlocker::BitLocker;
use std::sync::Arc;

/// Changes a copy of the metadata and makes its checksum right.
fn change(image: &mut [u8], copy: usize, at: usize, bytes: &[u8]) {
    let start = METADATA[copy] as usize;
    image[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    let length = usize::from(u16::from_le_bytes([image[start + 8], image[start + 9]])) * 16;
    let sum = crc32fast::hash(&image[start..start + length]).to_le_bytes();
    image[start + length + 4..start + length + 8].copy_from_slice(&sum);
}

fn change_all(image: &mut [u8], at: usize, bytes: &[u8]) {
    (0..3).for_each(|copy| change(image, copy, at, bytes));
}

/// Where the entry that says where the volume's beginning is kept has its value, in a copy of the metadata.
fn block(image: &[u8]) -> usize {
    let head = [24u16, 15, 15, 1].map(u16::to_le_bytes).concat();
    let metadata = &image[METADATA[0] as usize..];
    let found = metadata.windows(8).position(|bytes| bytes == head);
    found.unwrap() + 8
}

/// Where the head of the metadata has the number of sectors that are kept elsewhere, and where.
const SECTORS: usize = 28;
const PLACE: usize = 56;
/// Where it lists its copies.
const COPIES: usize = 32;

#[test]
fn how_much_of_the_beginning_is_kept_elsewhere_may_be_told_by_either() {
    let plain = plain();
    // Only the entry says it: libbde and cryptsetup go by that alone. dislocker 0.7.2 does not look there then.
    let mut entry_only = make(&clear(), &plain);
    change_all(&mut entry_only, SECTORS, &[0; 4]);
    // Only the head says it, as of Windows 7.
    let mut head_only = make(&clear(), &plain);
    let at = block(&head_only);
    change_all(&mut head_only, at + 8, &[0; 8]);
    // There is no such entry: it is of another kind.
    let mut without = make(&clear(), &plain);
    change_all(&mut without, at - 6, &[0x77, 0]);
    for image in [entry_only, head_only, without] {
        let device = unlock(Arc::new(image), &Given::Nothing).unwrap().device();
        assert!(all(&*device) == plain);
    }
}

#[test]
fn how_much_is_kept_elsewhere_must_be_sure() {
    let plain = plain();
    let image = make(&clear(), &plain);
    let at = block(&image);
    for (place, bytes) in [
        (SECTORS, &17u32.to_le_bytes()[..]),
        (SECTORS, &15u32.to_le_bytes()),
        (at + 8, &0x1000u64.to_le_bytes()),
        (at + 8, &u64::MAX.to_le_bytes()),
        (at, &(HEAD + 512).to_le_bytes()),
        (PLACE, &(HEAD + 512).to_le_bytes()),
    ] {
        let mut bad = image.clone();
        change_all(&mut bad, place, bytes);
        let error = BitLocker::open(Arc::new(bad)).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "{place}: {error}");
        assert!(error.to_string().contains("contradict"), "{error}");
        assert_eq!(error.offset(), Some(METADATA[0]), "{error}");
        // One copy alone that does so is not used.
        let mut one = image.clone();
        change(&mut one, 0, place, bytes);
        let opened = BitLocker::open(Arc::new(one)).unwrap();
        let notes = opened.info().notes;
        assert!(
            notes.len() == 1 && notes[0].text.contains("copy 1"),
            "{notes:?}"
        );
        assert!(all(&*opened.unlock(&Keys::new()).unwrap().device()) == plain);
    }
    // Neither says it.
    let mut none = image.clone();
    change_all(&mut none, at + 8, &[0; 8]);
    change_all(&mut none, SECTORS, &[0; 4]);
    let error = BitLocker::open(Arc::new(none)).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
}

/// What lies at the copies of the metadata reads as zeros: so where they lie must be sure.
#[test]
fn copies_that_lie_elsewhere_than_the_header_says_are_not_used() {
    let plain = plain();
    let image = make(&clear(), &plain);
    let other = 0x19_0000u64.to_le_bytes();
    for copy in 0..3 {
        let mut bad = image.clone();
        change_all(&mut bad, COPIES + 8 * copy, &other);
        let error = BitLocker::open(Arc::new(bad)).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        let mut one = image.clone();
        change(&mut one, 1, COPIES + 8 * copy, &other);
        let opened = BitLocker::open(Arc::new(one)).unwrap();
        assert_eq!(opened.info().notes.len(), 1);
        assert!(all(&*opened.unlock(&Keys::new()).unwrap().device()) == plain);
    }
    // In another order they are the same.
    let mut turned = image.clone();
    change_all(&mut turned, COPIES, &METADATA[2].to_le_bytes());
    change_all(&mut turned, COPIES + 16, &METADATA[0].to_le_bytes());
    let opened = BitLocker::open(Arc::new(turned)).unwrap();
    assert!(all(&*opened.unlock(&Keys::new()).unwrap().device()) == plain);
}

#[test]
fn copies_of_one_age_that_differ_are_a_defect() {
    // A letter of the description.
    let letter = 64 + 48 + 8;
    let mut image = make(&clear(), &plain());
    change(&mut image, 1, letter, b"Z");
    let notes = BitLocker::open(Arc::new(image)).unwrap().info().notes;
    let [note] = &notes[..] else {
        panic!("{notes:?}");
    };
    assert!(note.is_defect && note.text.contains("copy 2"), "{note}");
}

#[test]
fn a_copy_of_another_volume_is_not_used() {
    let plain = plain();
    for stray in 0..3 {
        let mut image = make(&clear(), &plain);
        // Its id; and it was encrypted up to another place, and written last.
        change(&mut image, stray, 64 + 16, &[0x17; 16]);
        change(&mut image, stray, 64 + 32, &[0xff; 4]);
        change(&mut image, stray, 16, &0x10_0000u64.to_le_bytes());
        let opened = BitLocker::open(Arc::new(image)).unwrap();
        let notes = opened.info().notes;
        let named = format!("copy {}", stray + 1);
        assert!(
            matches!(&notes[..], [note] if note.is_defect && note.text.contains(&named)),
            "{notes:?}"
        );
        assert!(all(&*opened.unlock(&Keys::new()).unwrap().device()) == plain);
    }
}

/// A conversion that does not say how far it came is read as if it were done, and that is told.
#[test]
fn a_conversion_without_a_mark_is_a_defect() {
    let mut recipe = clear();
    recipe.state = 5;
    let plain = plain();
    let mut image = make(&recipe, &plain);
    change_all(&mut image, 16, &[0; 8]);
    let unlocked = unlock(Arc::new(image), &Given::Nothing).unwrap();
    assert!(all(&*unlocked.device()) == plain);
    let volume = unlocked.volume(Arc::new(crate::files::Nothing::default()));
    assert!(
        volume
            .info()
            .defects()
            .any(|text| text.contains("how much")),
        "{:?}",
        volume.info().notes
    );
}
