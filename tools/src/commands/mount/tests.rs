use super::then_flush;
use cairn::{Error, Kind};

#[test]
fn what_was_written_is_flushed_however_the_mount_ends() {
    let failed = |kind| Err(Error::new(kind, "failed"));
    for (ended, flushed, answer) in [
        (Ok(()), Ok(()), Ok(())),
        (Ok(()), failed(Kind::Full), Err(Kind::Full)),
        (failed(Kind::Busy), Ok(()), Err(Kind::Busy)),
        (failed(Kind::Busy), failed(Kind::Full), Err(Kind::Busy)),
    ] {
        let mut times = 0;
        let said = then_flush(ended, || {
            times += 1;
            flushed
        });
        assert_eq!(said.map_err(|error| error.kind()), answer);
        assert_eq!(times, 1);
    }
}
