//! The disks of a machine together: which drive letter of Windows is which volume.
//!
//! - `windows`, `installation`: the installations of Windows on a volume, and what their registry says
//! - `layout`: which volumes there are, and what they are called
//!
//! The rule: of all installations of Windows that are found, the letters are those of the one that gives the volume it lies on a letter; of several (two to choose
//! from at the start, an old disk that was put in) of the one whose registry was written last. Only letters of volumes that are there are shown, and a
//! letter whose description fits two volumes is shown for neither.

mod installation;
mod layout;
mod windows;

pub use layout::{MachineLayout, MachineVolume};

use crate::view::DiskView;
use cairn_guest::Note;
use installation::Installation;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windows::installations;

/// Installations of Windows whose hives are read; a machine has one or two.
const MAX_INSTALLATIONS: usize = 32;
/// What failed for a reason that says nothing of the disks is tried again after this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The disks of a machine at one time. Shared by threads; nothing is looked at before it is asked for.
pub struct MachineView {
    disks: Vec<Arc<DiskView>>,
    known: Mutex<Option<Known>>,
    /// When a thread of its own began to look, while it does.
    finding: Mutex<Option<Instant>>,
    found: Condvar,
}

struct Known {
    layout: Arc<MachineLayout>,
    found: Instant,
}

impl MachineView {
    /// All disks of a point, or the one of an image.
    pub fn new(disks: Vec<Arc<DiskView>>) -> MachineView {
        MachineView {
            disks,
            known: Mutex::new(None),
            finding: Mutex::new(None),
            found: Condvar::new(),
        }
    }

    /// What the disks are together. Found out once, which reads the partition tables of all disks and some folders of the volumes of Windows, and remembered. What failed
    /// for a reason that says nothing of the disks ([`Error::is_momentary`](cairn_base::Error::is_momentary)) is tried again, some seconds later; until then the layout is not [final](MachineLayout::is_final).
    pub fn layout(&self) -> Arc<MachineLayout> {
        let mut known = self.known.lock();
        if let Some(known) = &*known
            && (known.layout.is_final() || known.found.elapsed() < PATIENCE)
        {
            return known.layout.clone();
        }
        let layout = Arc::new(self.find());
        *known = Some(Known {
            layout: layout.clone(),
            found: Instant::now(),
        });
        layout
    }

    /// As [`layout`](MachineView::layout), for those who do not wait longer than `patience` after it began to be looked for: a disk may hang. None if it is not known by then; a thread
    /// of its own goes on looking.
    pub fn layout_within(
        self: &Arc<MachineView>,
        patience: Duration,
    ) -> Option<Arc<MachineLayout>> {
        let known = || {
            let known = self.known.try_lock()?;
            known.as_ref().map(|known| known.layout.clone())
        };
        if let Some(layout) = known().filter(|layout| layout.is_final()) {
            return Some(layout);
        }
        let mut finding = self.finding.lock();
        let begun = match *finding {
            Some(begun) => begun,
            None => {
                let view = self.clone();
                let look = move || {
                    let _known = view.layout();
                    *view.finding.lock() = None;
                    view.found.notify_all();
                };
                let thread = std::thread::Builder::new().name("cairn-machine".to_string());
                thread.spawn(look).ok()?;
                *finding.insert(Instant::now())
            }
        };
        let until = begun.checked_add(patience).unwrap_or(begun);
        while finding.is_some() && !self.found.wait_until(&mut finding, until).timed_out() {}
        drop(finding);
        known()
    }

    fn find(&self) -> MachineLayout {
        let mut layout = MachineLayout::new();
        for (position, disk) in self.disks.iter().enumerate() {
            match disk.volumes() {
                Ok(volumes) => layout.add_disk(position, disk.name(), volumes),
                Err(error) => layout.missed_disk(disk.name(), &error),
            }
        }
        let (mut found, mut locked) = (Vec::<Installation>::new(), Vec::new());
        for number in 0..layout.volumes().len() {
            // The hives of a machine with hundreds of volumes would take too long, and no such machine has them.
            let read = found.iter().filter(|at| at.hive.is_some());
            if read.count() >= MAX_INSTALLATIONS {
                layout.note(Note::defect(format!(
                    "There are {MAX_INSTALLATIONS} installations of Windows on the disks: whether there are more was not looked for."
                )));
                break;
            }
            let Some(volume) = layout.volumes().get(number) else {
                break;
            };
            let looked = installations(number, volume);
            looked.notes.into_iter().for_each(|note| layout.note(note));
            locked.extend(looked.locked.map(|error| (number, error)));
            found.extend(looked.installations);
        }
        for installation in &mut found {
            layout.take_failures(installation);
        }
        found.retain(|installation| installation.hive.is_some());
        let rank = |at: &Installation| (layout.own_letter(at).is_some(), at.written());
        // Of equal ones the first.
        let chosen = found.iter().rev().max_by_key(|at| rank(at));
        let chosen = chosen.map(|at| (at.volume, at.folder.clone()));
        found.sort_by_key(|at| chosen != Some((at.volume, at.folder.clone())));
        if let Some((chosen, others)) = found.split_first() {
            layout.give_letters(chosen);
            for other in others {
                layout.give_names(other);
                layout.note(Note::fact(format!(
                    "There is another Windows in {}; the drive letters are those of the one in {}.",
                    layout.place_of(other),
                    layout.place_of(chosen)
                )));
            }
        }
        for (number, error) in &locked {
            layout.take_locked(*number, error, found.first());
        }
        layout.give_guids();
        layout
    }
}
