//! Several machines backed up at once by one process: what they share is stored once, and memory does not grow with their number.

use crate::input::DiskImage;
use crate::store::Store;
use cairn_base::{Error, Monitor, Result, Stage};
use cairn_store::{BackupOptions, Point};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Backups at once at most, and unless the caller says otherwise: as many as Azure Backup Server runs.
pub const AT_ONCE: usize = 8;

/// Opens the disks of a job.
pub type OpenDisks<'a> = Box<dyn FnOnce() -> Result<Vec<DiskImage>> + Send + 'a>;

/// One machine to back up.
pub struct Job<'a> {
    /// Opens its disks, when it is their turn: an image that is open for hours before it is read is read with the tables that it had then,
    /// and hundreds of them take more files than a process may have open.
    pub open: OpenDisks<'a>,
    /// About how many bytes will be read, for the progress; 0 if nobody knows.
    pub expected: u64,
    /// How. With 0 threads the processors are divided among the jobs that run at once.
    pub options: BackupOptions,
}

impl Store {
    /// Backs up several machines, up to `at_once` (at most 8) at the same time, beginning in the order given. One that fails does not stop the
    /// others. The answers are in the order of the jobs.
    ///
    /// A chunk that several of them hold is stored once: a backup that relies on what another one stores publishes its point
    /// when that is public.
    pub fn backup_all(
        &self,
        jobs: Vec<Job<'_>>,
        at_once: usize,
        monitor: &dyn Monitor,
    ) -> Vec<Result<Point>> {
        let at_once = at_once.clamp(1, jobs.len().clamp(1, AT_ONCE));
        // As many workers together as one backup has at most: memory is bounded by them.
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = processors.min(AT_ONCE);
        let total = jobs
            .iter()
            .fold(0u64, |sum, job| sum.saturating_add(job.expected));
        monitor.begin(Stage::Backup, total);
        let waiting: Vec<Mutex<Option<Job<'_>>>> =
            jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
        let answers: Vec<Mutex<Option<Result<Point>>>> =
            waiting.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some((job, answer)) = {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        waiting.get(index).zip(answers.get(index))
                    } {
                        let Some(mut job) = job.lock().take() else {
                            continue;
                        };
                        if job.options.threads == 0 {
                            job.options.threads = (workers / at_once).max(1);
                        }
                        let machine = job.options.machine.clone();
                        let told = Together { monitor, machine };
                        let result = if monitor.stop_requested() {
                            Err(Error::interrupted())
                        } else {
                            (job.open)().and_then(|disks| self.backup(disks, &job.options, &told))
                        };
                        *answer.lock() = Some(result);
                    }
                });
            }
        });
        monitor.finish(Stage::Backup);
        let unexpected = || Err(Error::invalid("a backup has ended unexpectedly"));
        answers
            .into_iter()
            .map(|answer| answer.into_inner().unwrap_or_else(unexpected))
            .collect()
    }
}

/// Tells one job's progress as a part of all.
struct Together<'a> {
    monitor: &'a dyn Monitor,
    machine: String,
}

impl Monitor for Together<'_> {
    fn advance(&self, stage: Stage, amount: u64) {
        self.monitor.advance(stage, amount);
    }
    fn warn(&self, warning: &str) {
        self.monitor.warn(&format!("{}: {warning}", self.machine));
    }
    fn stop_requested(&self) -> bool {
        self.monitor.stop_requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Silent;
    use std::sync::Arc;

    #[test]
    fn disks_are_opened_when_it_is_their_turn() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(&temp.path().join("store")).unwrap();
        let jobs = (0..4).map(|number| Job {
            open: Box::new({
                let store = store.clone();
                move || {
                    // All that came before is done.
                    assert_eq!(store.points(None).unwrap().points.len(), number.min(2));
                    if number == 2 {
                        return Err(Error::invalid("no such image"));
                    }
                    let bytes = vec![7u8; 100_000 + number];
                    Ok(vec![DiskImage::from_reader("disk0", Arc::new(bytes))])
                }
            }),
            expected: 0,
            options: BackupOptions::new(format!("m{number}")),
        });
        let answers = store.backup_all(jobs.collect(), 1, &Silent);
        let good: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, true, false, true]);
    }

    /// Wants to stop as soon as the first job has advanced.
    struct Stops(AtomicUsize);

    impl Monitor for Stops {
        fn stop_requested(&self) -> bool {
            self.0.load(Ordering::Relaxed) > 0
        }
    }

    #[test]
    fn who_stops_waits_for_no_job_that_has_not_begun() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(&temp.path().join("store")).unwrap();
        let stops = Stops(AtomicUsize::new(0));
        let opened = AtomicUsize::new(0);
        let jobs = (0..3).map(|number| Job {
            open: Box::new(|| {
                opened.fetch_add(1, Ordering::Relaxed);
                stops.0.store(1, Ordering::Relaxed);
                Ok(vec![])
            }),
            expected: 0,
            options: BackupOptions::new(format!("m{number}")),
        });
        let answers = store.backup_all(jobs.collect(), 1, &stops);
        assert_eq!(opened.load(Ordering::Relaxed), 1);
        assert!(answers.iter().all(Result::is_err));
    }
}
