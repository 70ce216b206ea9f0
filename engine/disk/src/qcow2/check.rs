//! What is wrong with a QCOW2: entries that cannot be, clusters that several use, and reference counts that are not the number of references.
//!
//! Counting takes 32 MiB of memory at most: two bytes for each cluster of a part of the file. The tables are walked once for each such part, and
//! once more to name who uses clusters that are used too often. Where a file has more than 64 parts the rest is not counted, which is remarked.
//! References above 32,766 of one cluster are not told apart.
//!
//! What never shares a cluster, which is everything but L2 tables and clusters of the guest, is an overlap with whatever else is there, however often
//! the cluster is counted. Two clusters of one disk in one place are none if that is counted twice and neither says COPIED.

use super::header::{Header, incompatible};
use super::refcounts::{self, MAX_ORDER, Refcounts};
use super::roots::{self, Roots};
use super::user::{Owner, Use, Visitor};
use super::users::Users;
use crate::align::to_usize;
use crate::check::{Check, KEPT, Topic};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Clusters that are counted in one walk.
const COUNTED: u64 = 16 << 20;
/// Of a cluster's two bytes: something uses it that never shares.
const ALONE: u16 = 1 << 15;
/// The others: how many references there are, or this many or more.
const MANY: u16 = ALONE - 1;
/// Walks that count.
const WALKS: u64 = 64;
/// Counts that are compared before somebody is asked whether to stop.
const STEP: u64 = 1 << 20;

/// Tells `check` what is wrong with `image`; `data_file` is the length of its external data file, if there is one.
///
/// # Errors
/// As [`Layer::check`](crate::layer::Layer::check).
pub(super) fn check(
    image: &Arc<dyn ReadAt>,
    header: &Header,
    data_file: Option<u64>,
    check: &mut Check<'_>,
) -> Result<()> {
    check_state(header, check);
    let roots = Roots::read(&**image, header)?;
    let mut counts = refcounts_of(image, header, &roots, check)?;
    let users = Users {
        image: &**image,
        header,
        roots: &roots,
        data_file,
    };
    let mut sizes = Sizes { check, bytes: 0 };
    users.walk(&mut sizes)?;
    let length = sizes.bytes;
    check.begin(length);
    users.walk(&mut Judge {
        check,
        counts: counts.as_mut(),
        cluster_bits: header.cluster_bits,
    })?;
    check.finish();
    let Some(counts) = &mut counts else {
        return Ok(());
    };
    let clusters = refcounts::clusters(image.size(), header);
    check.begin(length.saturating_mul(clusters.div_ceil(COUNTED).min(WALKS)));
    compare(&users, counts, COUNTED, check)?;
    check.finish();
    Ok(())
}

/// What the header says of how it was left ("Incompatible features").
fn check_state(header: &Header, check: &mut Check<'_>) {
    if header.has(incompatible::DIRTY) {
        check.remark(Topic::State, roots::INCOMPATIBLE, || {
            "the image was not closed (its dirty bit is set): reference counts may be behind"
                .to_string()
        });
    }
    if header.has(incompatible::CORRUPT) {
        check.fault(Topic::Structure, roots::INCOMPATIBLE, || {
            "the image is marked corrupt: QEMU found its tables contradictory".to_string()
        });
    }
}

/// The counts, if they can be read; why not is told.
fn refcounts_of(
    image: &Arc<dyn ReadAt>,
    header: &Header,
    roots: &Roots,
    check: &mut Check<'_>,
) -> Result<Option<Refcounts>> {
    if roots.refcount_order > MAX_ORDER {
        check.fault(Topic::Structure, roots::REFCOUNT_ORDER, || {
            format!(
                "reference counts of 2^{} bits are said, of at most 64",
                roots.refcount_order
            )
        });
        return Ok(None);
    }
    if roots.refcount_table_clusters == 0 {
        check.fault(Topic::Structure, roots::REFCOUNT_TABLE_CLUSTERS, || {
            "there is no refcount table".to_string()
        });
        return Ok(None);
    }
    let is_aligned = roots.refcount_table.is_multiple_of(header.cluster_size());
    // What does not lie in the file is told by the walk.
    let counts = Refcounts::open(image.clone(), header, roots);
    Ok(counts.ok().filter(|_| is_aligned))
}

/// Adds up how much of tables a walk reads.
struct Sizes<'a, 'b> {
    check: &'a Check<'b>,
    bytes: u64,
}

impl Visitor for Sizes<'_, '_> {
    fn uses(&mut self, _found: &Use) -> Result<()> {
        Ok(())
    }
    fn wrong(&mut self, _topic: Topic, _written_at: u64, _what: &dyn Fn() -> String) {}
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.check.advance(0)
    }
    fn wants_clusters(&self) -> bool {
        false
    }
}

/// Tells what each entry says that cannot be.
struct Judge<'a, 'b> {
    check: &'a mut Check<'b>,
    counts: Option<&'a mut Refcounts>,
    cluster_bits: u32,
}

impl Visitor for Judge<'_, '_> {
    fn uses(&mut self, found: &Use) -> Result<()> {
        let (Some(is_copied), Some(counts)) = (found.is_copied, &mut self.counts) else {
            return Ok(());
        };
        let count = counts.count(found.bytes.start >> self.cluster_bits)?;
        if is_copied == (count == 1) {
            return Ok(());
        }
        let owner = found.owner;
        self.check.fault(Topic::References, found.written_at, || match is_copied {
            true => format!(
                "{owner} is said to be the only user of its cluster (COPIED), which is counted {count} times"
            ),
            false => format!(
                "{owner} is not said to be the only user of its cluster (COPIED), which is counted once"
            ),
        });
        Ok(())
    }
    fn wrong(&mut self, topic: Topic, written_at: u64, what: &dyn Fn() -> String) {
        self.check.fault(topic, written_at, what);
    }
    fn passed_over(&mut self, written_at: u64, what: &dyn Fn() -> String) {
        self.check.remark(Topic::References, written_at, what);
    }
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.check.advance(bytes)
    }
}

/// Clusters of the file that `found` uses.
fn clusters_of(found: &Use, cluster_bits: u32) -> Range<u64> {
    let last = found.bytes.end.saturating_sub(1) >> cluster_bits;
    found.bytes.start >> cluster_bits..last.saturating_add(1)
}

/// Counts references to the clusters of a part of the file.
struct Counter<'a, 'b> {
    check: &'a Check<'b>,
    cluster_bits: u32,
    part: Range<u64>,
    found: Vec<u16>,
}

impl Visitor for Counter<'_, '_> {
    fn uses(&mut self, found: &Use) -> Result<()> {
        let clusters = clusters_of(found, self.cluster_bits);
        let start = clusters.start.max(self.part.start);
        for cluster in start..clusters.end.min(self.part.end) {
            let index = to_usize(cluster.saturating_sub(self.part.start))?;
            if let Some(count) = self.found.get_mut(index) {
                let more = (*count & MANY).saturating_add(1).min(MANY);
                *count = *count & ALONE | more;
                if !found.owner.may_be_shared() {
                    *count |= ALONE;
                }
            }
        }
        Ok(())
    }
    fn wrong(&mut self, _topic: Topic, _written_at: u64, _what: &dyn Fn() -> String) {}
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.check.advance(bytes)
    }
}

/// A cluster that has more users than it is counted for, or one beside others that never shares.
struct Crowded {
    cluster: u64,
    is_alone: bool,
    counted: u64,
    /// Where the count is written.
    written_at: u64,
    references: u64,
    /// The first two, and where they are written; of those of which one never shares, two that may not share.
    users: Vec<(Owner, u64)>,
}

/// Compares counts with references, `together` clusters in one walk.
///
/// # Errors
/// What the image says when it is read, or [`Kind::Interrupted`](cairn_base::Kind::Interrupted). What was found until then is told all the same.
fn compare(
    users: &Users<'_>,
    counts: &mut Refcounts,
    together: u64,
    check: &mut Check<'_>,
) -> Result<()> {
    let clusters = refcounts::clusters(users.image.size(), users.header);
    let end = clusters.min(together.saturating_mul(WALKS));
    let mut crowded: Vec<Crowded> = Vec::new();
    let mut walked = Ok(());
    let mut first = 0u64;
    while first < end && walked.is_ok() {
        let part = first..end.min(first.saturating_add(together));
        first = part.end;
        walked = compare_part(users, part, counts, check, &mut crowded);
    }
    if end < clusters {
        let place = end << users.header.cluster_bits;
        check.remark(Topic::References, None, || {
            format!("the file is too large: references to clusters behind byte {place} are not counted, and overlaps there not looked for")
        });
    }
    name_users(users, crowded, walked, check)
}

/// Compares the counts of `part`.
fn compare_part(
    users: &Users<'_>,
    part: Range<u64>,
    counts: &mut Refcounts,
    check: &mut Check<'_>,
    crowded: &mut Vec<Crowded>,
) -> Result<()> {
    let length = to_usize(part.end.saturating_sub(part.start))?;
    let mut counter = Counter {
        check,
        cluster_bits: users.header.cluster_bits,
        part: part.clone(),
        found: vec![0; length],
    };
    users.walk(&mut counter)?;
    let found = counter.found;
    for (cluster, references) in part.zip(found) {
        if cluster.is_multiple_of(STEP) {
            check.advance(0)?;
        }
        compare_one(cluster, references, counts, check, crowded)?;
    }
    Ok(())
}

fn compare_one(
    cluster: u64,
    found: u16,
    counts: &mut Refcounts,
    check: &mut Check<'_>,
    crowded: &mut Vec<Crowded>,
) -> Result<()> {
    let counted = counts.count(cluster)?;
    let (references, is_many) = (u64::from(found & MANY), found & MANY == MANY);
    let is_alone = found & ALONE != 0 && references > 1;
    let is_enough = counted == references || is_many && counted > references;
    if is_enough && !is_alone {
        return Ok(());
    }
    let written_at = counts.written_at(cluster)?;
    if counted > references && !is_alone {
        check.remark(Topic::References, written_at, || {
            format!("leaked: cluster {cluster} of the file is counted {counted} times and referred to {references} times")
        });
        return Ok(());
    }
    if to_u64(crowded.len()) >= KEPT {
        let topic = match is_alone {
            true => Topic::Overlap,
            false => Topic::References,
        };
        check.more(topic, 1);
        return Ok(());
    }
    crowded.push(Crowded {
        cluster,
        is_alone,
        counted,
        written_at,
        references,
        users: Vec::new(),
    });
    Ok(())
}

/// Finds who uses clusters.
struct Names<'a, 'b> {
    check: &'a Check<'b>,
    cluster_bits: u32,
    crowded: Vec<Crowded>,
}

impl Visitor for Names<'_, '_> {
    fn uses(&mut self, found: &Use) -> Result<()> {
        let clusters = clusters_of(found, self.cluster_bits);
        let crowded = self.crowded.iter_mut();
        for one in crowded.filter(|one| clusters.contains(&one.cluster)) {
            let user = (found.owner, found.written_at);
            match one.users.as_mut_slice() {
                [] | [_] => one.users.push(user),
                [(first, _), second] if one.is_alone && first.may_share(second.0) => *second = user,
                _ => {}
            }
        }
        Ok(())
    }
    fn wrong(&mut self, _topic: Topic, _written_at: u64, _what: &dyn Fn() -> String) {}
    fn advance(&mut self, _bytes: u64) -> Result<()> {
        self.check.advance(0)
    }
}

/// Tells of clusters with too many users who these are, as far as that is found; `walked` is how the walks before ended.
fn name_users(
    users: &Users<'_>,
    crowded: Vec<Crowded>,
    walked: Result<()>,
    check: &mut Check<'_>,
) -> Result<()> {
    if crowded.is_empty() {
        return walked;
    }
    let mut names = Names {
        check,
        cluster_bits: users.header.cluster_bits,
        crowded,
    };
    let walked = walked.and_then(|()| users.walk(&mut names));
    for one in names.crowded {
        let place = one.cluster << users.header.cluster_bits;
        let (counted, references) = (one.counted, one.references);
        match one.users.as_slice() {
            [(first, _), (second, written_at)] if !first.may_share(*second) => {
                check.fault(Topic::Overlap, *written_at, || {
                    format!("{second} and {first} share the cluster at byte {place} of the file, which is counted {counted} times")
                });
            }
            others => {
                let owner = others.first().map(|(owner, _)| format!(", {owner},"));
                let owner = owner.unwrap_or_default();
                let (topic, why) = match one.is_alone {
                    true => (Topic::Overlap, ", and something uses it that never shares"),
                    false => (Topic::References, ""),
                };
                check.fault(topic, one.written_at, || {
                    format!("the cluster at byte {place} of the file{owner} is counted {counted} times and referred to {references} times{why}")
                });
            }
        }
    }
    walked
}

#[cfg(test)]
mod tests;
