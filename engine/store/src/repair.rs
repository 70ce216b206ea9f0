//! Repair: what is damaged is written anew, as far as it can be had from parity, from the index, or from other packs.
//!
//! Packs are never changed: everything good of a damaged one goes into a new pack, which is read back, checked in full and published;
//! then the old one is replaced and deleted as small packs are. A pack of which a chunk cannot be had anywhere is not deleted.
//! Segments that are damaged or gone are made anew from the tables of contents of the packs.

mod elsewhere;
mod index;
mod mend;
mod opened;
mod packs;
mod plan;
mod state;
mod suspects;

use crate::catalog::{all_points, gone, mend_names};
use crate::compact::sweep::sweep_replaced;
use crate::publish::merge_lock;
use crate::session::{Session, SessionKind};
use crate::store::Store;
use cairn_base::{Error, Kind, Monitor, PackId, Result};
pub use state::rebuild_state;
use std::sync::Arc;

/// Something that was repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The pack that was damaged, if it was one.
    pub pack: Option<PackId>,
    /// The pack that took its place; `None` if nothing had to be written.
    pub new_pack: Option<PackId>,
    /// What was done.
    pub what: String,
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// What was repaired.
    pub repaired: Vec<Repaired>,
    /// What could not be.
    pub left: Vec<String>,
}

/// Repairs the store as far as it can be. Nothing is taken away that was not replaced.
///
/// # Errors
/// [`Kind::Busy`] if another host writes, or packs or segments are being merged; [`Kind::Interrupted`] on request; as the folder reports. What was
/// repaired until then stays.
pub fn repair(store: &Arc<Store>, monitor: &dyn Monitor) -> Result<RepairReport> {
    let permit = store.writer()?;
    for warning in permit.warnings() {
        monitor.warn(warning);
    }
    let Some(_merging) = merge_lock(&**store.folder())? else {
        return Err(Error::new(
            Kind::Busy,
            "a backup merges packs or segments of the store just now",
        )
        .advise("try again when it has finished"));
    };
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[])?;
    let mut report = RepairReport::default();
    store.refresh()?;
    index::rebuild(store, &session, monitor, &mut report)?;
    packs::mend_all(store, &session, monitor, &mut report)?;
    sweep_replaced(store)?;
    for name in mend_names(store)? {
        report.repaired.push(Repaired {
            pack: None,
            new_pack: None,
            what: format!("the name of the machine `{name}` was written anew"),
        });
    }
    // Points are not made from anything else.
    let listing = all_points(store)?;
    let damaged = listing.damaged.iter().map(ToString::to_string);
    report.left.extend(damaged);
    report.left.extend(gone(store, &listing.points)?);
    Ok(report)
}
