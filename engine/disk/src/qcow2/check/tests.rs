use super::*;
use cairn_base::Silent;

const SIZE: usize = 512;
const COPIED: u64 = 1 << 63;

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Clusters of 512 bytes: header, L1 table, refcount table, refcount block of 16 bits, an L2 table, and six of the guest.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; 11 * SIZE];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    bytes[7] = 3;
    bytes[23] = 9;
    put(&mut bytes, 24, 32 << 10);
    bytes[39] = 1;
    put(&mut bytes, 40, SIZE as u64);
    put(&mut bytes, 48, 2 * SIZE as u64);
    bytes[59] = 1;
    bytes[99] = 4;
    bytes[103] = 104;
    put(&mut bytes, SIZE, (4 * SIZE as u64) | COPIED);
    put(&mut bytes, 2 * SIZE, 3 * SIZE as u64);
    for cluster in 0..11 {
        bytes[3 * SIZE + 2 * cluster + 1] = 1;
    }
    for cluster in 0..6 {
        let place = (5 + cluster) * SIZE;
        put(&mut bytes, 4 * SIZE + 8 * cluster, (place as u64) | COPIED);
    }
    bytes
}

/// What is found of `bytes` if so many clusters are counted in one walk.
fn found(bytes: &[u8], together: u64) -> Vec<(Topic, Option<u64>, String)> {
    let image: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    let header = Header::parse(bytes).unwrap();
    let mut check = Check::new(&Silent);
    let roots = Roots::read(&*image, &header).unwrap();
    let mut counts = refcounts_of(&image, &header, &roots, &mut check)
        .unwrap()
        .unwrap();
    let users = Users {
        image: &*image,
        header: &header,
        roots: &roots,
        data_file: None,
    };
    compare(&users, &mut counts, together, &mut check).unwrap();
    let findings = check.findings().iter();
    let told = findings.map(|found| (found.topic, found.offset, found.what.clone()));
    told.collect()
}

#[test]
fn however_few_are_counted_together_the_same_is_found() {
    let good = image();
    let mut bytes = good.clone();
    // Cluster 1 of the disk in that of cluster 0; that of cluster 3 is not counted, that of cluster 4 three times.
    let entry = u64::from_be_bytes(good[4 * SIZE..][..8].try_into().unwrap());
    put(&mut bytes, 4 * SIZE + 8, entry);
    bytes[3 * SIZE + 2 * 8 + 1] = 0;
    bytes[3 * SIZE + 2 * 9 + 1] = 3;
    let expected = [
        // Nobody refers to what was cluster 1's.
        (Topic::References, 3 * SIZE + 2 * 6),
        (Topic::References, 3 * SIZE + 2 * 9),
        (Topic::Overlap, 4 * SIZE + 8),
        (Topic::References, 3 * SIZE + 2 * 8),
    ];
    let all = found(&bytes, COUNTED);
    let places: Vec<_> = all.iter().map(|one| (one.0, one.1)).collect();
    let expected = expected.map(|(topic, at)| (topic, Some(at as u64)));
    assert_eq!(places, expected, "{all:?}");
    for together in 1..12 {
        assert!(found(&good, together).is_empty());
        assert_eq!(found(&bytes, together), all, "{together}");
    }
}

/// Asks to stop when it was asked so often.
struct Until(std::sync::atomic::AtomicU32);

impl cairn_base::Monitor for Until {
    fn stop_requested(&self) -> bool {
        let order = std::sync::atomic::Ordering::Relaxed;
        let left = self.0.load(order);
        self.0.store(left.saturating_sub(1), order);
        left == 0
    }
}

#[test]
fn what_was_found_is_told_although_a_later_walk_is_interrupted() {
    let mut bytes = image();
    bytes[3 * SIZE + 2 * 8 + 1] = 0;
    let image: Arc<dyn ReadAt> = Arc::new(bytes.clone());
    let header = Header::parse(&bytes).unwrap();
    let mut told = Vec::new();
    for asked in 0..100 {
        let monitor = Until(asked.into());
        let mut check = Check::new(&monitor);
        let outcome = super::check(&image, &header, None, &mut check);
        let Err(error) = outcome else {
            break;
        };
        assert_eq!(error.kind(), cairn_base::Kind::Interrupted);
        told.push(
            check
                .findings()
                .iter()
                .map(|one| one.what.clone())
                .collect::<Vec<_>>(),
        );
    }
    let is_said = |words: &str| {
        let mut all = told.iter().flatten();
        all.any(|what| what.contains("is counted 0 times") && what.contains(words))
    };
    // Without a name, if the walk for that ends before it comes by.
    assert!(is_said("of the file is counted"), "{told:?}");
    let last = told.last().unwrap();
    assert!(
        last.iter()
            .any(|what| what.contains("of the file is counted 0 times")),
        "{last:?}"
    );
    assert!(told.first().unwrap().is_empty());
}

#[test]
fn what_never_shares_overlaps_whatever_the_count() {
    let good = image();
    // Cluster 1 of the disk in the refcount block, which is counted twice, as somebody made it right.
    let mut bytes = good.clone();
    put(&mut bytes, 4 * SIZE + 8, 3 * SIZE as u64);
    bytes[3 * SIZE + 2 * 3 + 1] = 2;
    bytes[3 * SIZE + 2 * 6 + 1] = 0;
    let all = found(&bytes, COUNTED);
    let [(Topic::Overlap, at, words)] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!(*at, Some(4 * SIZE as u64 + 8));
    assert!(
        words.contains("cluster 1 of the disk and refcount block 0 share"),
        "{words}"
    );
    // Counted even more often.
    bytes[3 * SIZE + 2 * 3 + 1] = 9;
    let all = found(&bytes, COUNTED);
    assert_eq!((all.len(), all[0].0), (1, Topic::Overlap), "{all:?}");
    // Two clusters of the disk in one place, which is counted twice, as QEMU lets it be.
    let mut bytes = good.clone();
    put(&mut bytes, 4 * SIZE, 5 * SIZE as u64);
    put(&mut bytes, 4 * SIZE + 8, 5 * SIZE as u64);
    bytes[3 * SIZE + 2 * 5 + 1] = 2;
    bytes[3 * SIZE + 2 * 6 + 1] = 0;
    assert!(found(&bytes, COUNTED).is_empty());
}

#[test]
fn a_file_that_is_too_large_is_said_to_be() {
    let mut bytes = image();
    let behind = (WALKS as usize + 1) * SIZE;
    bytes.resize(behind, 0);
    let told = found(&bytes, 1);
    let [(topic, None, words)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(*topic, Topic::References);
    assert!(
        words.contains(&format!("behind byte {}", behind - SIZE)),
        "{words}"
    );
    assert!(found(&bytes, 2).is_empty());
}
