//! An open recovery point.

use crate::machine::MachineView;
use crate::view::{DiskView, Neighbour, Together};
use cairn_base::Result;
use cairn_guest::ReadOptions;
use cairn_store::{ChunkReader, Point, Session, SessionKind, StoredDisk, Tree};
use parking_lot::Mutex;
use std::sync::Arc;

/// A recovery point, open for reading. While it lives, nothing it stands on is deleted.
pub struct PointView {
    point: Point,
    disks: Vec<Arc<DiskView>>,
    machine: Arc<MachineView>,
    stored: Vec<Arc<StoredDisk>>,
    warning: Option<String>,
    session: Mutex<Option<Session>>,
}

impl PointView {
    pub(crate) fn open(
        store: &Arc<cairn_store::Store>,
        reader: &Arc<ChunkReader>,
        point: &Point,
        reading: &ReadOptions,
    ) -> Result<PointView> {
        let session = Session::begin(store.folder().clone(), SessionKind::Read, &[point])?;
        store.refresh()?;
        let mut together = Vec::new();
        let mut stored = Vec::new();
        for record in &point.record.disks {
            let disk = Arc::new(StoredDisk::new(Tree::new(reader.clone(), record)?));
            stored.push(disk.clone());
            let raw = record.image.format == cairn_disk::Format::Raw.to_string();
            let sector = record.image.sector_size;
            together.push(Neighbour {
                name: record.name.to_string(),
                disk,
                sector_size: (!raw && sector > 0).then_some(sector),
            });
        }
        let views = together.iter().enumerate().map(|(position, disk)| {
            let view = DiskView::new(&*disk.name, disk.disk.clone(), disk.sector_size);
            let view = view.with_read_options(reading.clone());
            let view = view.of_origin(&[&point.id.0, disk.name.as_bytes()], point.time());
            (position, view)
        });
        let views: Vec<(usize, DiskView)> = views.collect();
        let together = Arc::new(Together::new(together));
        let among = |(position, view): (usize, DiskView)| Arc::new(view.among(&together, position));
        let disks: Vec<Arc<DiskView>> = views.into_iter().map(among).collect();
        Ok(PointView {
            point: point.clone(),
            machine: Arc::new(MachineView::new(disks.clone())),
            disks,
            stored,
            warning: session.warning().map(str::to_string),
            session: Mutex::new(Some(session)),
        })
    }

    /// What a user should know although the point can be read.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Ends the session: for a process that is about to end while others of its threads still read. From now on nothing keeps the point from being deleted.
    pub fn leave(&self) {
        let session = self.session.lock().take();
        drop(session);
    }

    /// What the point says.
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Its disks, in the order they were given.
    pub fn disks(&self) -> &[Arc<DiskView>] {
        &self.disks
    }

    /// Its disk of that name.
    pub fn disk(&self, name: &str) -> Option<&Arc<DiskView>> {
        self.disks.iter().find(|disk| disk.name() == name)
    }

    /// What its disks are together: the drive letters of Windows.
    pub fn machine(&self) -> &Arc<MachineView> {
        &self.machine
    }

    /// The disks with their maps, for restoring them as a whole.
    pub(crate) fn stored(&self) -> &[Arc<StoredDisk>] {
        &self.stored
    }
}
