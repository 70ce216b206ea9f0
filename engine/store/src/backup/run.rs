//! A backup from its start to its commit.

use crate::backup::changed::{self, Asked, Prepared, told};
use crate::backup::level::Level;
use crate::backup::plan::{allocated_bytes, of_source};
use crate::backup::work::{Done, Run, threads};
use crate::catalog::{
    Moment, PointNames, choose_time, latest_of, lock_machine, machine_name, next_numbers,
    point_names, publish_point, read_point,
};
use crate::changes::Changes;
use crate::claims::{Claims, Waited};
use crate::compact::tidy_up;
use crate::names::{check_machine, is_disk_name};
use crate::point::{Consistency, ImageFacts, ImageState, Point, PointRecord};
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind, host_name};
use crate::store::{Store, WriterPermit};
use crate::tree::Tree;
use cairn_base::{Clock, Error, Kind, Monitor, PointId, ReadAt, Result, Stage, Time};
use std::sync::Arc;
use std::time::Instant;

/// A disk to back up.
pub struct DiskInput {
    /// Its name in the point.
    pub name: String,
    /// Its bytes.
    pub source: Arc<dyn ReadAt>,
    /// What is known of the image.
    pub facts: ImageFacts,
    /// Called after the last byte was read; answers what changed on the image meanwhile.
    pub changed: Option<Box<dyn Fn() -> Result<Option<String>> + Send + Sync>>,
    /// Who knows what changed since an earlier point: then no more is read than that needs. `None`: nobody.
    pub changes: Option<ChangeSource>,
}

/// Who knows what changed on a disk.
pub enum ChangeSource {
    /// The caller: since [`BackupOptions::base`].
    Caller(Arc<Changes>),
    /// The images that the disk is read from: since a point that was made from some of them, if these are as they were.
    Images(Images),
}

/// Asks so many images what they hold.
pub type Held = Box<dyn Fn(usize, &dyn Monitor) -> Result<Changes> + Send + Sync>;

/// The images that a disk is read from, each the differencing child of the one behind it.
pub struct Images {
    /// How they were when they were opened, the youngest first; `None` for one of which it cannot be told later whether it changed.
    pub states: Vec<Option<ImageState>>,
    /// The ranges of the disk that so many of the first ones hold themselves. Everywhere else it reads as the image behind these. Looks often whether the
    /// user asked to stop, and is interrupted then.
    pub held: Held,
}

impl DiskInput {
    /// Reads from the image; a failure says of which.
    ///
    /// # Errors
    /// What the image reports.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.source.read_exact_at(offset, buffer).map_err(|e| {
            of_source(e)
                .context(format!(
                    "{} ({}) cannot be read",
                    self.name, self.facts.path
                ))
                .at_offset(offset)
        })
    }
}

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the machine.
    pub machine: String,
    /// The time of the point, if not now.
    pub time: Option<Time>,
    /// What the caller knows of the disks' consistency.
    pub consistency: Consistency,
    /// How much work compression may be.
    pub level: Level,
    /// The point to compare with, of the same machine; `None`: the latest. Change information needs one.
    pub base: Option<PointId>,
    /// Whether everything that the images say is allocated is read, also where they show that it is as it was at the base.
    /// Change information of the caller is used all the same.
    pub read_all: bool,
    /// Worker threads; 0 means one for each processor. At most 8 are used.
    pub threads: usize,
    /// New chunks after which what is new is made public in the middle of a backup: bounds memory, and lets an interrupted
    /// first backup go on where it was. Backups of one process that run at once share it. By default 524,288, about 16 GiB of data.
    pub checkpoint: usize,
}

impl BackupOptions {
    /// Defaults for a machine.
    pub fn new(machine: impl Into<String>) -> BackupOptions {
        BackupOptions {
            machine: machine.into(),
            time: None,
            consistency: Consistency::Crash,
            level: Level::default(),
            base: None,
            read_all: false,
            threads: 0,
            checkpoint: 1 << 19,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new point.
    pub point: Point,
}

/// Backs up disks as one point. On any error nothing was added but, at most, chunks that the next backup finds.
///
/// # Errors
/// [`Kind::Invalid`] for bad names and change information without a base, [`Kind::NotFound`] for a base that is not there,
/// [`Kind::Busy`] if the machine or store is busy, [`Kind::Interrupted`] on request; whatever an image or the store's folder
/// reports.
pub fn backup(
    store: &Arc<Store>,
    disks: &[DiskInput],
    options: &BackupOptions,
    monitor: &dyn Monitor,
    clock: &dyn Clock,
) -> Result<BackupReport> {
    let started = Instant::now();
    check_names(&options.machine, disks)?;
    let permit = store.writer()?;
    let _machine = lock_machine(store, &options.machine)?;
    let (before, session) = begin(store, &permit, options, disks, clock)?;
    let Before {
        moment,
        machine,
        sequence,
        previous,
        base,
        mut warnings,
    } = before;
    // No older than the session says: what was condemned before it began must not be relied on.
    store.refresh()?;
    let bases = find_bases(store, base.as_ref(), disks, &mut warnings)?;
    let told = told(disks, base.as_ref(), &bases, options.read_all, monitor)?;
    let asked = Asked {
        store,
        base: base.as_ref(),
        disks,
        bases: &bases,
        told: &told,
        sequence,
        threads: threads(options),
        monitor,
    };
    let mut done = run_all(&asked, &session, options, &mut warnings)?;
    warnings.append(&mut done.warnings);
    note_changes(disks, &mut done, &mut warnings)?;
    warnings.iter().for_each(|warning| monitor.warn(warning));
    done.stats.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let record = PointRecord {
        machine,
        sequence,
        previous,
        seconds: moment.time.seconds,
        import: moment.import,
        made: clock.now().seconds,
        base: base.map(|point| point.id.0),
        consistency: options.consistency,
        disks: done.disks,
        stats: done.stats,
        warnings,
        host: host_name(),
        program: format!("cairn {}", env!("CARGO_PKG_VERSION")),
        origins: done.origins,
    };
    let point = publish_point(store, record)?;
    tidy(store, &session, monitor);
    Ok(BackupReport { point })
}

/// How often a base is chosen anew because it was forgotten meanwhile.
const ATTEMPTS: usize = 5;

/// Looks back, and begins the session that stands on what was found.
fn begin(
    store: &Arc<Store>,
    permit: &WriterPermit,
    options: &BackupOptions,
    disks: &[DiskInput],
    clock: &dyn Clock,
) -> Result<(Before, Session)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = look_back(store, permit, options, disks, clock)?;
        let stands_on: Vec<&Point> = before.base.iter().collect();
        let folder = store.folder().clone();
        match Session::begin(folder, SessionKind::Write, &stands_on) {
            Err(error) if error.kind() == Kind::NotFound && attempt < ATTEMPTS => {}
            session => return Ok((before, session?)),
        }
    }
}

/// Backs up the disks; when it returns, everything new is public.
fn run_all(
    asked: &Asked<'_>,
    session: &Session,
    options: &BackupOptions,
    warnings: &mut Vec<String>,
) -> Result<Done> {
    let (mut done, mut waited) = run_once(asked, session, options, asked.store.claims(), warnings)?;
    if waited == Waited::InVain {
        // Nobody but ourselves can be waited for in vain now. What is damaged may be known better.
        let first = done;
        let mut again = Vec::new();
        (done, waited) = run_once(asked, session, options, &Arc::default(), &mut again)?;
        // What the first turn read and stored was read and stored for this point too.
        done.stats.read += first.stats.read;
        done.stats.new += first.stats.new;
        done.stats.stored += first.stats.stored;
        done.stats.new_chunks += first.stats.new_chunks;
        let known = first.warnings.into_iter();
        let missing: Vec<_> = known.filter(|w| !done.warnings.contains(w)).collect();
        done.warnings.extend(missing);
        again.retain(|warning| !warnings.contains(warning));
        warnings.append(&mut again);
    }
    if waited == Waited::InVain {
        return Err(Error::invalid("a backup waits for itself"));
    }
    asked.monitor.finish(Stage::Backup);
    Ok(done)
}

/// Looks at everything once, and waits for those that were relied on.
fn run_once(
    asked: &Asked<'_>,
    session: &Session,
    options: &BackupOptions,
    claims: &Arc<Claims>,
    warnings: &mut Vec<String>,
) -> Result<(Done, Waited)> {
    let prepared = changed::prepare(asked, warnings)?;
    let monitor = asked.monitor;
    monitor.begin(Stage::Backup, to_read(asked.disks, &prepared)?);
    let run = Run {
        store: asked.store,
        session,
        options,
        monitor,
        disks: asked.disks,
        bases: asked.bases,
        known: &prepared.known,
        writer: claims.enter(),
        lost_regions: Default::default(),
        // Told from the start, until it proves to be fast.
        slow_source: true.into(),
    };
    let (mut done, waited) = run.all_and_wait()?;
    done.stats.read += prepared.read;
    done.origins = prepared.origins(asked);
    done.stats.unchanged = done.origins.iter().map(|origin| origin.unchanged).sum();
    Ok((done, waited))
}

/// Bytes of disk that will be looked at, at most, but for those that check what is claimed.
fn to_read(disks: &[DiskInput], prepared: &Prepared) -> Result<u64> {
    let known = prepared.known.iter();
    let bytes = disks.iter().zip(known).map(|(disk, known)| match known {
        Some(known) => Ok(changed::touched_bytes(known)),
        None => allocated_bytes(&*disk.source),
    });
    bytes.sum()
}

/// The point is safe. Whatever goes wrong from here on is no failure of the backup.
fn tidy(store: &Store, session: &Session, monitor: &dyn Monitor) {
    for warning in tidy_up(store, session, monitor) {
        monitor.warn(&warning);
    }
    if let Err(error) = store.keep_damage() {
        monitor.warn(&format!("what is damaged could not be noted: {error}"));
    }
}

/// What is known before the first byte is read.
struct Before {
    moment: Moment,
    /// The machine's name as its first point spells it: names are the same whatever their case.
    machine: String,
    sequence: u64,
    previous: u64,
    base: Option<Point>,
    warnings: Vec<String>,
}

/// Looks at the machine's points: decides the new one's time, and what it is compared with.
fn look_back(
    store: &Arc<Store>,
    permit: &WriterPermit,
    options: &BackupOptions,
    disks: &[DiskInput],
    clock: &dyn Clock,
) -> Result<Before> {
    let names = point_names(store, &options.machine)?;
    let mut warnings: Vec<String> = store.warnings().to_vec();
    for warning in permit.warnings() {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    warnings.extend(names.damaged.iter().map(ToString::to_string));
    let moment = choose_time(&names.points, options.time, clock.now())?;
    if moment.clock_went_back {
        warnings.push(format!(
            "the clock says {}, which is before the latest point of the machine: was it turned back?",
            moment.time
        ));
    }
    let base = match options.base {
        Some(id) => Some(named_base(store, &options.machine, &names, id)?),
        None => match latest_of(store, &options.machine, &names) {
            Ok(point) => Some(point),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => {
                warnings.push(format!("the previous point is not compared with: {error}"));
                None
            }
        },
    };
    let named = base.as_ref().filter(|_| options.base.is_some());
    changed::check_changes(disks, named)?;
    let machine = machine_name(store, &options.machine)?.unwrap_or_else(|| options.machine.clone());
    let numbers = next_numbers(store, &options.machine, &names)?;
    warnings.extend(numbers.warning);
    Ok(Before {
        moment,
        machine,
        sequence: numbers.sequence,
        previous: numbers.previous,
        base,
        warnings,
    })
}

/// The point of the machine that the caller asks to compare with.
fn named_base(store: &Store, machine: &str, names: &PointNames, id: PointId) -> Result<Point> {
    match names.points.iter().find(|file| file.id == id) {
        Some(file) => read_point(store, machine, file),
        None => Err(
            Error::not_found("the machine has no such point to compare with")
                .with_id(id)
                .advise("see `cairn points`"),
        ),
    }
}

/// Notes which images changed while they were read: no later backup stands on those.
fn note_changes(disks: &[DiskInput], done: &mut Done, warnings: &mut Vec<String>) -> Result<()> {
    let records = done.disks.iter_mut().zip(&mut done.origins);
    for (disk, (record, origin)) in disks.iter().zip(records) {
        if let Some(changed) = &disk.changed
            && let Some(what) = changed()?
        {
            record.mixed = true;
            origin.images.clear();
            warnings.push(format!(
                "{} changed while it was read, so the point may mix two states of it: {what}",
                disk.name
            ));
        }
    }
    Ok(())
}

fn check_names(machine: &str, disks: &[DiskInput]) -> Result<()> {
    check_machine(machine)?;
    if disks.is_empty() {
        return Err(Error::invalid("a point needs at least one disk"));
    }
    let mut seen = std::collections::HashSet::new();
    for disk in disks {
        if !is_disk_name(&disk.name) {
            return Err(
                Error::invalid(format!("`{}` cannot be a disk's name", disk.name))
                    .advise("use 1 to 64 letters, digits, dots, dashes and underscores"),
            );
        }
        if !seen.insert(disk.name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "two disks are called `{}`",
                disk.name
            )));
        }
    }
    Ok(())
}

/// The previous map of each disk: by name, unless the images' own identities say that names were swapped.
fn find_bases(
    store: &Arc<Store>,
    base: Option<&Point>,
    disks: &[DiskInput],
    warnings: &mut Vec<String>,
) -> Result<Vec<Option<Tree>>> {
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let mut trees = Vec::new();
    for disk in disks {
        let by_name = base.and_then(|point| point.disk(&disk.name));
        let identity = &disk.facts.identity;
        let by_identity = base.and_then(|point| {
            let mut same = point
                .record
                .disks
                .iter()
                .filter(|d| !identity.is_empty() && d.image.identity == *identity);
            same.next().filter(|_| same.next().is_none())
        });
        let swapped = by_identity.filter(|found| found.name != disk.name);
        if let Some(other) = swapped {
            warnings.push(format!(
                "the image given as {} is the disk that was called {} in the previous point: compared with that one",
                disk.name, other.name
            ));
        }
        let chosen = swapped.or(by_name);
        trees.push(
            chosen
                .map(|record| Tree::new(reader.clone(), record))
                .transpose()?,
        );
    }
    Ok(trees)
}
