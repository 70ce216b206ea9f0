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
