//! Files that processes left which were killed while they wrote.

use crate::layout::{self, LOCKS, MACHINE_SCRATCH, POINTS};
use crate::publish::sweep_segments;
use crate::session::publish_lock;
use cairn_base::folder::{join, optional};
use cairn_base::{Folder, Result};

/// Deletes them, and segments that no slot of the state lists.
///
/// # Errors
/// As the folder reports; nothing depends on it.
pub fn sweep_litter(folder: &dyn Folder) -> Result<()> {
    let _publish = publish_lock(folder)?;
    for path in temporary(folder)? {
        folder.remove(&path)?;
    }
    // Whoever renamed the newest state into place may have been killed before it was durable.
    folder.sync_folder("")?;
    sweep_segments(folder)
}

/// Files that are being written under a lock that nobody holds. The caller holds the publish lock.
///
/// # Errors
/// As the folder reports.
pub fn temporary(folder: &dyn Folder) -> Result<Vec<String>> {
    let mut found: Vec<String> = folder
        .list(LOCKS)?
        .iter()
        .filter(|name| name.ends_with(".new"))
        .map(|name| join(LOCKS, name))
        .collect();
    for machine in folder.list(POINTS)? {
        let home = join(POINTS, &machine);
        let names = match folder.list(&home) {
            Ok(names) => names,
            // Not a folder, or gone by now: the catalog says what is wrong there.
            Err(_) => continue,
        };
        if names.iter().any(|name| name == MACHINE_SCRATCH) {
            let lock = join(&home, layout::MACHINE_LOCK);
            if optional(folder.is_locked(&lock))? != Some(true) {
                found.push(join(&home, MACHINE_SCRATCH));
            }
        }
        // Written under the publish lock, which we hold.
        let scratch = layout::MACHINE_RETENTION_SCRATCH;
        if names.iter().any(|name| name == scratch) {
            found.push(join(&home, scratch));
        }
    }
    found.sort();
    Ok(found)
}
