//! The drive letters of volumes, point by point.

use crate::machine::MachineLayout;
use std::collections::BTreeMap;

/// The drive letters that the volumes of one point have.
#[derive(Default)]
pub struct Letters {
    /// By the position of their disk and their number.
    all: BTreeMap<(usize, u32), Vec<u8>>,
}

impl Letters {
    /// Those of a point.
    pub fn of(layout: &MachineLayout) -> Letters {
        let mut all: BTreeMap<(usize, u32), Vec<u8>> = BTreeMap::new();
        for (letter, volume) in layout.letters() {
            let place = (volume.disk(), volume.view().number());
            all.entry(place).or_default().extend(u8::try_from(letter));
        }
        Letters { all }
    }

    /// Those of the volume of this number on the disk at this position.
    pub fn of_volume(&self, disk: usize, number: u32) -> &[u8] {
        self.all.get(&(disk, number)).map_or(&[], Vec::as_slice)
    }
}
