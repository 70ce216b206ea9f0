//! Whether a file's times will tell each later write to it.
//!
//! The kernel stamps a write with its coarse clock, which stands still for some milliseconds at a time. A file that was written within the
//! present tick may be written again, and keep its time; once the clock is past that time it cannot. So who is to know later whether a file is
//! still the same waits for the next tick. Programs can set a file's time of modification (`mtime`); that of its last change of any kind
//! (`ctime`) they cannot.
//!
//! A write has its time as it begins, and may take seconds. It holds the inode's lock meanwhile, for which `SEEK_DATA` waits on ext4, Btrfs, F2FS and
//! tmpfs, and each read on XFS and ZFS. So after one `SEEK_DATA` behind the tick no write through the page cache is under way that began before it. Direct
//! writes share that lock, and memory maps do without: they are not waited for.

use cairn_base::Time;
use rustix::fs::{SeekFrom, fstatfs, seek};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// File systems of this machine that stamp each write as it is made, keep both times to the nanosecond (ext4 in small inodes: to the second), and
/// ask nobody else what they are. On a network file system another computer may write, and its times may be old when they are read here; of an
/// overlay nobody tells what lies below it. On bcachefs no call is known that waits for a write.
const KNOWN: [u64; 6] = [
    0xef53,      // ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0x0102_1994, // tmpfs
];
/// The coarsest clock has ticks of 10 ms; a busy virtual machine may miss some.
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// What `file` is like once both its times lie in the past, and its `ctime` if that and the time of modification tell each write from now on.
/// Waits for some milliseconds, if the file was changed just now, and for a write that is under way. Nothing is to be read before. Moves the file's cursor.
pub(crate) fn settle(file: &File, metadata: Metadata) -> io::Result<(Metadata, Option<Time>)> {
    if changed_at(file, &metadata).is_none() {
        return Ok((metadata, None));
    }
    let mut metadata = metadata;
    for look in 0..LOOKS {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        if is_past(&metadata, (now.tv_sec, now.tv_nsec)) {
            // Where the data begin does not matter: the lock does.
            let _ = seek(file, SeekFrom::Data(0));
            let changed = changed_at(file, &metadata);
            return Ok((metadata, changed));
        }
        // One that was written seconds ahead of the clock would not settle soon.
        let is_ahead = metadata.mtime().max(metadata.ctime()) > now.tv_sec.saturating_add(1);
        if is_ahead || look.saturating_add(1) == LOOKS {
            break;
        }
        std::thread::sleep(PAUSE);
        metadata = file.metadata()?;
    }
    Ok((metadata, None))
}

/// When anything about `file` changed last (`ctime`), if that is kept exactly where it lies.
pub(crate) fn changed_at(file: &File, metadata: &Metadata) -> Option<Time> {
    let is_known = fstatfs(file).is_ok_and(|found| is_known(found.f_type));
    (metadata.is_file() && is_known).then(|| Time {
        seconds: metadata.ctime(),
        nanos: u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
    })
}

fn is_known<T>(kind: T) -> bool
where
    u64: TryFrom<T>,
{
    u64::try_from(kind).is_ok_and(|kind| KNOWN.contains(&kind))
}

/// Whether a write at `now` or later would get later times than the last one did, also if its time of modification is set back afterwards.
fn is_past(metadata: &Metadata, now: (i64, i64)) -> bool {
    let times = [
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    ];
    times.iter().all(|time| match time.1 {
        // Maybe the file system keeps no more than seconds.
        0 => now.0 > time.0,
        _ => now > *time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::SystemTime;

    #[test]
    fn each_write_to_a_settled_file_shows() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join("x")).unwrap();
        let is_known = fstatfs(&file).is_ok_and(|found| is_known(found.f_type));
        if !is_known {
            eprintln!(
                "SKIPPED: the folder for temporary files lies on a file system whose times are not relied on"
            );
            return;
        }
        for _ in 0..50 {
            file.write_all(b"a").unwrap();
            let (before, settled) = settle(&file, file.metadata().unwrap()).unwrap();
            assert!(settled.is_some());
            file.write_all(b"b").unwrap();
            let after = file.metadata().unwrap();
            assert_ne!(
                (before.mtime(), before.mtime_nsec()),
                (after.mtime(), after.mtime_nsec())
            );
        }
    }

    #[test]
    fn a_time_that_is_set_shows_in_the_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join("x")).unwrap();
        let old = SystemTime::now() - Duration::from_secs(100);
        file.write_all(b"a").unwrap();
        file.set_modified(old).unwrap();
        let (before, settled) = settle(&file, file.metadata().unwrap()).unwrap();
        let Some(settled) = settled else {
            eprintln!(
                "SKIPPED: the folder for temporary files lies on a file system whose times are not relied on"
            );
            return;
        };
        std::thread::sleep(Duration::from_millis(50));
        file.set_modified(old).unwrap();
        let (after, changed) = settle(&file, file.metadata().unwrap()).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        assert!(changed.unwrap() > settled);
    }

    #[test]
    fn a_write_whose_time_is_set_back_at_once_shows() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join("x")).unwrap();
        let old = SystemTime::now() - Duration::from_secs(100);
        for _ in 0..50 {
            file.set_modified(old).unwrap();
            let (before, settled) = settle(&file, file.metadata().unwrap()).unwrap();
            if settled.is_none() {
                println!(
                    "SKIPPED: the folder for temporary files lies on a file system whose times are not relied on"
                );
                return;
            }
            file.write_all(b"a").unwrap();
            file.set_modified(old).unwrap();
            let after = file.metadata().unwrap();
            let times = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
            assert_eq!(before.modified().unwrap(), after.modified().unwrap());
            assert!(times(&after) > times(&before));
        }
    }

    /// An overlay of two folders; unmounted at the end of a test whatever happens.
    struct Overlay(std::path::PathBuf);

    impl Drop for Overlay {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(&self.0).status();
        }
    }

    fn overlay(folder: &std::path::Path) -> Option<Overlay> {
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        let at = |name| folder.join(name).display().to_string();
        let [lower, upper, work] = ["lower", "upper", "work"].map(at);
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let merged = folder.join("merged");
        let done = std::process::Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&merged)
            .output();
        done.is_ok_and(|done| done.status.success())
            .then_some(Overlay(merged))
    }

    #[test]
    fn times_on_an_overlay_are_not_relied_on() {
        let folder = tempfile::tempdir().unwrap();
        let Some(overlay) = overlay(folder.path()) else {
            println!("SKIPPED: no overlay can be mounted");
            return;
        };
        let path = overlay.0.join("x");
        std::fs::write(&path, "a").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let file = File::open(&path).unwrap();
        let (_, settled) = settle(&file, file.metadata().unwrap()).unwrap();
        assert_eq!(settled, None);
    }

    #[test]
    fn both_times_must_be_past() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("x")).unwrap();
        let set = |time| {
            file.set_modified(time).unwrap();
            file.metadata().unwrap()
        };
        let changed = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
        let next = |metadata: &Metadata| (metadata.ctime() + 1, 0);
        // In the tick of the last change, whatever the other time was set to; and in the next second.
        let old = set(SystemTime::now() - Duration::from_secs(100));
        assert!(!is_past(&old, changed(&old)));
        assert!(is_past(&old, next(&old)));
        let ahead = set(SystemTime::now() + Duration::from_secs(100));
        assert!(!is_past(&ahead, next(&ahead)));
    }

    #[test]
    fn a_time_that_is_yet_to_come_never_settles() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("x")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(100);
        file.set_modified(later).unwrap();
        let (_, settled) = settle(&file, file.metadata().unwrap()).unwrap();
        assert_eq!(settled, None);
    }
}
