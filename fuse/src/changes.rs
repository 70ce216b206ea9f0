//! When the lists of machines and points were last seen to change.
//!
//! Who keeps a copy of a list, as NFS servers and their clients do, looks at the time of the folder to see whether it is still good. So the time has to grow whenever the list is
//! another one, also when a point of long ago comes or goes.

use cairn::Time;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::SystemTime;

/// What time it is.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Time {
        seconds: i64::try_from(since.as_secs()).unwrap_or(0),
        nanos: since.subsec_nanos(),
    }
}

/// What the lists held when they were last looked at: as many entries as there are machines.
#[derive(Default)]
pub struct Changes {
    lists: Mutex<HashMap<String, Seen>>,
}

struct Seen {
    content: u64,
    time: Time,
}

impl Changes {
    /// Notes a hash of what a list holds now, and answers when it was seen to change: `quiet` as long as it was not. Another content has a later time, by a second
    /// at least, because some compare whole seconds.
    pub fn note(&self, list: &str, content: u64, quiet: Time) -> Time {
        let mut lists = self.lists.lock();
        let Some(seen) = lists.get_mut(list) else {
            let time = quiet;
            lists.insert(list.to_string(), Seen { content, time });
            return time;
        };
        if seen.content != content {
            let later = Time {
                seconds: seen.time.seconds.saturating_add(1),
                ..seen.time
            };
            *seen = Seen {
                content,
                time: now().max(later),
            };
        }
        seen.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_has_a_later_time() {
        let changes = Changes::default();
        let quiet = Time::from_seconds(7);
        assert_eq!(changes.note("a", 1, quiet), quiet);
        assert_eq!(changes.note("a", 1, Time::from_seconds(9)), quiet);
        let changed = changes.note("a", 2, quiet);
        assert!(changed > quiet);
        assert_eq!(changes.note("a", 2, quiet), changed);
        let again = changes.note("a", 1, quiet);
        assert!(again.seconds > changed.seconds);
        assert_eq!(changes.note("b", 1, quiet), quiet);
        // A point of the future does not hold it up.
        let future = Time::from_seconds(i64::MAX - 9);
        assert_eq!(changes.note("c", 1, future), future);
        assert!(changes.note("c", 2, future) > future);
    }
}
