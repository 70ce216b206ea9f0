//! What is found when all structures of an image are walked: faults and remarks, each with its place, and never more of them than anybody reads.

use cairn_base::{Error, Kind, Monitor, Result, Stage};
use std::fmt;
use std::path::{Path, PathBuf};

/// So many findings of a topic are kept for each image; others are only counted.
pub const KEPT: u64 = 16;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The image contradicts its format, itself or its file.
    Fault,
    /// Nothing is wrong, and somebody may want to know.
    Remark,
}

/// What is wrong, in classes. The names stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A header, table, footer or descriptor is damaged: signature, checksum, or a field that cannot be.
    Structure,
    /// Copies of one structure say different things.
    Copies,
    /// Something is said to lie where the file has ended.
    Outside,
    /// Something is said to lie where nothing of its kind begins.
    Misaligned,
    /// Two structures or blocks are said to lie in the same bytes of the file.
    Overlap,
    /// A table entry is in a state that does not exist, or not in such an image.
    State,
    /// A sector bitmap is missing, or is there where none belongs.
    Bitmap,
    /// Bits that must be zeros are not.
    Reserved,
    /// Reference counts that are not the number of references.
    References,
    /// A log or journal.
    Log,
    /// What is said of the parent.
    Parent,
    /// What is compressed cannot be unpacked.
    Compressed,
    /// Bytes of the file that nothing refers to.
    Unreferenced,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topic::Structure => "structure",
            Topic::Copies => "copies",
            Topic::Outside => "outside",
            Topic::Misaligned => "misaligned",
            Topic::Overlap => "overlap",
            Topic::State => "state",
            Topic::Bitmap => "bitmap",
            Topic::Reserved => "reserved",
            Topic::References => "references",
            Topic::Log => "log",
            Topic::Parent => "parent",
            Topic::Compressed => "compressed",
            Topic::Unreferenced => "unreferenced",
        })
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its class.
    pub topic: Topic,
    /// The file of the image in which it is; none if the image is no file.
    pub file: Option<PathBuf>,
    /// Where in the file what is wrong is written: that of a table's entry, not that of the block to which it leads. Of an image that cannot be
    /// opened, the place that its reader names.
    pub offset: Option<u64>,
    /// What it is; a sentence without a full stop.
    pub what: String,
}

/// How many findings of a topic an image has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The file of the image in which they are; none if the image is no file.
    pub file: Option<PathBuf>,
    /// How bad they are.
    pub severity: Severity,
    /// Their class.
    pub topic: Topic,
    /// All of them, those that were [kept](KEPT) too.
    pub found: u64,
}

/// Takes what is found. A reader of a format calls [`fault`](Check::fault) and [`remark`](Check::remark) for what it finds and goes on;
/// it ends early only for what stops it.
///
/// ```
/// use cairn_disk::{Check, Topic};
/// let mut check = Check::new(&cairn_base::Silent);
/// check.fault(Topic::State, 8, || "block 1 is in state 5, which does not exist".to_string());
/// assert_eq!(check.findings()[0].offset, Some(8));
/// assert!(!check.is_sound());
/// ```
pub struct Check<'a> {
    monitor: &'a dyn Monitor,
    file: Option<PathBuf>,
    /// Where in `counts` those of the present file begin.
    first: usize,
    /// How many of the present image were kept.
    kept: Vec<(Severity, Topic, u64)>,
    findings: Vec<Finding>,
    counts: Vec<Count>,
}

impl<'a> Check<'a> {
    /// Nothing found yet. `monitor` is told how far long walks are ([`Stage::Check`]) and says whether to stop.
    pub fn new(monitor: &'a dyn Monitor) -> Check<'a> {
        Check {
            monitor,
            file: None,
            first: 0,
            kept: Vec::new(),
            findings: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// What was kept, in the order in which it was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How much was found, by image, severity and topic.
    pub fn counts(&self) -> &[Count] {
        &self.counts
    }

    /// Whether no fault was found.
    pub fn is_sound(&self) -> bool {
        let mut severities = self.counts.iter().map(|count| count.severity);
        severities.all(|severity| severity == Severity::Remark)
    }

    /// What is found from now on is of the image in `file`.
    pub(crate) fn begin_image(&mut self, file: Option<&Path>) {
        self.kept.clear();
        self.begin_file(file);
    }

    /// What is found from now on is in `file`, one of several of the image.
    pub(crate) fn begin_file(&mut self, file: Option<&Path>) {
        self.file = file.map(Path::to_path_buf);
        self.first = self.counts.len();
    }

    /// Something is wrong. `offset` is where in the file that is written; `what` is asked only if it is kept.
    pub fn fault(
        &mut self,
        topic: Topic,
        offset: impl Into<Option<u64>>,
        what: impl FnOnce() -> String,
    ) {
        self.add(Severity::Fault, topic, offset.into(), what);
    }

    /// Something is remarkable and not wrong.
    pub fn remark(
        &mut self,
        topic: Topic,
        offset: impl Into<Option<u64>>,
        what: impl FnOnce() -> String,
    ) {
        self.add(Severity::Remark, topic, offset.into(), what);
    }

    /// `count` more faults of a topic, of which no more is said.
    pub(crate) fn more(&mut self, topic: Topic, count: u64) {
        if count > 0 {
            self.count(Severity::Fault, topic, count);
        }
    }

    /// What was read of a structure; `None` if it is damaged, which is a fault of this topic, or of a kind that is not read, which is a remark.
    ///
    /// # Errors
    /// Any other failure: it says nothing of the image.
    pub fn take<T>(&mut self, topic: Topic, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_of_image(&error) => {
                self.fault(topic, error.offset(), || error.reason());
                Ok(None)
            }
            Err(error) if error.kind() == Kind::Unsupported => {
                self.remark(topic, error.offset(), || error.reason());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A walk over `total` bytes of tables begins.
    pub fn begin(&self, total: u64) {
        self.monitor.begin(Stage::Check, total);
    }

    /// So many bytes of tables more were walked. To be called every few thousand entries.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] if the user asked to stop.
    pub fn advance(&self, amount: u64) -> Result<()> {
        self.monitor.advance(Stage::Check, amount);
        match self.monitor.stop_requested() {
            true => Err(Error::interrupted()),
            false => Ok(()),
        }
    }

    /// The walk is over.
    pub fn finish(&self) {
        self.monitor.finish(Stage::Check);
    }

    fn add(
        &mut self,
        severity: Severity,
        topic: Topic,
        offset: Option<u64>,
        what: impl FnOnce() -> String,
    ) {
        self.count(severity, topic, 1);
        if !self.keeps(severity, topic) {
            return;
        }
        self.findings.push(Finding {
            severity,
            topic,
            file: self.file.clone(),
            offset,
            what: what(),
        });
    }

    /// Whether one more of these is kept.
    fn keeps(&mut self, severity: Severity, topic: Topic) -> bool {
        let mut all = self.kept.iter_mut();
        match all.find(|(its, of, _)| (*its, *of) == (severity, topic)) {
            Some((_, _, kept)) => {
                *kept = kept.saturating_add(1);
                *kept <= KEPT
            }
            None => {
                self.kept.push((severity, topic, 1));
                true
            }
        }
    }

    /// Counts `more`.
    fn count(&mut self, severity: Severity, topic: Topic, more: u64) {
        let of_file = self.counts.iter_mut().skip(self.first);
        for count in of_file {
            if (count.severity, count.topic) == (severity, topic) {
                count.found = count.found.saturating_add(more);
                return;
            }
        }
        self.counts.push(Count {
            file: self.file.clone(),
            severity,
            topic,
            found: more,
        });
    }
}

/// Whether an error is damage of the image. A read beyond the end of the file is; that something is not read, or not opened, is none.
pub(crate) fn is_of_image(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Invalid)
}

#[cfg(test)]
mod tests;
