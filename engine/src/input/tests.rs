use super::*;
use cairn_base::{Kind, Monitor, Silent};
use cairn_disk::{FileStamp, Guid, open_bytes};

fn time(seconds: i64, nanos: u32) -> Time {
    Time { seconds, nanos }
}

fn known() -> Identity {
    Identity {
        disk_id: Some(Guid([9; 16])),
        data_id: Some(Guid([1; 16])),
        write_id: Some(Guid([2; 16])),
        file: Some(FileStamp {
            size: 3,
            modified: time(4, 5),
        }),
        settled: Some(time(6, 7)),
    }
}

/// The same with another stamp of its file.
fn stamped(size: u64, modified: Time) -> Identity {
    Identity {
        file: Some(FileStamp { size, modified }),
        ..known()
    }
}

#[test]
fn all_that_tells_of_a_write_is_kept() {
    let state = state_of(&known()).unwrap();
    let mut data_id = known();
    data_id.data_id = Some(Guid([8; 16]));
    let mut write_id = known();
    write_id.write_id = Some(Guid([8; 16]));
    let settled = |at: Time| Identity {
        settled: Some(at),
        ..known()
    };
    let others = [
        data_id,
        write_id,
        stamped(2, time(4, 5)),
        stamped(3, time(3, 5)),
        stamped(3, time(4, 6)),
        settled(time(5, 7)),
        settled(time(6, 8)),
        // The same nanoseconds in both times are not the same.
        Identity {
            settled: Some(time(4, 5)),
            ..stamped(3, time(6, 7))
        },
    ];
    for other in others {
        assert_ne!(state_of(&other).unwrap(), state, "{other:?}");
    }
    // The disk's own id stays whatever is written.
    let mut moved = known();
    moved.disk_id = None;
    assert_eq!(state_of(&moved).unwrap(), state);
}

#[test]
fn an_image_of_which_something_is_not_known_has_no_state() {
    let without: [fn(&mut Identity); 4] = [
        |image| image.data_id = None,
        |image| image.write_id = None,
        |image| image.file = None,
        |image| image.settled = None,
    ];
    for forget in without {
        let mut image = known();
        forget(&mut image);
        assert_eq!(state_of(&image), None, "{image:?}");
    }
    // Nor has one of a time that 64 bits cannot say.
    assert_eq!(state_of(&stamped(3, time(i64::MAX, 0))), None);
}

/// Wants everything to stop.
struct Stop;

impl Monitor for Stop {
    fn stop_requested(&self) -> bool {
        true
    }
}

#[test]
fn who_asks_images_what_they_hold_may_be_stopped() {
    let disk = open_bytes(Arc::new(vec![1; 4096]), FormatHint::Raw).unwrap();
    let images = images_of(&disk);
    let changes = (images.held)(1, &Silent).unwrap();
    assert_eq!((changes.size(), changes.bytes()), (4096, 4096));
    let error = (images.held)(1, &Stop).err().unwrap();
    assert_eq!(error.kind(), Kind::Interrupted);
}
