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
