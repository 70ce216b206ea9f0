//! The end of sessions whose processes are dead.

use crate::codec;
use crate::layout::{self, INDEX, SessionName};
use crate::session::record::{Manifest, is_elsewhere, read_session, session_names};
use crate::state::State;
use cairn_base::folder::{join, optional, read_small};
use cairn_base::{Folder, Kind, LockMode, PackId, Result, SegmentId};
use std::collections::BTreeSet;

/// Name of the manifest in the session's folder.
pub(crate) const MANIFEST: &str = "manifest";

/// Removes a session's folder and then its file.
pub(super) fn remove_session(folder: &dyn Folder, name: SessionName) -> Result<()> {
    let scratch = name.folder();
    if let Some(files) = optional(folder.list(&scratch))? {
        for file in files {
            folder.remove(&join(&scratch, &file))?;
        }
        folder.remove_folder(&scratch)?;
    }
    folder.remove(&name.file())
}

/// Which packs live segments name; `None` if that is not known for sure: then published names are left alone.
pub type Named<'a> = Option<&'a dyn Fn(PackId) -> bool>;

/// Sweeps what dead sessions of this host left: their folders, and packs and segments that were renamed into place but
/// that no state ever listed. The caller holds the publish lock. One session that cannot be swept does not stop the rest;
/// the answer says what could not be done. Those of other hosts are left alone.
///
/// # Errors
/// If the sessions cannot be listed.
pub fn sweep_dead(folder: &dyn Folder, named: Named<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for name in session_names(folder)? {
        // Without a record the name decides: the lock of a folder without a file would make one.
        let record = read_session(folder, name).ok();
        if is_elsewhere(name, record.as_ref()) {
            continue;
        }
        if let Err(error) = sweep_one(folder, named, name) {
            warnings.push(format!(
                "what the dead session {} left could not be removed: {error}",
                name.id
            ));
        }
    }
    Ok(warnings)
}

/// What became of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// It is gone.
    Gone,
    /// Somebody holds its lock.
    Alive,
    /// It published when it ended, and what of that is public cannot be told now.
    Kept,
}

/// Sweeps what one session left, unless somebody holds its lock. The caller holds the publish lock, and knows that the lock tells, or that its
/// process has ended.
///
/// # Errors
/// As the folder reports.
pub(crate) fn sweep_one(folder: &dyn Folder, named: Named<'_>, name: SessionName) -> Result<Swept> {
    let Some(_lock) = folder.lock(&name.file(), LockMode::Exclusive, false)? else {
        return Ok(Swept::Alive);
    };
    let manifest = join(&name.folder(), MANIFEST);
    if let Some(bytes) = optional(read_small(folder, &manifest, codec::MAX_FILE))? {
        let Some(named) = named else {
            return Ok(Swept::Kept);
        };
        match codec::open::<Manifest>(&bytes) {
            Ok(manifest) if remove_unlisted(folder, named, &manifest)? => {}
            Ok(_) => return Ok(Swept::Kept),
            // One that does not check was not durable, so nothing was renamed after it.
            Err(error) if error.kind() == Kind::Damaged => {}
            // A newer program's: it knows what to do with it.
            Err(_) => return Ok(Swept::Kept),
        }
    }
    remove_session(folder, name)?;
    Ok(Swept::Gone)
}

/// Removes what the manifest names and neither slot of the state does; `false` if a slot is lost, so that this is not known.
fn remove_unlisted(
    folder: &dyn Folder,
    named: &dyn Fn(PackId) -> bool,
    manifest: &Manifest,
) -> Result<bool> {
    let segment = SegmentId(manifest.segment);
    let Some(listed) = State::listed(folder)? else {
        return Ok(false);
    };
    // Whoever renamed the newest state into place may have been killed before it was durable.
    folder.sync_folder("")?;
    // It was public. If it was merged since, the older slot still leads to it, until the next publication.
    if listed.contains(&segment) {
        return Ok(true);
    }
    folder.remove(&layout::segment(segment))?;
    let mut homes = BTreeSet::from([INDEX.to_string()]);
    for pack in manifest.packs.iter().map(|id| PackId(*id)) {
        if !named(pack) {
            folder.remove(&layout::pack(pack))?;
            homes.insert(layout::pack_folder(pack));
        }
    }
    // Durable before the manifest goes: without it nobody would look for what came back.
    for home in homes {
        match folder.sync_folder(&home) {
            // No pack ever got so far.
            Err(error) if error.kind() == Kind::NotFound => {}
            other => other?,
        }
    }
    Ok(true)
}
