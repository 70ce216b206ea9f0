//! The table of contents of a database: where in it the configuration lies (page TOCBLOCK).
//!
//! Windows writes a new one to another place than the last, and then a private header that names it.

use super::head::{Head, text};
use super::{block, sums_up};
use cairn_base::{Error, ReadAt, Result, View};

const SIGNATURE: &[u8; 8] = b"TOCBLOCK";
/// Where the first region is told, bytes of each, and how many there is room for.
const REGIONS_AT: usize = 0x24;
const REGION: usize = 34;
const REGIONS: usize = 14;

/// A table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    /// Whether its checksum is right.
    pub is_whole: bool,
    sequence: u64,
    /// The configuration: sectors from the database's start, and how many.
    pub config: (u64, u64),
}

impl Contents {
    /// The table in `bytes`, which lay at `at`; `None` if there is none, or it names no configuration.
    fn parse(bytes: &[u8], at: u64) -> Result<Option<Contents>> {
        let view = View::new(bytes, "table of contents", at);
        if view.slice(0, 8)? != SIGNATURE {
            return Ok(None);
        }
        for index in 0..REGIONS {
            let offset = index.saturating_mul(REGION).saturating_add(REGIONS_AT);
            let region = view.part(offset, REGION, "region")?;
            let name = text(region.slice(0, 8)?);
            if name.is_empty() {
                break;
            }
            if name == "config" {
                return Ok(Some(Contents {
                    is_whole: sums_up(bytes),
                    sequence: view.u64_be(0x0c)?,
                    config: (region.u64_be(10)?, region.u64_be(18)?),
                }));
            }
        }
        Ok(None)
    }
}

/// All tables of contents that can be read: those with a right checksum first, the newest first of each sort.
///
/// # Errors
/// A failure to read that may pass, unless a table with a right checksum was found.
pub(super) fn read(disk: &dyn ReadAt, head: &Head, sector: u64) -> Result<Vec<Contents>> {
    let sectors = head.config_size.checked_div(sector).unwrap_or(0);
    let [first, second] = head.contents;
    // Where Windows makes them: behind the database's first sector, and before its last header.
    let mut places = vec![
        first,
        second,
        1,
        2,
        sectors.saturating_sub(3),
        sectors.saturating_sub(2),
    ];
    let mut seen = Vec::new();
    places.retain(|place| {
        let is_new = *place < sectors && !seen.contains(place);
        seen.push(*place);
        is_new
    });
    let mut found: Vec<Contents> = Vec::new();
    let mut failure: Option<Error> = None;
    for place in places {
        let at = head
            .config_start
            .saturating_add(place.saturating_mul(sector));
        let Some(bytes) = block(disk, at, &mut failure)? else {
            continue;
        };
        if let Some(contents) = Contents::parse(&bytes, at)?
            && !found.contains(&contents)
        {
            found.push(contents);
        }
    }
    found.sort_by_key(|contents| std::cmp::Reverse((contents.is_whole, contents.sequence)));
    let is_found = found.first().is_some_and(|best| best.is_whole);
    match failure {
        Some(failure) if !is_found && failure.kind().may_pass() => Err(failure),
        _ => Ok(found),
    }
}
