//! A disk as a stream: regions are read by all processors and written in order.

use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, Result, Stage};
use cairn_store::map::REGION;
use cairn_store::{RegionMap, RegionReader, StoredDisk};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Regions that each thread may be ahead.
const AHEAD: usize = 2;
/// A thread holds up to five regions: more threads would break the memory budget.
const MAX_THREADS: usize = 8;

/// A region: its bytes, and how many of them are data. `None` is nothing but zeros.
type Answer = Result<Option<(Vec<u8>, u64)>>;

/// A thread's answers, and the way its buffers go back.
type Lane = (Receiver<Answer>, SyncSender<Vec<u8>>);

/// Writes `stored` to `stream`, holes as zeros. Answers the bytes of data. Memory is a few regions a thread.
pub(super) fn stream_disk(
    stored: &StoredDisk,
    stream: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let shape = stored.tree().shape();
    monitor.begin(Stage::Restore, shape.size());
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(MAX_THREADS);
    let stop = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        // Thread k does regions k, k + threads, ...: the order of the answers needs no sorting.
        let lanes: Vec<Lane> = (0..threads)
            .map(|lane| {
                let (send, answers) = sync_channel::<Answer>(AHEAD);
                let (back, buffers) = sync_channel::<Vec<u8>>(AHEAD + 2);
                let stop = &stop;
                scope.spawn(move || {
                    let mut reader = RegionReader::new(stored.tree());
                    let mut region = to_u64(lane);
                    while region < shape.regions() && !stop.load(Ordering::Relaxed) {
                        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
                        let answer = read(&mut reader, region, length, &buffers);
                        if send.send(answer).is_err() {
                            return;
                        }
                        region = region.saturating_add(to_u64(threads));
                    }
                });
                (answers, back)
            })
            .collect();
        let result = write_all(stored, &lanes, stream, monitor);
        stop.store(true, Ordering::Relaxed);
        drop(lanes);
        result
    });
    monitor.finish(Stage::Restore);
    result
}

fn read(
    reader: &mut RegionReader,
    region: u64,
    length: usize,
    buffers: &Receiver<Vec<u8>>,
) -> Answer {
    let RegionMap::Leaf(leaf) = reader.map(region)? else {
        return Ok(None);
    };
    let mut buffer = buffers.try_recv().unwrap_or_default();
    buffer.resize(length, 0);
    reader.read(region, &leaf, &|_| true, &mut buffer)?;
    let mut data_bytes = 0;
    for part in leaf.parts() {
        match part.extent.chunk {
            Some(_) => data_bytes += u64::from(part.extent.length),
            // The buffer held another region before.
            None => buffer.get_mut(part.range()).unwrap_or_default().fill(0),
        }
    }
    Ok(Some((buffer, data_bytes)))
}

fn write_all(
    stored: &StoredDisk,
    lanes: &[Lane],
    stream: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let shape = stored.tree().shape();
    let zeros = vec![0; usize::try_from(REGION).unwrap_or(0)];
    let mut data_bytes = 0u64;
    let mut turn = lanes.iter().cycle();
    for region in 0..shape.regions() {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let ended = || Error::invalid("a thread of the restore has ended");
        let (answers, back) = turn.next().ok_or_else(ended)?;
        let answer = answers.recv().map_err(|_| ended())??;
        let length = shape.region_length(region);
        let bytes = match &answer {
            Some((bytes, data)) => {
                data_bytes = data_bytes.saturating_add(*data);
                Some(&bytes[..])
            }
            None => zeros.get(..usize::try_from(length).unwrap_or(0)),
        };
        stream
            .write_all(bytes.unwrap_or_default())
            .map_err(|e| Error::io("cannot write the disk", Path::new("-"), e))?;
        if let Some((bytes, _)) = answer {
            // A full lane has buffers enough.
            let _enough = back.try_send(bytes);
        }
        monitor.advance(Stage::Restore, length);
    }
    stream
        .flush()
        .map_err(|e| Error::io("cannot write the disk", Path::new("-"), e))?;
    Ok(data_bytes)
}
