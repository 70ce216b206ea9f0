//! What a verification does: how closely it looks, and at which packs.

use cairn_base::Time;
use std::num::{NonZeroU32, NonZeroU64};

/// How closely a verification looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Structure only: every chunk that a point names is indexed, and its pack is there. No pack is read.
    Quick,
    /// Besides, the stored bytes of packs are compared with their tags, and the whole index is read. Only what does not match is decoded.
    #[default]
    Tags,
    /// Besides, every chunk is decoded and compared with its id.
    Deep,
}

/// Of the packs that are due, which are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pick {
    /// All.
    #[default]
    All,
    /// Some by chance, with about this share of the bytes of all.
    Sample {
        /// In millionths, 1 to 1,000,000.
        share: u32,
        /// Decides which; drawn, and told in the report, if there is none. The same seed picks the same packs.
        seed: Option<u64>,
    },
    /// Those that wait for longest, with at least the n-th part of the bytes of all live packs, and besides, of those that came since the last
    /// slice, as much at most: n runs read every pack that was there before them.
    Slice(NonZeroU32),
}

/// What a verification does. The default reads every pack and compares its bytes with their tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// How closely it looks.
    pub depth: Depth,
    /// Only packs that were not proven good since then are due; for [`Depth::Deep`] not by decoding. Not looked at for [`Depth::Quick`].
    pub since: Option<Time>,
    /// Which of the packs that are due are read. Not looked at for [`Depth::Quick`].
    pub pick: Pick,
    /// Bytes of packs and index that are read in a second at most.
    pub limit: Option<NonZeroU64>,
}

impl VerifyOptions {
    /// All packs, at this depth.
    pub fn at_depth(depth: Depth) -> VerifyOptions {
        VerifyOptions {
            depth,
            ..VerifyOptions::default()
        }
    }

    /// Whether every pack is read.
    pub fn is_full(&self) -> bool {
        self.depth != Depth::Quick && self.since.is_none() && self.pick == Pick::All
    }
}
