//! Where the clusters of a disk lie.

use super::entry::{self, Cluster, Part, SUBCLUSTERS};
use super::header::{Compression, incompatible};
use super::space::{COMPRESSED, Space};
use super::tables::{Leads, STEP, Tables};
use crate::check::Check;
use crate::layer::Layer;
use crate::place::Places;
use crate::property::{Property, Value};
use crate::runs::{Detail, Place, Runs};
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// The clusters of a disk.
pub(super) struct Clusters {
    pub(super) tables: Arc<Tables>,
    pub(super) space: Space,
    /// Where clusters may lie in the file that holds them.
    pub(super) places: Places,
    /// What a cluster is that is not there.
    pub(super) absent: Place,
    /// What the header says of the parent.
    pub(super) of_parent: Vec<Property>,
}

impl Clusters {
    /// The clusters from `at` on as far as their L2 table goes, clipped to `end`.
    fn end_of_table(&self, at: u64, end: u64) -> u64 {
        let covers = self.tables.header().l1_covers();
        let next = at.checked_div(covers).unwrap_or(0).saturating_add(1);
        next.saturating_mul(covers).min(end)
    }

    /// Appends where `range`, about which the L2 table at `table` is, lies.
    fn push_table(&self, table: u64, range: Range<u64>, runs: &mut Runs) -> Result<()> {
        let bits = self.tables.header().cluster_bits;
        let mut at = range.start;
        while at < range.end {
            let slice = self.tables.slice(table, at >> bits)?;
            for number in (at >> bits)..slice.clusters().end {
                let start = number << bits;
                let next = start.saturating_add(self.tables.header().cluster_size());
                let end = next.min(range.end);
                let part = at.saturating_sub(start)..end.saturating_sub(start);
                self.push_cluster(number, slice.cluster(number), part, runs)?;
                at = end;
                if at >= range.end {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Appends where `part` of cluster `number` lies.
    fn push_cluster(
        &self,
        number: u64,
        cluster: Cluster,
        part: Range<u64>,
        runs: &mut Runs,
    ) -> Result<()> {
        let length = part.end.saturating_sub(part.start);
        match cluster {
            Cluster::Absent => runs.push(length, self.absent),
            Cluster::Zeros => runs.push(length, Place::Zeros),
            Cluster::Standard(offset) => {
                self.check(number, offset)?;
                runs.push(length, Place::Image(offset.saturating_add(part.start)));
            }
            Cluster::Compressed(offset, _) => {
                self.places.check_cluster(number, offset)?;
                let start = number << self.tables.header().cluster_bits;
                let at = COMPRESSED.saturating_add(start).saturating_add(part.start);
                runs.push(length, Place::Image(at));
            }
            Cluster::Parts(offset, bitmap) => {
                self.push_parts((number, offset, bitmap), part, runs)?;
            }
            Cluster::Wrong(why) => {
                return Err(Error::damaged(format!(
                    "cluster {number} of the QCOW2 {why}"
                )));
            }
        }
        Ok(())
    }

    /// Appends where `part` of a cluster lies of which some parts are in the file.
    fn push_parts(
        &self,
        (number, offset, bitmap): (u64, u64, u64),
        part: Range<u64>,
        runs: &mut Runs,
    ) -> Result<()> {
        let size = self.tables.header().cluster_size() >> SUBCLUSTERS.trailing_zeros();
        for index in 0..SUBCLUSTERS {
            let start = size.saturating_mul(u64::from(index));
            let from = part.start.max(start);
            let to = part.end.min(start.saturating_add(size));
            let Some(length) = to.checked_sub(from) else {
                continue;
            };
            let place = match entry::part(bitmap, index) {
                Part::Absent => self.absent,
                Part::Zeros => Place::Zeros,
                Part::Here => {
                    self.check(number, offset)?;
                    Place::Image(offset.saturating_add(from))
                }
            };
            runs.push(length, place);
        }
        Ok(())
    }

    /// Refuses a cluster that cannot lie at `offset`.
    fn check(&self, number: u64, offset: u64) -> Result<()> {
        let header = self.tables.header();
        let in_disk = number << header.cluster_bits;
        if header.has(incompatible::DATA_FILE) && offset != in_disk {
            return Err(Error::damaged(format!(
                "cluster {number} of the QCOW2 is said to lie at {offset} of its external data file, and not at {in_disk}, where it has to"
            )));
        }
        self.places.check_cluster(number, offset)
    }
}

impl Layer for Clusters {
    fn size(&self) -> u64 {
        self.tables.header().disk_size
    }

    fn block_size(&self) -> u64 {
        self.tables.header().cluster_size()
    }

    fn image(&self) -> &dyn ReadAt {
        &self.space
    }

    /// What no L2 table tells of is passed over, and where what can be no table should be is one step: up to `blocks` entries of the L1 table, and as
    /// many clusters, are looked at.
    fn step_end(&self, at: u64, blocks: u64) -> u64 {
        let header = self.tables.header();
        let bits = header.cluster_bits;
        let first = at.checked_div(header.l1_covers()).unwrap_or(0);
        let last = first
            .saturating_add(blocks.min(STEP))
            .min(header.l1_entries);
        let mut next = at;
        let mut left = blocks;
        let mut is_astray = false;
        // What cannot be read now is told when it is read.
        let tables = self.tables.l2_tables(first..last.max(first));
        for table in tables.unwrap_or_default() {
            let Ok(lead) = self.tables.lead(table) else {
                break;
            };
            // What is astray makes an error of its step, which nothing else is to share.
            if next > at && is_astray != (lead == Leads::Astray) {
                break;
            }
            is_astray = lead == Leads::Astray;
            let end = self.end_of_table(next, u64::MAX);
            if lead != Leads::Table {
                next = end;
                continue;
            }
            let most = next.saturating_add(left.saturating_mul(header.cluster_size()));
            let looked = most.min(end).saturating_sub(next) >> bits;
            next = most.min(end);
            left = left.saturating_sub(looked);
            if next < end || left == 0 {
                break;
            }
        }
        // Steps end where clusters do.
        let number = match next > at {
            true => next >> bits,
            false => (at >> bits).saturating_add(blocks),
        };
        number.saturating_mul(header.cluster_size())
    }

    fn runs(&self, range: Range<u64>, detail: Detail) -> Result<Runs> {
        let covers = self.tables.header().l1_covers();
        let mut runs = Runs::default();
        let mut at = range.start;
        while at < range.end {
            let first = at.checked_div(covers).unwrap_or(0);
            let last = range.end.div_ceil(covers);
            let last = last.min(first.saturating_add(STEP));
            for table in self.tables.l2_tables(first..last)? {
                let end = self.end_of_table(at, range.end);
                // For a read there is no need to ask the file for holes.
                let is_nothing = match detail {
                    Detail::Rough => self.tables.lead(table)? == Leads::Nowhere,
                    Detail::Exact => table == 0,
                };
                match is_nothing {
                    true => runs.push(end.saturating_sub(at), self.absent),
                    false => self.push_table(table, at..end, &mut runs)?,
                }
                at = end;
            }
        }
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        let header = self.tables.header();
        let compression = match header.compression {
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        };
        let flag = |bit: u64| Value::Flag(header.has(bit));
        vec![
            Property::new("version", Value::Number(header.version.into())),
            Property::new("compression", Value::Text(compression.to_string())),
            Property::new("subclusters", flag(incompatible::EXTENDED_L2)),
            Property::new("external_data_file", flag(incompatible::DATA_FILE)),
            Property::new("dirty", flag(incompatible::DIRTY)),
            Property::new("corrupt", flag(incompatible::CORRUPT)),
        ]
        .into_iter()
        .chain(self.of_parent.clone())
        .collect()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let header = self.tables.header();
        let has_data_file = header.has(incompatible::DATA_FILE);
        let data_file = has_data_file.then(|| self.space.data.size());
        super::check::check(self.tables.image(), header, data_file, check)
    }
}
