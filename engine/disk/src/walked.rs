//! The check of images by what a reader of them meets: every entry of every table is looked up, and no content is read.

use crate::check::{Check, Topic, is_of_image};
use crate::layer::Layer;
use crate::runs::Detail;
use cairn_base::Result;
use std::ops::Range;

/// Blocks that are looked at together.
const STEP: u64 = 4096;
/// So many damaged blocks are told one by one; behind them each step with damage counts as one fault, however many blocks of it are damaged.
const TOLD: u64 = 1000;
/// Bytes of a table that an entry takes, for the progress.
const ENTRY: u64 = 8;

/// Tells `check` each block of `layer` whose entry says what cannot be. Whether blocks share bytes of the file, and whether counts of references are
/// right, is not found that way, and the check says so.
///
/// # Errors
/// As [`Layer::check`].
pub(crate) fn check(layer: &dyn Layer, check: &mut Check<'_>) -> Result<()> {
    let entries = |range: &Range<u64>| {
        let length = range.end.saturating_sub(range.start);
        length.div_ceil(layer.block_size()).saturating_mul(ENTRY)
    };
    let size = layer.size();
    check.begin(entries(&(0..size)));
    let mut told = 0u64;
    let mut at = 0u64;
    while at < size {
        let next = layer.step_end(at, STEP).max(at.saturating_add(512));
        let step = at..next.min(size);
        check_step(layer, step.clone(), &mut told, check)?;
        check.advance(entries(&step))?;
        at = step.end;
    }
    check.finish();
    check.remark(Topic::Overlap, None, || {
        "whether blocks share bytes of the file is not looked for in images of this format"
            .to_string()
    });
    Ok(())
}

/// Halves what is damaged until single blocks are left.
fn check_step(
    layer: &dyn Layer,
    step: Range<u64>,
    told: &mut u64,
    check: &mut Check<'_>,
) -> Result<()> {
    let block = layer.block_size().max(1);
    let mut open = vec![step];
    while let Some(range) = open.pop() {
        let error = match layer.runs(range.clone(), Detail::Rough) {
            Ok(_) => continue,
            Err(error) if is_of_image(&error) => error,
            Err(error) => return Err(error),
        };
        let first = range.start.checked_div(block).unwrap_or(0);
        let behind = range.end.div_ceil(block);
        let middle = first.midpoint(behind).saturating_mul(block);
        let is_one = behind.saturating_sub(first) <= 1 || middle <= range.start;
        if is_one || *told >= TOLD {
            *told = told.saturating_add(1);
            check.fault(Topic::Structure, error.offset(), || error.reason());
            continue;
        }
        // The first half first.
        open.push(middle..range.end);
        open.push(range.start..middle);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use crate::property::Property;
    use crate::runs::Runs;
    use cairn_base::{Error, Kind, ReadAt, Silent};

    const BLOCK: u64 = 4096;

    /// Blocks of which some are damaged.
    struct Blocks {
        size: u64,
        damaged: Vec<u64>,
        kind: Kind,
        nothing: Vec<u8>,
    }

    impl Blocks {
        fn new(size: u64, damaged: Vec<u64>) -> Blocks {
            Blocks {
                size,
                damaged,
                kind: Kind::Damaged,
                nothing: Vec::new(),
            }
        }

        fn checked(&self) -> Result<Vec<(Severity, Option<u64>)>> {
            let mut found = Check::new(&Silent);
            check(self, &mut found)?;
            let findings = found.findings().iter();
            Ok(findings.map(|one| (one.severity, one.offset)).collect())
        }
    }

    impl Layer for Blocks {
        fn size(&self) -> u64 {
            self.size
        }
        fn block_size(&self) -> u64 {
            BLOCK
        }
        fn image(&self) -> &dyn ReadAt {
            &self.nothing
        }
        fn runs(&self, range: Range<u64>, _: Detail) -> Result<Runs> {
            let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
            match self.damaged.iter().find(|block| blocks.contains(block)) {
                Some(block) => Err(Error::new(self.kind, "wrong").at_offset(*block)),
                None => Ok(Runs::default()),
            }
        }
        fn properties(&self) -> Vec<Property> {
            Vec::new()
        }
        fn check(&self, check: &mut Check<'_>) -> Result<()> {
            super::check(self, check)
        }
    }

    #[test]
    fn each_damaged_block_is_told_once() {
        let remark = (Severity::Remark, None);
        let blocks = 3 * STEP;
        for damaged in [
            vec![],
            vec![0],
            vec![blocks - 1],
            vec![0, 1, 2, STEP - 1, STEP, blocks - 2, blocks - 1],
        ] {
            let faults = damaged.iter().map(|block| (Severity::Fault, Some(*block)));
            let expected: Vec<_> = faults.chain([remark]).collect();
            // The last block may be a part of one.
            for size in [blocks * BLOCK, blocks * BLOCK - 512] {
                let found = Blocks::new(size, damaged.clone()).checked().unwrap();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn where_all_is_damaged_not_all_is_told() {
        let blocks = 8 * STEP;
        let all = Blocks::new(blocks * BLOCK, (0..blocks).collect());
        let mut found = Check::new(&Silent);
        check(&all, &mut found).unwrap();
        let faults = found.counts().iter();
        let faults: u64 = faults
            .filter(|count| count.severity == Severity::Fault)
            .map(|count| count.found)
            .sum();
        assert!((TOLD..TOLD + 50).contains(&faults), "{faults}");
    }

    #[test]
    fn what_is_not_the_images_fault_ends_the_check() {
        let failing = Blocks {
            kind: Kind::Io,
            ..Blocks::new(BLOCK, vec![0])
        };
        assert_eq!(failing.checked().unwrap_err().kind(), Kind::Io);
    }
}
