//! Which folder a cluster belongs to: neither FAT nor exFAT says it of a file, whose number is where its entry lies.
//!
//! Each walk over a folder notes the clusters it comes to. Of what is not in that bounded memory any more, all folders are gone through once, as many as a
//! volume can have without being made to hold up whoever reads it, and what they have is kept for good.

use super::tree::{Folders, Met, ROOT};
use crate::ntfs::cache::Cache;
use crate::ntfs::passing::is_passing;
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
    /// What is not in it, if anything is not.
    missing: Option<Missing>,
}

/// Why what was found is not all there is.
enum Missing {
    /// There was more than is gone through.
    More,
    /// A part of a folder cannot be read, and that will not pass.
    Unread(Error),
}

impl Missing {
    /// That `cluster` was not found for this reason.
    fn error(&self, cluster: u32) -> Error {
        match self {
            Missing::More => Error::unsupported(format!(
                "the volume's folders hold more than is gone through to find the one that has cluster {cluster}"
            ))
            .advise("go to it by its path"),
            Missing::Unread(error) => error.clone().context(format!(
                "no folder that can be read has cluster {cluster}, and of one a part cannot be read"
            )),
        }
    }
}

impl Searched {
    /// The folder that has `cluster`.
    fn owner(&self, cluster: u32) -> Option<u64> {
        let found = self.places.binary_search_by_key(&cluster, |(of, _)| *of);
        let (_, folder) = self.places.get(found.ok()?)?;
        Some(*folder)
    }
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
    /// If it is not found: what may pass, a disk that does not answer; what the disk reports about a folder that it cannot read; unsupported if the folders of the
    /// volume hold more than is gone through.
    pub fn find(&self, folders: &dyn Folders, cluster: u32) -> Result<Option<u64>> {
        if let Some(owner) = self.kept.get(&cluster) {
            return Ok(Some(owner));
        }
        let mut searched = self.searched.lock();
        let all = match &mut *searched {
            Some(all) => all,
            none => match search(folders, self.most) {
                (all, None) => none.insert(all),
                // What was found is true all the same, and not to be looked for again.
                (part, Some(passing)) => {
                    for (cluster, folder) in &part.places {
                        self.note(*cluster, *folder);
                    }
                    return part.owner(cluster).map(Some).ok_or(passing);
                }
            },
        };
        match (all.owner(cluster), &all.missing) {
            (None, Some(missing)) => Err(missing.error(cluster)),
            (owner, _) => Ok(owner),
        }
    }
}

/// Goes through the folders of a volume: what they have, or what was found until something failed that may pass, and that failure.
fn search(folders: &dyn Folders, most: Limits) -> (Searched, Option<Error>) {
    let mut places: Vec<(u32, u64)> = Vec::new();
    let (mut missing, mut passing) = (None, None);
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
                            missing.get_or_insert(Missing::More);
                        }
                    }
                }
            }
            match pieces < most.pieces && names < most.names {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match walked {
            Err(error) if is_passing(&error) => {
                passing = Some(error);
                break;
            }
            Err(error) if error.kind().may_pass() => {
                missing.get_or_insert(Missing::Unread(error));
            }
            // What is damaged has no more to say; others may have the cluster.
            Ok(_) | Err(_) => {}
        }
        if pieces >= most.pieces || names >= most.names {
            missing.get_or_insert(Missing::More);
            break;
        }
    }
    places.sort_by_key(|(cluster, _)| *cluster);
    places.dedup_by_key(|(cluster, _)| *cluster);
    places.shrink_to_fit();
    (Searched { places, missing }, passing)
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
        /// What the next walk of folder 5 reports.
        failure: Mutex<Option<Kind>>,
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
            if let Some(kind) = self.failure.lock().take_if(|_| folder == 5) {
                return Err(Error::new(kind, "test"));
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
            failure: Mutex::new(Some(Kind::Busy)),
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
        // An error that may pass ends the search, and is not remembered; what was found before it is.
        let (more, owners) = (failing(Kind::Busy), few());
        assert_eq!(
            owners.find(&more, 1_000_005).unwrap_err().kind(),
            Kind::Busy
        );
        let told = more.told.load(Relaxed);
        assert_eq!(owners.find(&more, 1_000_001).unwrap(), Some(ROOT));
        assert_eq!(more.told.load(Relaxed), told);
        assert_eq!(owners.find(&more, 1_000_005).unwrap(), Some(5));
        // More folders than are gone through.
        assert_eq!(
            owners.find(&more, 77).unwrap_err().kind(),
            Kind::Unsupported
        );
        // It does not matter to whoever asks for what was found.
        assert_eq!(few().find(&failing(Kind::Busy), 2).unwrap(), Some(ROOT));
    }

    /// Of a volume with more folders than a few.
    fn failing(kind: Kind) -> Endless {
        Endless {
            failure: Mutex::new(Some(kind)),
            ..Endless::new(3, 2)
        }
    }

    /// Goes through five folders.
    fn few() -> Owners {
        Owners {
            most: Limits { folders: 5, ..MOST },
            ..Owners::new()
        }
    }

    #[test]
    fn a_folder_that_the_disk_cannot_read_hides_no_other() {
        let (bad, owners) = (failing(Kind::Io), few());
        assert_eq!(owners.find(&bad, 1_000_004).unwrap(), Some(4));
        let told = bad.told.load(Relaxed);
        assert_eq!(owners.find(&bad, 1_000_010).unwrap(), Some(10));
        // What it has is not known, and that is said; it is not tried again.
        for _ in 0..2 {
            let error = owners.find(&bad, 1_000_005).unwrap_err();
            assert_eq!(error.kind(), Kind::Io);
            assert!(error.to_string().contains("cluster 1000005"), "{error}");
        }
        assert_eq!(bad.told.load(Relaxed), told);
    }
}
