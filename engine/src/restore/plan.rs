//! Which region is restored next: the ones with data, in the order of the packs they lie in.

use cairn_base::{PackId, Result};
use cairn_store::map::{Leaf, REGION};
use cairn_store::{RegionMap, RegionReader, StoredDisk};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// Regions that are put in order together: 2 GiB of data.
const WINDOW: usize = 512;
/// When fewer are left the next window is made, while other threads still have work.
const LOW: usize = 64;

/// What of a disk is found on the way, always in disk order.
pub(super) enum Found {
    /// Data; they will be restored.
    Data(Range<u64>),
    /// Regions of nothing but zeros.
    Zeros(Range<u64>),
}

/// Gives the regions with data to many threads.
///
/// A window of them is ordered by the place of their first chunks: packs in the order in which the disk needs them, each from
/// its start to its end. For the first backup of a disk this is disk order. For a disk whose chunks are in packs of others it
/// reads each pack once, and forward, instead of jumping between them.
pub(super) struct Plan<'a> {
    regions: u64,
    size: u64,
    queue: Mutex<VecDeque<u64>>,
    ahead: Mutex<Ahead<'a>>,
}

struct Ahead<'a> {
    reader: RegionReader,
    next: u64,
    found: &'a (dyn Fn(Found) -> Result<()> + Sync),
}

impl<'a> Plan<'a> {
    /// The plan for `disk`; `found` is told what lies where before any thread is given it.
    pub(super) fn new(
        disk: &StoredDisk,
        found: &'a (dyn Fn(Found) -> Result<()> + Sync),
    ) -> Plan<'a> {
        let shape = disk.tree().shape();
        Plan {
            regions: shape.regions(),
            size: shape.size(),
            queue: Mutex::new(VecDeque::new()),
            ahead: Mutex::new(Ahead {
                reader: RegionReader::new(disk.tree()),
                next: 0,
                found,
            }),
        }
    }

    /// The next region; `None` when there are no more.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the map cannot be read; what `found` reports.
    pub(super) fn next(&self) -> Result<Option<u64>> {
        loop {
            let (region, left) = {
                let mut queue = self.queue.lock();
                (queue.pop_front(), queue.len())
            };
            if region.is_some() {
                if left < LOW
                    && let Some(mut ahead) = self.ahead.try_lock()
                {
                    self.look_ahead(&mut ahead)?;
                }
                return Ok(region);
            }
            let mut ahead = self.ahead.lock();
            if ahead.next >= self.regions && self.queue.lock().is_empty() {
                return Ok(None);
            }
            if self.queue.lock().is_empty() {
                self.look_ahead(&mut ahead)?;
            }
        }
    }

    fn look_ahead(&self, ahead: &mut Ahead<'_>) -> Result<()> {
        let mut window = Vec::new();
        let mut packs: HashMap<PackId, usize> = HashMap::new();
        while ahead.next < self.regions && window.len() < WINDOW {
            let region = ahead.next;
            let start = region.saturating_mul(REGION);
            let leaf = match ahead.reader.map(region)? {
                RegionMap::Leaf(leaf) => leaf,
                RegionMap::ZerosUntil(next) => {
                    let end = next.saturating_mul(REGION).min(self.size);
                    (ahead.found)(Found::Zeros(start..end))?;
                    ahead.next = next;
                    continue;
                }
            };
            for data in data(start, &leaf) {
                (ahead.found)(Found::Data(data))?;
            }
            // What has no place comes at once: its error, too.
            let place = ahead.reader.first_place(&leaf).map(|(pack, offset)| {
                let count = packs.len();
                (*packs.entry(pack).or_insert(count), offset)
            });
            window.push((place, region));
            ahead.next = region.saturating_add(1);
        }
        window.sort_unstable();
        self.queue
            .lock()
            .extend(window.iter().map(|(_, region)| region));
        Ok(())
    }
}

fn data(start: u64, leaf: &Leaf) -> impl Iterator<Item = Range<u64>> {
    leaf.data().into_iter().map(move |data| {
        let at = |within: usize| start.saturating_add(cairn_base::units::to_u64(within));
        at(data.start)..at(data.end)
    })
}
