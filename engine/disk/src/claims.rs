//! Which bytes of a file belong to what: overlaps, and what belongs to nothing, found in 32 MiB of memory however many blocks there are.
//!
//! A bit stands for each unit of the file. Where the file has more units than there are bits, the table is walked several
//! times, each time for another part of the file, at most 64 times; once more to name the other one of each overlap. What lies behind 64 parts is not looked at,
//! which is remarked.

use crate::check::{Check, KEPT, Topic};
use cairn_base::Result;
use cairn_base::units::to_u64;
use std::fmt;
use std::ops::Range;
use units::Units;

/// Units with a bit each. Half of them are judged in a pass; the others are what a block that begins in the first half reaches.
const BITS: u64 = 1 << 28;
/// Parts of a file, at most: with units of 512 bytes they are 4 TiB, twice as much as a VHD can have.
const PARTS: u64 = 64;

/// To whom bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// `the log`.
    Part(&'static str),
    /// `block 7`.
    Numbered(&'static str, u64),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Part(name) => f.write_str(name),
            Owner::Numbered(name, number) => write!(f, "{name} {number}"),
        }
    }
}

/// The file whose bytes are claimed.
pub(crate) struct Territory<'a> {
    /// Bytes of the file.
    pub(crate) size: u64,
    /// All that is claimed begins at multiples of this many bytes, and ends at one or at the file's end. Not 0.
    pub(crate) unit: u64,
    /// Headers, tables, log: a few ranges, which need not be aligned.
    pub(crate) parts: &'a [(Range<u64>, &'static str)],
}

/// Takes the claims of one walk.
pub(crate) struct Claims<'a> {
    territory: &'a Territory<'a>,
    /// Bytes of the file whose claims are judged in this pass: those that begin in it.
    window: Range<u64>,
    bits: Units,
    spare: Vec<Range<u64>>,
    is_naming: bool,
    overlaps: Vec<Overlap>,
    found: u64,
}

struct Overlap {
    owner: Owner,
    range: Range<u64>,
    /// Where the claim is written.
    written_at: u64,
    other: Option<Owner>,
}

/// Finds what overlaps, which are faults, and answers how many bytes of what was looked at nothing claims. `walk` claims all that lies within the file, by
/// [`Claims::add`], always in the same order; it is called at least once, and tells the check how far it is.
///
/// # Errors
/// What `walk` says. The overlaps that were found until then are told all the same, perhaps without the other one.
pub(crate) fn find_overlaps(
    check: &mut Check<'_>,
    territory: &Territory<'_>,
    walk: impl Fn(&mut Claims<'_>, &Check<'_>) -> Result<()>,
) -> Result<u64> {
    find_with(BITS, check, territory, walk)
}

/// As [`find_overlaps`], with so many bits.
fn find_with(
    bits: u64,
    check: &mut Check<'_>,
    territory: &Territory<'_>,
    walk: impl Fn(&mut Claims<'_>, &Check<'_>) -> Result<()>,
) -> Result<u64> {
    let units = territory.size.div_ceil(territory.unit.max(1));
    let (room, judged) = match units <= bits {
        true => (units, units),
        false => (bits, bits >> 1),
    };
    let mut claims = Claims {
        territory,
        window: 0..0,
        bits: Units::default(),
        spare: Vec::new(),
        is_naming: false,
        overlaps: Vec::new(),
        found: 0,
    };
    check_parts(check, territory.parts);
    let (mut first, mut free) = (0u64, 0u64);
    let looked = units.min(judged.saturating_mul(PARTS));
    let mut walked = Ok(());
    while first < looked && walked.is_ok() {
        let end = first.saturating_add(judged);
        let bytes = |unit: u64| unit.saturating_mul(territory.unit).min(territory.size);
        claims.window = bytes(first)..bytes(end);
        claims.bits.clear(room);
        claims.spare.clear();
        // Where nothing is claimed, nobody else asks.
        walked = check.advance(0).and_then(|()| walk(&mut claims, check));
        free = free.saturating_add(claims.free());
        first = end;
    }
    if looked < units {
        let place = looked.saturating_mul(territory.unit);
        check.remark(Topic::Overlap, None, || {
            format!("the file is too large: overlaps behind byte {place} are not looked for")
        });
    }
    if walked.is_ok() && !claims.overlaps.is_empty() {
        claims.bits = Units::default();
        claims.is_naming = true;
        walked = walk(&mut claims, check);
    }
    let kept = to_u64(claims.overlaps.len());
    for overlap in claims.overlaps {
        let (owner, place) = (overlap.owner, overlap.range.start);
        check.fault(Topic::Overlap, overlap.written_at, || match overlap.other {
            Some(other) => {
                format!("{owner} and {other} share bytes of the file: {owner} lies at byte {place}")
            }
            None => format!("{owner} at byte {place} shares bytes of the file with something else"),
        });
    }
    check.more(Topic::Overlap, claims.found.saturating_sub(kept));
    walked.map(|()| free)
}

/// The parts among themselves.
fn check_parts(check: &mut Check<'_>, parts: &[(Range<u64>, &'static str)]) {
    for (index, (one, name)) in parts.iter().enumerate() {
        for (other, its_name) in parts.iter().skip(index.saturating_add(1)) {
            if intersect(one, other) {
                check.fault(Topic::Overlap, one.start.max(other.start), || {
                    format!("{name} and {its_name} share bytes of the file")
                });
            }
        }
    }
}

fn intersect(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start.max(other.start) < one.end.min(other.end)
}

impl Claims<'_> {
    /// The bytes `range` of the file belong to `owner`, as is written at `written_at`.
    pub(crate) fn add(&mut self, owner: Owner, range: Range<u64>, written_at: u64) {
        if self.is_naming {
            for overlap in &mut self.overlaps {
                if overlap.other.is_none()
                    && overlap.owner != owner
                    && intersect(&overlap.range, &range)
                {
                    overlap.other = Some(owner);
                }
            }
            return;
        }
        let is_judged = self.window.contains(&range.start);
        if is_judged {
            let part = self.territory.parts.iter();
            let part = part.map(|(part, name)| (intersect(part, &range), *name));
            let part = part.filter(|(is_met, _)| *is_met).map(|(_, name)| name);
            let part = part.map(Owner::Part).next();
            if part.is_some() || self.bits.is_any_set(self.units(&range)) {
                self.found = self.found.saturating_add(1);
                if to_u64(self.overlaps.len()) < KEPT {
                    self.overlaps.push(Overlap {
                        owner,
                        range: range.clone(),
                        written_at,
                        other: part,
                    });
                }
            }
        }
        self.mark(&range);
    }

    /// `range` belongs to somebody, and it is no fault if it is somebody else's too: the part of the last block behind the end of the disk. Of
    /// more than a few of them only the first count.
    pub(crate) fn spare(&mut self, range: Range<u64>) {
        if !self.is_naming && !range.is_empty() && to_u64(self.spare.len()) < KEPT {
            self.spare.push(range);
        }
    }

    /// The bits of `range` in this pass.
    fn units(&self, range: &Range<u64>) -> Range<u64> {
        let unit = self.territory.unit.max(1);
        let base = self.window.start.checked_div(unit).unwrap_or(0);
        let first = range.start.checked_div(unit).unwrap_or(0);
        first.saturating_sub(base)..range.end.div_ceil(unit).saturating_sub(base)
    }

    fn mark(&mut self, range: &Range<u64>) {
        let units = self.units(range);
        self.bits.set(units);
    }

    /// Bytes of the window that belong to nobody.
    fn free(&mut self) -> u64 {
        let territory = self.territory;
        for (part, _) in territory.parts {
            self.mark(part);
        }
        for spare in std::mem::take(&mut self.spare) {
            self.mark(&spare);
        }
        let unit = territory.unit.max(1);
        let taken = self.bits.count(self.units(&self.window));
        let taken = taken.saturating_mul(unit);
        let all = self.window.end.saturating_sub(self.window.start);
        all.saturating_sub(taken)
    }
}

mod units;

#[cfg(test)]
mod tests;
