//! Several machines backed up at once by one process: what they share is stored once, and memory does not grow with their number.

use crate::input::DiskImage;
use crate::store::Store;
use cairn_base::{Error, Monitor, Result, Stage};
use cairn_store::backup::plan::allocated_bytes;
use cairn_store::{BackupOptions, Point};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Backups at once unless the caller says otherwise: as many as Azure Backup Server runs.
pub const AT_ONCE: usize = 8;

/// One machine to back up.
pub struct Job {
    /// Its disks.
    pub disks: Vec<DiskImage>,
    /// How. With 0 threads the processors are divided among the jobs that run at once.
    pub options: BackupOptions,
}

impl Store {
    /// Backs up several machines, up to `at_once` at the same time, beginning in the order given. One that fails does not stop the
    /// others. The answers are in the order of the jobs.
    ///
    /// A chunk that several of them hold is stored once: a backup that relies on what another one stores publishes its point
    /// when that is public.
    pub fn backup_all(
        &self,
        jobs: Vec<Job>,
        at_once: usize,
        monitor: &dyn Monitor,
    ) -> Vec<Result<Point>> {
        let at_once = at_once.clamp(1, jobs.len().max(1));
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let total = jobs.iter().map(bytes_of).sum();
        monitor.begin(Stage::Backup, total);
        let waiting: Vec<Mutex<Option<Job>>> =
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
                            job.options.threads = (processors / at_once).max(1);
                        }
                        let machine = job.options.machine.clone();
                        let told = Together { monitor, machine };
                        let result = self.backup(job.disks, &job.options, &told);
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

/// What a job will read at most; 0 where the image cannot tell, which its backup will report.
fn bytes_of(job: &Job) -> u64 {
    let disks = job.disks.iter();
    disks
        .map(|disk| allocated_bytes(disk.source()).unwrap_or(0))
        .sum()
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
