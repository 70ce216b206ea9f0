use super::*;
use std::time::UNIX_EPOCH;

#[test]
fn times_of_any_century_are_passed_on() {
    let time = |seconds, nanos| system_time(Time { seconds, nanos });
    assert_eq!(time(0, 5), UNIX_EPOCH + Duration::new(0, 5));
    // A second and a half before 1970.
    assert_eq!(
        time(-2, 500_000_000),
        UNIX_EPOCH - Duration::new(1, 500_000_000)
    );
    assert_eq!(time(1 << 33, 7), UNIX_EPOCH + Duration::new(1 << 33, 7));
    assert_eq!(
        time(i64::MIN, 0)
            .duration_since(UNIX_EPOCH)
            .unwrap_err()
            .duration()
            .as_secs(),
        1 << 63
    );
    assert_eq!(
        time(i64::MAX, 0)
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
        (1 << 63) - 1
    );
}
