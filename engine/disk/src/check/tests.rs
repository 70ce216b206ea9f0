use super::*;
use cairn_base::Silent;
use cairn_base::units::to_u64;

#[test]
fn the_first_of_each_topic_are_kept_and_all_are_counted() {
    let mut check = Check::new(&Silent);
    let mut asked = 0;
    for file in ["a", "b"] {
        check.begin_image(Some(Path::new(file)));
        for at in 0..100 {
            check.fault(Topic::State, at, || {
                asked += 1;
                format!("number {at}")
            });
        }
        check.more(Topic::State, 5);
        check.remark(Topic::State, None, || "nothing".into());
    }
    assert_eq!(u64::try_from(asked).unwrap(), 2 * KEPT);
    assert_eq!(to_u64(check.findings().len()), 2 * KEPT + 2);
    let counts: Vec<_> = check.counts().iter().collect();
    let found: Vec<u64> = counts.iter().map(|count| count.found).collect();
    assert_eq!(found, [105, 1, 105, 1]);
    assert_eq!(counts[2].file.as_deref(), Some(Path::new("b")));
    assert!(!check.is_sound());
}

#[test]
fn remarks_are_no_faults_and_failures_of_reading_no_findings() {
    let mut check = Check::new(&Silent);
    check.remark(Topic::Unreferenced, 7, || "spare".into());
    assert!(check.is_sound());
    let io = Err::<(), _>(Error::new(Kind::Io, "the disk is broken"));
    assert_eq!(
        check.take(Topic::Structure, io).unwrap_err().kind(),
        Kind::Io
    );
    let damaged = Err::<(), _>(Error::damaged("no signature").at_offset(9));
    assert_eq!(check.take(Topic::Structure, damaged).unwrap(), None);
    assert_eq!(check.findings()[1].offset, Some(9));
    assert_eq!(check.findings()[1].what, "no signature");
    assert!(!check.is_sound());
}

struct Stops;

impl Monitor for Stops {
    fn stop_requested(&self) -> bool {
        true
    }
}

#[test]
fn who_asks_to_stop_is_heard() {
    let check = Check::new(&Stops);
    assert_eq!(check.advance(1).unwrap_err().kind(), Kind::Interrupted);
}
