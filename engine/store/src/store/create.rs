//! Making a store.

use crate::cut::CutParameters;
use crate::header::{Header, check_parity};
use crate::layout::{HEADERS, INDEX, LOCKS, PACKS, POINTS, POLICY, SESSIONS, STATES};
use crate::policy::Policy;
use crate::session::publish_lock;
use crate::state::State;
use crate::store::Store;
use cairn_base::ids::random;
use cairn_base::{Clock, Error, Folder, Kind, Result};
use std::sync::Arc;

impl Store {
    /// Makes a store without parity in `folder`, which must be empty.
    ///
    /// # Errors
    /// [`Kind::Exists`] if anything but an interrupted `init` is in the folder, [`Kind::Invalid`] for impossible cut parameters; as the folder reports.
    pub fn create(folder: Arc<dyn Folder>, cut: CutParameters, clock: &dyn Clock) -> Result<Store> {
        Store::create_with(folder, cut, 0, clock)
    }

    /// As [`create`](Store::create); packs get `parity` percent of parity.
    ///
    /// # Errors
    /// As [`create`](Store::create), and [`Kind::Invalid`] for more than 25 percent.
    pub fn create_with(
        folder: Arc<dyn Folder>,
        cut: CutParameters,
        parity: u32,
        clock: &dyn Clock,
    ) -> Result<Store> {
        Store::create_immutable(folder, cut, parity, Policy::default(), clock)
    }

    /// As [`create_with`](Store::create_with), with what holds for all points from the start.
    ///
    /// # Errors
    /// As [`create_with`](Store::create_with), and [`Kind::Invalid`] as [`Policy::check`].
    pub fn create_immutable(
        folder: Arc<dyn Folder>,
        cut: CutParameters,
        parity: u32,
        policy: Policy,
        clock: &dyn Clock,
    ) -> Result<Store> {
        cut.check()?;
        check_parity(parity)?;
        policy.check()?;
        check_empty(&*folder)?;
        folder.create_folder(LOCKS)?;
        // Two at once: the second one finds the first one's header.
        let _publish = publish_lock(&*folder)?;
        check_empty(&*folder)?;
        for path in [SESSIONS, PACKS, INDEX, POINTS] {
            folder.create_folder(path)?;
        }
        // Both slots from the start, so that one that is missing is always one that was lost.
        for generation in 0..2 {
            let state = State {
                generation,
                ..State::default()
            };
            state.publish(&*folder)?;
        }
        policy.write(&*folder)?;
        let header = Header {
            store: random()?,
            read_flags: 0,
            write_flags: 0,
            created: clock.now().seconds,
            cut,
            id_key: random()?,
            parity,
        };
        // The header comes last: without it the folder is no store, and making it can begin again.
        header.create(&*folder)?;
        Store::open(folder)
    }
}

/// Refuses a folder that holds anything but what an interrupted `init` left.
fn check_empty(folder: &dyn Folder) -> Result<()> {
    let found = folder.list("")?;
    let here = || folder.describe("");
    if found.iter().any(|name| HEADERS.contains(&name.as_str())) {
        return Err(Error::new(Kind::Exists, "there is a store already").at_path(here()));
    }
    for name in &found {
        let own = [LOCKS, SESSIONS, PACKS, INDEX, POINTS].contains(&name.as_str());
        let left = STATES.contains(&name.as_str())
            || name == POLICY
            || own && (name == LOCKS || folder.list(name)?.is_empty());
        if !left {
            return Err(
                Error::new(Kind::Exists, "the folder for the store is not empty")
                    .at_path(here())
                    .advise("name a new or empty folder"),
            );
        }
    }
    Ok(())
}
