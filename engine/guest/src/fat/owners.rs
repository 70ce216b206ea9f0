//! Which folder a cluster belongs to: neither FAT nor exFAT says it of a file, whose number is where its entry lies.
//!
//! Each walk over a folder notes the clusters it comes to. Of what is not in that bounded memory any more, all folders are gone through once, as many as a
//! volume can have without being made to hold up whoever reads it, and what they have is kept for good.

use super::tree::{Folders, Met, ROOT};
use crate::ntfs::cache::Cache;
use cairn_base::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Clusters of folders whose folder is remembered while folders are walked: about 4 MiB.
const KEPT: usize = 64 << 10;
/// What is gone through at most.
const MOST: Limits = Limits {
    folders: 1 << 20,
    pieces: 1 << 20,
    names: 8 << 20,
};

/// How much of a volume is gone through.
#[derive(Clone, Copy)]
struct Limits {
    /// Folders.
    folders: usize,
    /// Pieces of folders, of 16 KiB or a cluster: what is kept of them takes 16 bytes each.
    pieces: usize,
    /// Names in them.
    names: usize,
}

/// Which folder a cluster belongs to.
pub struct Owners {
    kept: Cache<u32, u64>,
    /// What all folders have, once that was needed.
    searched: Mutex<Option<Searched>>,
    most: Limits,
}

/// What all folders have.
struct Searched {
    /// Clusters, ascending, each with the first folder that was found to have it.
    places: Vec<(u32, u64)>,
    /// Whether there was not more than is gone through.
    is_whole: bool,
}

impl Owners {
    /// Nothing is known yet.
    pub fn new() -> Owners {
        Owners {
            kept: Cache::of_count(KEPT),
            searched: Mutex::new(None),
            most: MOST,
        }
    }

    /// Notes that `folder` has `cluster`.
    pub fn note(&self, cluster: u32, folder: u64) {
        self.kept.insert(cluster, folder, 0);
    }

    /// The folder that has `cluster`; nothing if none of those that can be read has it.
    ///
    /// # Errors
    /// What may pass: a disk that does not answer. Unsupported if the folders of the volume hold more than is gone through, and it is not found.
    pub fn find(&self, folders: &dyn Folders, cluster: u32) -> Result<Option<u64>> {
        if let Some(owner) = self.kept.get(&cluster) {
            return Ok(Some(owner));
        }
        let mut searched = self.searched.lock();
        let all = match &mut *searched {
            Some(all) => all,
            none => none.insert(search(folders, self.most)?),
        };
        let found = all.places.binary_search_by_key(&cluster, |(of, _)| *of);
        match found.ok().and_then(|at| all.places.get(at)) {
            Some((_, folder)) => Ok(Some(*folder)),
            None if all.is_whole => Ok(None),
            None => Err(Error::unsupported(format!(
                "the volume's folders hold more than is gone through to find the one that has cluster {cluster}"
            ))
            .advise("go to it by its path")),
        }
    }
}

/// Goes through the folders of a volume.
fn search(folders: &dyn Folders, most: Limits) -> Result<Searched> {
    let mut places: Vec<(u32, u64)> = Vec::new();
    let mut is_whole = true;
    let (mut pieces, mut names) = (0usize, 0usize);
    let mut seen = HashSet::from([ROOT]);
    let mut open = vec![ROOT];
    while let Some(folder) = open.pop() {
        let walked = folders.walk(folder, 0, &mut |met| {
            match met {
                Met::Cluster(cluster) => {
                    pieces = pieces.saturating_add(1);
                    if places.last() != Some(&(cluster, folder)) {
                        places.push((cluster, folder));
                    }
                }
                Met::Name(name) => {
                    names = names.saturating_add(1);
                    if name.is_folder && !seen.contains(&name.number) {
                        if seen.len() < most.folders {
                            seen.insert(name.number);
                            open.push(name.number);
                        } else {
                            is_whole = false;
                        }
                    }
                }
            }
            match pieces < most.pieces && names < most.names {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        // What is damaged has no more to say; others may have the cluster.
        if let Err(error) = walked
            && error.kind().may_pass()
        {
            return Err(error);
        }
        if pieces >= most.pieces || names >= most.names {
            is_whole = false;
            break;
        }
    }
    places.sort_by_key(|(cluster, _)| *cluster);
    places.dedup_by_key(|(cluster, _)| *cluster);
    places.shrink_to_fit();
    Ok(Searched { places, is_whole })
}

#[cfg(test)]
mod tests {
    use super::super::tree::Name;
    use super::*;
    use cairn_base::Kind;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Folders that a hostile volume may have: each holds `names` others, and goes on in the same `clusters` behind one of its own.
    struct Endless {
        clusters: u32,
        names: u64,
        told: AtomicUsize,
        /// What the walk of folder 5 reports, while there is something.
        failure: Mutex<Option<Error>>,
    }

    impl Endless {
        fn new(clusters: u32, names: u64) -> Endless {
            Endless {
                clusters,
                names,
                told: AtomicUsize::new(0),
                failure: Mutex::new(None),
            }
        }

        fn tell(&self) {
            let told = self.told.fetch_add(1, Relaxed);
            assert!(told < 20_000_000, "nothing ends the search");
        }
    }

    impl Folders for Endless {
        fn walk(
            &self,
            folder: u64,
            _: u64,
            sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
        ) -> Result<Option<Error>> {
            if let Some(error) = self.failure.lock().take_if(|_| folder == 5) {
                return Err(error);
            }
            let own = u32::try_from(folder).unwrap() + 1_000_000;
            for cluster in std::iter::once(own).chain(0..self.clusters) {
                self.tell();
                if sink(Met::Cluster(cluster)).is_break() {
                    return Ok(None);
                }
            }
            for name in 0..self.names {
                self.tell();
                let name = Name {
                    units: Vec::new(),
                    other: None,
                    is_stray: false,
                    number: folder * self.names + name + 2,
                    is_folder: folder < u64::from(u32::MAX >> 8) / self.names.max(1),
                    start: 0,
                    next: 1,
                };
                if sink(Met::Name(name)).is_break() {
                    return Ok(None);
                }
            }
            Ok(None)
        }
    }

    #[test]
    fn the_search_for_a_folder_ends() {
        for endless in [Endless::new(2000, 2), Endless::new(1, 60_000)] {
            let owners = Owners::new();
            let error = owners.find(&endless, u32::MAX).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            // What was found until then is known, and nothing is gone through again.
            let told = endless.told.load(Relaxed);
            assert_eq!(owners.find(&endless, 1_000_000 + 1).unwrap(), Some(ROOT));
            assert!(owners.find(&endless, u32::MAX - 1).is_err());
            assert_eq!(endless.told.load(Relaxed), told);
        }
    }

    #[test]
    fn all_folders_are_gone_through_once_unless_the_disk_fails() {
        let small = Endless {
            failure: Mutex::new(Some(Error::new(Kind::Io, "not now"))),
            ..Endless::new(3, 0)
        };
        // The root alone: folder 5 is not there.
        let owners = Owners::new();
        assert_eq!(owners.find(&small, 77).unwrap(), None);
        assert_eq!(owners.find(&small, 2).unwrap(), Some(ROOT));
        let told = small.told.load(Relaxed);
        assert_eq!(owners.find(&small, 78).unwrap(), None);
        assert_eq!(small.told.load(Relaxed), told);
        owners.note(78, 9);
        assert_eq!(owners.find(&small, 78).unwrap(), Some(9));
        // An error that may pass ends the search, and is not remembered.
        let more = Endless {
            failure: Mutex::new(Some(Error::new(Kind::Io, "not now"))),
            ..Endless::new(3, 2)
        };
        let owners = Owners {
            most: Limits { folders: 5, ..MOST },
            ..Owners::new()
        };
        assert_eq!(owners.find(&more, 1_000_005).unwrap_err().kind(), Kind::Io);
        assert_eq!(owners.find(&more, 1_000_005).unwrap(), Some(5));
        // More folders than are gone through.
        assert_eq!(
            owners.find(&more, 77).unwrap_err().kind(),
            Kind::Unsupported
        );
    }
}
