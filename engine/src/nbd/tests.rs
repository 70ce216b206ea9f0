//! The protocol, byte by byte, as a client sees it.

mod bounds;

use super::*;
use crate::overlay::Overlay;
use cairn_base::read_at::check_range;
use cairn_base::{ReadAt, Silent};
use std::ops::Range;
use std::os::unix::net::UnixStream;

/// A disk with a byte that cannot be read, a place that takes its time, and a hole from 1 MiB on.
struct Odd {
    slow_is_done: Mutex<bool>,
    done: parking_lot::Condvar,
}

const BAD: u64 = 600_000;
const SLOW: u64 = 300_000;

impl Odd {
    fn new() -> Arc<Odd> {
        Arc::new(Odd {
            slow_is_done: Mutex::new(false),
            done: parking_lot::Condvar::new(),
        })
    }

    fn release(&self) {
        *self.slow_is_done.lock() = true;
        self.done.notify_all();
    }
}

impl ReadAt for Odd {
    fn size(&self) -> u64 {
        2 << 20
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let range = offset..offset + buffer.len() as u64;
        if range.contains(&BAD) {
            return Err(Error::damaged("a chunk is lost").at_offset(BAD));
        }
        if range.contains(&SLOW) {
            let mut done = self.slow_is_done.lock();
            while !*done {
                self.done.wait(&mut done);
            }
        }
        for (at, byte) in range.zip(buffer) {
            *byte = if at < 1 << 20 {
                (at / 512) as u8 | 1
            } else {
                0
            };
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let data = range.start..range.end.min(1 << 20);
        Ok(if data.is_empty() { vec![] } else { vec![data] })
    }
}

/// Talks to a server of these exports.
fn with_client(exports: Vec<NbdExport>, talk: impl FnOnce(&mut Client)) -> Result<()> {
    let (server, client) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let writer = server.try_clone().unwrap();
        let served = scope.spawn(move || serve_stream(exports, server, writer, &Silent));
        let mut client = Client(client);
        assert_eq!(client.take(18), b"NBDMAGICIHAVEOPT\0\x03");
        talk(&mut client);
        drop(client);
        served.join().unwrap()
    })
}

struct Client(UnixStream);

impl Client {
    fn send(&mut self, parts: &[&[u8]]) {
        self.0.write_all(&parts.concat()).unwrap();
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn number(&mut self, length: usize) -> u64 {
        self.take(length)
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn option(&mut self, number: u32, data: &[u8]) {
        let length = (data.len() as u32).to_be_bytes();
        self.send(&[b"IHAVEOPT", &number.to_be_bytes(), &length, data]);
    }

    /// The next reply to an option: its kind and data.
    fn answer(&mut self, option: u32) -> (u32, Vec<u8>) {
        assert_eq!(self.number(8), protocol::OPTION_REPLY_MAGIC);
        assert_eq!(self.number(4), u64::from(option));
        let kind = self.number(4) as u32;
        let length = self.number(4) as usize;
        (kind, self.take(length))
    }

    fn request(&mut self, flags: u16, command: u16, cookie: u64, range: Range<u64>) {
        self.send(&[
            &protocol::REQUEST_MAGIC.to_be_bytes(),
            &flags.to_be_bytes(),
            &command.to_be_bytes(),
            &cookie.to_be_bytes(),
            &range.start.to_be_bytes(),
            &((range.end - range.start) as u32).to_be_bytes(),
        ]);
    }

    /// The head of a simple reply: number of the failure, cookie.
    fn simple(&mut self) -> (u64, u64) {
        assert_eq!(self.number(4), u64::from(protocol::SIMPLE_REPLY_MAGIC));
        (self.number(4), self.number(8))
    }

    /// A chunk: flags, type, cookie, data.
    fn chunk(&mut self) -> (u64, u64, u64, Vec<u8>) {
        assert_eq!(self.number(4), u64::from(protocol::CHUNK_MAGIC));
        let (flags, kind, cookie) = (self.number(2), self.number(2), self.number(8));
        let length = self.number(4) as usize;
        (flags, kind, cookie, self.take(length))
    }
}

fn text(name: &str) -> Vec<u8> {
    [&(name.len() as u32).to_be_bytes()[..], name.as_bytes()].concat()
}

fn odd(disk: &Arc<Odd>) -> Vec<NbdExport> {
    vec![NbdExport::fixed("odd", "an odd disk", disk.clone())]
}

#[test]
fn the_oldest_way_to_begin_gets_simple_replies() {
    let disk = Odd::new();
    let served = with_client(odd(&disk), |client| {
        // Without the flag that spares the zeros.
        client.send(&[&1u32.to_be_bytes()]);
        client.option(1, b"");
        assert_eq!(client.number(8), 2 << 20);
        let flags = client.number(2);
        assert_eq!(flags & 3, 3, "read-only");
        assert_eq!(flags & 0x80, 0, "no chunks, so none that could be whole");
        assert_eq!(client.take(124), [0; 124]);
        client.request(0, 0, 1, 1024..1536);
        assert_eq!(client.simple(), (0, 1));
        assert_eq!(client.take(512), [3; 512]);
        // A failure has no data behind it.
        client.request(0, 0, 2, BAD..BAD + 10);
        assert_eq!(client.simple(), (5, 2));
        client.request(0, 0, 3, (2 << 20)..(2 << 20) + 1);
        assert_eq!(client.simple(), (22, 3));
        client.request(0, 1, 4, 0..5);
        client.send(&[b"write"]);
        assert_eq!(client.simple(), (1, 4));
        client.request(0, 3, 5, 0..0);
        assert_eq!(client.simple(), (0, 5));
        client.request(0, 99, 6, 0..0);
        assert_eq!(client.simple(), (22, 6));
        client.request(4, 0, 9, 0..10);
        assert_eq!(client.simple(), (22, 9));
        client.request(0, 7, 7, 0..10);
        assert_eq!(client.simple(), (22, 7), "no context was agreed on");
        client.request(0, 2, 8, 0..0);
    });
    served.unwrap();
}

#[test]
fn options_are_answered_one_by_one() {
    let disk = Odd::new();
    let mut exports = odd(&disk);
    exports.push(NbdExport::fixed("second", "", Arc::new(vec![1u8; 1000])));
    let served = with_client(exports, |client| {
        client.send(&[&3u32.to_be_bytes()]);
        client.option(3, b"");
        assert_eq!(
            client.answer(3),
            (2, [&text("odd")[..], b"an odd disk"].concat())
        );
        assert_eq!(client.answer(3), (2, text("second")));
        assert_eq!(client.answer(3).0, 1);
        let invalid = (1 << 31) + 3;
        for (option, data) in [
            (3, &b"x"[..]),
            (8, b"x"),
            (6, b"\0\0"),
            (7, &[0xFF; 50]),
            (10, b""),
        ] {
            client.option(option, data);
            assert_eq!(client.answer(option).0, invalid);
        }
        // TLS, and extended headers.
        for option in [5, 11, 4711] {
            client.option(option, b"");
            assert_eq!(client.answer(option).0, (1 << 31) + 1);
        }
        let contexts = |export: &str, queries: &[&str]| {
            let count = (queries.len() as u32).to_be_bytes();
            let queries: Vec<u8> = queries.iter().flat_map(|query| text(query)).collect();
            [&text(export)[..], &count, &queries].concat()
        };
        client.option(10, &contexts("odd", &["base:allocation"]));
        assert_eq!(
            client.answer(10).0,
            invalid,
            "structured replies come first"
        );
        client.option(8, b"");
        assert_eq!(client.answer(8).0, 1);
        for (option, queries) in [
            (9, &[][..]),
            (9, &["base:"]),
            (10, &["qemu:x", "base:allocation"]),
        ] {
            client.option(option, &contexts("odd", queries));
            let (kind, data) = client.answer(option);
            assert_eq!((kind, &data[4..]), (4, &b"base:allocation"[..]));
            assert_eq!(client.answer(option).0, 1);
        }
        client.option(6, &[&text("nothing")[..], b"\0\0"].concat());
        assert_eq!(client.answer(6).0, (1 << 31) + 6);
        client.option(6, &[&text("second")[..], b"\0\x01\0\x01"].concat());
        let (_, export) = client.answer(6);
        assert_eq!(export[..10], [0, 0, 0, 0, 0, 0, 0, 0, 3, 0xE8]);
        assert_eq!(export[11] & 0x80, 0x80, "chunks can be kept whole");
        assert_eq!(
            client.answer(6).1,
            [0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]
        );
        assert_eq!(client.answer(6).1, b"\0\x01second");
        assert_eq!(client.answer(6).0, 1);
        client.option(2, b"");
        assert_eq!(client.answer(2).0, 1);
    });
    served.unwrap();
}

/// Agrees on structured replies, holes, and the first export.
fn begin(client: &mut Client) {
    client.send(&[&3u32.to_be_bytes()]);
    client.option(8, b"");
    client.answer(8);
    client.option(
        10,
        &[&text("")[..], &[0, 0, 0, 1], &text("base:allocation")].concat(),
    );
    client.answer(10);
    client.answer(10);
    client.option(7, &[&text("")[..], &[0, 0]].concat());
    while client.answer(7).0 != 1 {}
}

#[test]
fn chunks_tell_data_holes_and_failures() {
    let disk = Odd::new();
    disk.release();
    let served = with_client(odd(&disk), |client| {
        begin(client);
        client.request(0, 0, 1, (1 << 20) - 512..(1 << 20) + 70_000);
        let (flags, kind, cookie, data) = client.chunk();
        assert_eq!((flags, kind, cookie, data.len()), (0, 1, 1, 8 + 512));
        let (flags, kind, _, data) = client.chunk();
        assert_eq!((flags, kind), (1, 2));
        assert_eq!(
            data,
            [&(1u64 << 20).to_be_bytes()[..], &70_000u32.to_be_bytes()].concat()
        );
        // In one piece on demand.
        client.request(4, 0, 2, (1 << 20) - 512..(1 << 20) + 70_000);
        let (flags, kind, _, data) = client.chunk();
        assert_eq!((flags, kind, data.len()), (1, 1, 8 + 70_512));
        client.request(4, 0, 3, 0..(1 << 20) + 1);
        let (flags, kind, _, data) = client.chunk();
        assert_eq!(
            (flags, kind, &data[..4]),
            (1, (1 << 15) + 2, &[0, 0, 0, 75][..])
        );
        // What cannot be read is named, with its place.
        client.request(0, 0, 4, BAD..BAD + 10);
        let (flags, kind, _, data) = client.chunk();
        assert_eq!(
            (flags, kind, &data[..4]),
            (1, (1 << 15) + 2, &[0, 0, 0, 5][..])
        );
        assert!(String::from_utf8_lossy(&data).contains("a chunk is lost"));
        assert_eq!(data[data.len() - 8..], BAD.to_be_bytes());
        client.request(0, 0, 5, 7..7);
        assert_eq!(client.chunk(), (1, 0, 5, vec![]));
        client.request(0, 7, 6, 4096..2 << 20);
        let (_, kind, _, data) = client.chunk();
        let numbers: Vec<u32> = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|n| u32::from_be_bytes(*n))
            .collect();
        assert_eq!(
            (kind, &numbers[..]),
            (5, &[1, (1 << 20) - 4096, 0, 1 << 20, 3][..])
        );
        client.request(8, 7, 7, 4096..2 << 20);
        assert_eq!(client.chunk().3.len(), 12, "only the first one");
        client.request(0, 7, 8, 5..5);
        assert_eq!(client.chunk().1, (1 << 15) + 1);
    });
    // It went away without a word.
    assert!(served.is_err());
}

#[test]
fn what_is_done_first_is_answered_first() {
    let disk = Odd::new();
    with_client(odd(&disk), |client| {
        begin(client);
        client.request(0, 0, 1, SLOW..SLOW + 512);
        for cookie in 2..40 {
            client.request(0, 0, cookie, 0..512);
            let (_, _, answered, _) = client.chunk();
            assert_eq!(answered, cookie);
        }
        disk.release();
        assert_eq!(client.chunk().2, 1);
        client.request(0, 2, 0, 0..0);
    })
    .unwrap();
}

#[test]
fn writes_trims_and_zeros_reach_the_overlay() {
    let temp = tempfile::tempdir().unwrap();
    let base: Arc<dyn ReadAt> = Arc::new(vec![9u8; 100_000]);
    let overlay = Arc::new(Overlay::temporary(base, Some(temp.path())).unwrap());
    let exports = vec![NbdExport::writable("disk0", "", overlay.clone())];
    with_client(exports, |client| {
        begin(client);
        let mut expect = |flags, command, range: Range<u64>, data: &[u8], number| {
            client.request(flags, command, 1, range);
            client.send(&[data]);
            assert_eq!(client.simple(), (number, 1));
        };
        expect(1, 1, 5000..5003, b"abc", 0);
        expect(0, 6, 10_000..20_000, b"", 0);
        expect(2, 6, 30_000..40_000, b"", 0);
        expect(2 | 16, 6, 0..10, b"", 95);
        expect(16, 6, 40_000..40_010, b"", 0);
        expect(0, 4, 50_000..70_000, b"", 0);
        expect(0, 5, 0..100_000, b"", 0);
        expect(0, 3, 0..0, b"", 0);
        expect(0, 1, 99_999..100_001, b"xy", 28);
        expect(0, 6, 99_999..100_001, b"", 28);
        expect(0, 4, 99_999..100_001, b"", 22);
        expect(0x80, 4, 0..10, b"", 22);
        client.request(0, 2, 0, 0..0);
    })
    .unwrap();
    let mut now = vec![0; 100_000];
    overlay.read_exact_at(0, &mut now).unwrap();
    let mut expected = vec![9; 100_000];
    expected[5000..5003].copy_from_slice(b"abc");
    expected[10_000..20_000].fill(0);
    expected[30_000..40_010].fill(0);
    // Whole units of 4 KiB only.
    expected[53_248..69_632].fill(0);
    assert!(now == expected);
}

#[test]
fn a_server_ends_though_clients_stay_and_its_socket_goes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let disk = Odd::new();
    let server = NbdServer::unix(odd(&disk), &path).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| server.run(&stop, Arc::new(Silent)).unwrap());
        let mut client = Client(UnixStream::connect(&path).unwrap());
        client.take(18);
        begin(&mut client);
        client.request(0, 0, 1, 0..512);
        assert_eq!(client.chunk().2, 1);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(run.join().unwrap(), NbdEnded::Done);
        assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    });
    drop(server);
    assert!(!path.exists());
    assert!(NbdServer::unix(vec![], &path).is_err());
    assert!(
        NbdServer::unix(
            [odd(&disk), odd(&disk)].into_iter().flatten().collect(),
            &path
        )
        .is_err()
    );
}
