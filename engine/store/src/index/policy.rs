//! Which segments to merge, so that there are few and entries are seldom written again.

/// An older segment stays apart if it is at least this many times as large as all newer ones that are merged.
const RATIO: u64 = 3;
/// More segments than this are not left.
pub const MAX_SEGMENTS: usize = 12;

/// How many of the newest segments to merge: the largest run in which each is smaller than [`RATIO`] times all newer
/// ones together, and in which there are at most `limit` entries; and at least so many that [`MAX_SEGMENTS`] are left. 0 means that
/// nothing needs merging. Sizes are numbers of entries, oldest first.
pub fn merge_count(sizes: &[u64], limit: u64) -> usize {
    let mut newer = 0u64;
    let mut count = 0;
    for size in sizes.iter().rev() {
        let apart = *size >= newer.saturating_mul(RATIO) || newer.saturating_add(*size) > limit;
        if count > 0 && apart {
            break;
        }
        newer = newer.saturating_add(*size);
        count += 1;
    }
    // Merging n leaves one in their place.
    let needed = (sizes.len() + 1).saturating_sub(MAX_SEGMENTS);
    match count.max(needed) {
        0 | 1 => 0,
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Model {
        sizes: Vec<u64>,
        added: u64,
        written: u64,
        most: usize,
        /// Merges of more than 50 million entries.
        long: u64,
    }

    impl Model {
        fn merge(&mut self, limit: u64) {
            let count = merge_count(&self.sizes, limit);
            if count > 0 {
                let merged = self.sizes.split_off(self.sizes.len() - count).iter().sum();
                self.sizes.push(merged);
                self.written += merged;
                self.long += u64::from(merged > 50_000_000);
            }
            self.most = self.most.max(self.sizes.len());
        }

        /// A backup that stores so many new chunks.
        fn backup(&mut self, new: u64) {
            let mut left = new;
            while left > 0 {
                let part = left.min(CHECKPOINT);
                self.sizes.push(part);
                self.added += part;
                left -= part;
                self.merge(IN_PASSING);
            }
            self.merge(u64::MAX);
        }
    }

    const CHECKPOINT: u64 = 524_288;
    const IN_PASSING: u64 = 4 << 20;

    #[test]
    fn few_are_left_and_little_is_written_again() {
        // 800 machines of 2.9 million chunks, then every day for a month 0.15 % of each, uneven.
        let mut model = Model::default();
        for machine in 0..800u64 {
            model.backup(2_000_000 + machine * 7919 % 1_800_000);
        }
        let first = (model.added, model.written, model.long);
        assert!(model.most <= MAX_SEGMENTS, "{}", model.most);
        assert!(first.1 <= 9 * first.0, "{first:?}");
        for backup in 0..24_000u64 {
            model.backup(1 + backup * 104_729 % 8_700);
        }
        assert!(model.most <= MAX_SEGMENTS, "{}", model.most);
        let daily = (model.added - first.0, model.written - first.1);
        assert!(daily.1 <= 16 * daily.0, "{daily:?}");
        assert!(
            first.2 <= 46 && model.long <= 49,
            "{} {}",
            first.2,
            model.long
        );
        assert!(model.sizes.windows(2).all(|w| w[0] >= 3 * w[1]));
    }

    #[test]
    fn never_more_than_the_greatest_number() {
        let mut sizes: Vec<u64> = Vec::new();
        for exponent in (0..20).rev() {
            sizes.push(4u64.pow(exponent));
            let count = merge_count(&sizes, u64::MAX);
            if count > 0 {
                let merged = sizes.split_off(sizes.len() - count).iter().sum();
                sizes.push(merged);
            }
            assert!(sizes.len() <= MAX_SEGMENTS);
        }
        // Nor where the limit would keep them apart.
        let many = [1000; 20];
        assert_eq!(merge_count(&many, 10), 20 - MAX_SEGMENTS + 1);
    }

    #[test]
    fn merges_what_is_small_and_leaves_what_is_large() {
        assert_eq!(merge_count(&[], u64::MAX), 0);
        assert_eq!(merge_count(&[5], u64::MAX), 0);
        assert_eq!(merge_count(&[15, 5], u64::MAX), 0);
        assert_eq!(merge_count(&[14, 5], u64::MAX), 2);
        assert_eq!(merge_count(&[1000, 14, 5], u64::MAX), 2);
        assert_eq!(merge_count(&[50, 14, 5], u64::MAX), 3);
        assert_eq!(merge_count(&[50, 14, 5], 60), 2);
        assert_eq!(merge_count(&[50, 14, 5], 18), 0);
    }
}
