use super::*;
use cairn_base::{PointId, Time};

fn point(sequence: u64, seconds: i64, import: bool) -> PointFile {
    PointFile {
        sequence,
        seconds,
        import,
        id: PointId([0; 32]),
    }
}

fn at(seconds: i64) -> Time {
    Time::from_seconds(seconds)
}

#[test]
fn times_are_unique_and_imports_never_latest() {
    let points = [
        point(1, 100, false),
        point(2, 101, false),
        point(3, 50, true),
    ];
    let choose = |asked, now| choose_time(&points, asked, at(now));
    assert_eq!(
        choose(None, 200).unwrap(),
        Moment {
            time: at(200),
            import: false,
            clock_went_back: false
        }
    );
    // A taken second moves to the next free one, and an equal clock is not a clock that went back.
    assert_eq!(
        choose(None, 101).unwrap(),
        Moment {
            time: at(102),
            import: false,
            clock_went_back: false
        }
    );
    // Neither are several backups within one second.
    let crowd = [
        point(1, 100, false),
        point(2, 101, false),
        point(3, 102, false),
    ];
    let crowded = choose_time(&crowd, None, at(100)).unwrap();
    assert_eq!((crowded.time, crowded.clock_went_back), (at(103), false));
    assert!(choose(None, 60).unwrap().clock_went_back);
    assert_eq!(
        choose(Some(at(60)), 200).unwrap(),
        Moment {
            time: at(60),
            import: true,
            clock_went_back: false
        }
    );
    assert!(!choose(Some(at(150)), 200).unwrap().import);
    assert_eq!(choose(Some(at(100)), 200).unwrap_err().kind(), Kind::Exists);
}
