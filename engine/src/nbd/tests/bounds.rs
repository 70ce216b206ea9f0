//! What clients can make the server hold in memory.

use super::*;
use std::sync::atomic::AtomicU64;

const GIB: u64 = 1 << 30;
const UNIT: u64 = 4096;

/// 4 GiB: the first of them data and holes of 4 KiB in turn, then nothing. Knows the longest range that was asked for.
#[derive(Default)]
struct Striped {
    longest: AtomicU64,
}

impl ReadAt for Striped {
    fn size(&self) -> u64 {
        4 * GIB
    }

    fn read_exact_at(&self, _: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(1);
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let asked = range.end - range.start;
        self.longest.fetch_max(asked, Ordering::SeqCst);
        let end = range.end.min(GIB);
        let units = range.start / UNIT..end.div_ceil(UNIT);
        let data = units.filter(|unit| unit % 2 == 0);
        Ok(data
            .map(|unit| (unit * UNIT).max(range.start)..((unit + 1) * UNIT).min(end))
            .filter(|data| !data.is_empty())
            .collect())
    }
}

/// The descriptors of an answer: length and status.
fn descriptors(client: &mut Client) -> Vec<(u64, u32)> {
    let (_, kind, _, data) = client.chunk();
    assert_eq!(kind, 5);
    let numbers: Vec<u32> = data[4..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|number| u32::from_be_bytes(*number))
        .collect();
    let (pairs, _) = numbers.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| (u64::from(pair[0]), pair[1]))
        .collect()
}

#[test]
fn questions_about_holes_are_answered_in_small_steps() {
    let disk = Arc::new(Striped::default());
    let exports = vec![NbdExport::fixed("striped", "", disk.clone())];
    with_client(exports, |client| {
        begin(client);
        client.request(0, 7, 1, 0..GIB);
        let told = descriptors(client);
        assert_eq!(told.len(), 4096);
        for (at, part) in told.iter().enumerate() {
            assert_eq!(*part, (UNIT, if at % 2 == 0 { 0 } else { 3 }));
        }
        // Nothing of a long hole is cut at the end of a step, and one answer covers a GiB at most.
        client.request(0, 7, 2, GIB - 2 * UNIT..GIB + (500 << 20));
        assert_eq!(descriptors(client), [(UNIT, 0), (UNIT + (500 << 20), 3)]);
        client.request(0, 7, 3, 2 * GIB..4 * GIB - UNIT);
        assert_eq!(descriptors(client), [(GIB, 3)]);
        client.request(8, 7, 4, GIB..2 * GIB);
        assert_eq!(descriptors(client), [(GIB, 3)]);
        client.request(8, 7, 5, GIB - UNIT..GIB + UNIT);
        assert_eq!(descriptors(client), [(2 * UNIT, 3)]);
        client.request(0, 2, 0, 0..0);
    })
    .unwrap();
    let longest = disk.longest.load(Ordering::SeqCst);
    assert!(longest <= 32 << 20, "{longest} bytes at once");
}

/// Reads of more than 4 KiB wait until they may go on, and fail then.
#[derive(Default)]
struct Held {
    /// Buffers that wait, in bytes; those there ever were at once; whether they may go on.
    state: Mutex<(u64, u64, bool)>,
    changed: parking_lot::Condvar,
}

impl ReadAt for Held {
    fn size(&self) -> u64 {
        GIB
    }

    fn read_exact_at(&self, _: u64, buffer: &mut [u8]) -> Result<()> {
        if buffer.len() <= 4096 {
            return Ok(());
        }
        let mut state = self.state.lock();
        state.0 += buffer.len() as u64;
        state.1 = state.1.max(state.0);
        self.changed.notify_all();
        while !state.2 {
            self.changed.wait(&mut state);
        }
        state.0 -= buffer.len() as u64;
        Err(Error::damaged("held long enough"))
    }
}

#[test]
fn all_connections_share_their_memory_and_small_requests_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let disk = Arc::new(Held::default());
    let exports = vec![NbdExport::fixed("held", "", disk.clone())];
    let server = NbdServer::unix(exports, &path).unwrap();
    let stop = AtomicBool::new(false);
    let connect = || {
        let mut client = Client(UnixStream::connect(&path).unwrap());
        client.take(18);
        // The oldest way: replies in one piece.
        client.send(&[&3u32.to_be_bytes()]);
        client.option(1, b"");
        client.take(10);
        client
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| server.run(&stop, Arc::new(Silent)).unwrap());
        let mut clients: Vec<Client> = (0..8).map(|_| connect()).collect();
        for client in &mut clients {
            client.request(0, 0, 1, 0..32 << 20);
        }
        let mut state = disk.state.lock();
        while state.0 < 4 * (32 << 20) {
            disk.changed.wait(&mut state);
        }
        drop(state);
        // The others wait, and this one need not.
        let mut small = connect();
        for cookie in 0..50 {
            small.request(0, 0, cookie, 0..4096);
            assert_eq!(small.simple(), (0, cookie));
            small.take(4096);
        }
        disk.state.lock().2 = true;
        disk.changed.notify_all();
        for client in &mut clients {
            assert_eq!(client.simple(), (5, 1));
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(run.join().unwrap(), NbdEnded::Done);
    });
    let most = disk.state.lock().1;
    assert!(most <= 128 << 20, "{most} bytes at once");
}
