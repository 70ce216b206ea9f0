//! Failures that say nothing of the volume.

use cairn_base::Error;

/// Whether the same may go well another time: too many open files, a server that does not answer. What such a failure
/// hides is not known, so it is never answered for, and never remembered. A sector that the disk cannot read is none.
pub fn is_passing(error: &Error) -> bool {
    error.kind().may_pass() && error.is_momentary()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use std::io;
    use std::path::Path;

    #[test]
    fn only_what_may_go_well_another_time_passes() {
        let of = |code| {
            let error = io::Error::from_raw_os_error(code);
            is_passing(&Error::io("cannot read", Path::new("/x"), error))
        };
        // ENFILE and ETIMEDOUT, but not EIO.
        assert_eq!((of(23), of(110), of(5)), (true, true, false));
        for (kind, passing) in [
            (Kind::Busy, true),
            (Kind::Interrupted, true),
            (Kind::Damaged, false),
            (Kind::Unsupported, false),
            (Kind::NotFound, false),
            (Kind::Invalid, false),
        ] {
            assert_eq!(is_passing(&Error::new(kind, "test")), passing, "{kind:?}");
        }
    }
}
