//! A state for a store that has lost both slots.

use crate::header::Header;
use crate::layout::HOST_LOCK;
use crate::session::publish_lock;
use crate::state::State;
use crate::store::complete;
use cairn_base::{Clock, Error, Folder, Kind, LockMode, Result};

/// If both slots of the state are lost, makes a state that lists every segment there is. `false` if the state can be read. What
/// a lost state listed as replaced shows as packs that are missing; a repair puts that right.
///
/// # Errors
/// [`Kind::Busy`] if somebody writes to the store; as the folder reports.
pub fn rebuild_state(folder: &dyn Folder, clock: &dyn Clock) -> Result<bool> {
    let (header, _) = Header::read(folder)?;
    if !header.writable() {
        return Err(Error::unsupported(
            "the store can only be read by this program",
        ));
    }
    let Some(_alone) = folder.lock(HOST_LOCK, LockMode::Exclusive, false)? else {
        return Err(Error::new(Kind::Busy, "somebody writes to the store")
            .at_path(folder.describe(""))
            .advise("wait until it has finished"));
    };
    let _publish = publish_lock(folder)?;
    match State::read(folder) {
        Ok(_) => return Ok(false),
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {}
        Err(error) => return Err(error),
    }
    // Above any generation that ever was: no store publishes once a second for decades.
    let seconds = u64::try_from(clock.now().seconds).unwrap_or(0);
    let mut state = State {
        generation: seconds.max(2),
        ..State::default()
    };
    complete(folder, header.store, &mut state)?;
    state.publish(folder)?;
    state.advance(1)?;
    state.publish(folder)?;
    Ok(true)
}
