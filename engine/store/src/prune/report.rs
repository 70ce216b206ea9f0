//! How to prune, and what came of it.

use crate::prune::stands::Writer;
use std::time::Duration;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Only find out what would be done.
    pub dry_run: bool,
    /// How much that nothing needs may stay, in thousandths of what is needed: packs are written anew until it is less.
    pub max_unused: u64,
    /// Bytes of needed data that are copied at most.
    pub max_rewrite: u64,
    /// Write together what the newest points have scattered, when that was done which frees space.
    pub gather: bool,
    /// After this time nothing new is begun, and what was copied by then is published. Marking is not cut short.
    pub max_time: Option<Duration>,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            dry_run: false,
            max_unused: 50,
            max_rewrite: u64::MAX,
            gather: false,
            max_time: None,
        }
    }
}

/// What a prune found and did. Bytes are those of files.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// Points whose maps were walked.
    pub points: usize,
    /// Chunks of data that are needed.
    pub chunks: u64,
    /// Parts of maps that were read.
    pub nodes: u64,
    /// Needed chunks that are not in the store: `cairn verify` names what they belong to.
    pub lost: u64,
    /// Packs before.
    pub packs: usize,
    /// Of their bytes, needed.
    pub live_bytes: u64,
    /// Packs that nothing needs, as found.
    pub dead_packs: usize,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Packs that are written anew, or were.
    pub rewritten_packs: usize,
    /// Their bytes.
    pub rewritten_bytes: u64,
    /// Plain bytes of the newest points that lay scattered and were written together; a rehearsal does not look for them.
    pub gathered_bytes: u64,
    /// Bytes of the packs that were written for these.
    pub gathered_written_bytes: u64,
    /// Bytes of packs that were written instead of others.
    pub written_bytes: u64,
    /// What nothing needs and stays in packs that are mostly needed.
    pub unused_bytes: u64,
    /// Packs that were deleted; of a dry run, those that the next prune could delete at once.
    pub deleted_packs: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs that wait until writers have ended.
    pub waiting_packs: usize,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// The writers that are waited for.
    pub writers: Vec<Writer>,
    /// Packs that were condemned and are needed again.
    pub revived_packs: usize,
    /// Why packs stay, in sentences.
    pub left: Vec<String>,
    /// Why it ended early, if it did.
    pub ended_early: Option<String>,
}
