//! Packs of which little is needed, written anew a round at a time.

use crate::prune::Pruning;
use crate::prune::examine::{Examined, Verdict};
use crate::prune::order::Order;
use crate::prune::plan::Usage;
use crate::prune::rewrite;
use cairn_base::{PackId, Result, Stage};
use std::collections::HashSet;

/// Chunks of packs that are looked into and written anew in one round: bounds memory, at about 150 bytes each.
const ROUND: u64 = 400_000;
/// What must be free besides what a round writes, in bytes.
const SPARE: u64 = 128 << 20;

impl Pruning<'_> {
    /// Copies what is needed of packs of which little is, a round at a time.
    pub(super) fn rewrite_all(&mut self) -> Result<()> {
        let rewrite = std::mem::take(&mut self.found.plan.rewrite);
        let total = rewrite.iter().map(|usage| usage.live_bytes);
        self.monitor
            .begin(Stage::Rewrite, total.fold(0, u64::saturating_add));
        let mut copied = HashSet::new();
        let mut rest = &rewrite[..];
        while !rest.is_empty() {
            self.look_up_from_work()?;
            let taken = round(rest, self.room()?);
            let (now, later) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            if self.time.is_over() {
                self.end_early();
            } else if let Some(why) = self.lack_of_space(now)? {
                self.report.ended_early.get_or_insert(why);
            }
            if self.report.ended_early.is_some() {
                break;
            }
            copied.extend(self.rewrite_round(now)?);
            self.finish_condemned()?;
            rest = later;
        }
        self.monitor.finish(Stage::Rewrite);
        let left = rewrite.iter().filter(|u| !copied.contains(&u.row.id));
        let left = left.map(Usage::waste).fold(0, u64::saturating_add);
        self.report.unused_bytes = self.report.unused_bytes.saturating_add(left);
        Ok(())
    }

    /// What may be written, in bytes.
    fn room(&self) -> Result<u64> {
        let space = self.store.folder().space()?;
        Ok(space.map_or(u64::MAX, |space| space.free.saturating_sub(SPARE)))
    }

    /// Why there is no room for this round, in a sentence.
    fn lack_of_space(&self, round: &[Usage]) -> Result<Option<String>> {
        let needed = round.iter().map(Usage::live_length);
        let needed = needed.fold(SPARE, u64::saturating_add);
        match self.store.folder().space()? {
            Some(space) if space.free < needed => Ok(Some(format!(
                "writing packs anew needs {needed} bytes, and {} are free",
                space.free
            ))),
            _ => Ok(None),
        }
    }

    /// Answers the packs of which all was copied. When the time is over what was copied by then is public, and the next prune finds the others emptier.
    fn rewrite_round(&mut self, round: &[Usage]) -> Result<Vec<PackId>> {
        let mut packs: Vec<Examined> = Vec::new();
        for usage in round {
            self.look_up_from_work()?;
            if !self.has_time(0) {
                break;
            }
            match self.examine(usage, 0) {
                Verdict::May(examined) => packs.push(*examined),
                Verdict::Stays(why) => self.report.left.push(why),
                Verdict::Unfinished => self.end_early(),
            }
        }
        let time = self.time;
        let is_over = || time.is_over();
        let mut order = Order::of(rewrite::needed_chunks(&packs));
        order.walk(self.store, self.monitor, &is_over)?;
        let (session, monitor) = (&self.session, self.monitor);
        let done = rewrite::rewrite(self.store, session, &packs, &order, monitor, &is_over)?;
        if done.ended_early {
            self.end_early();
        }
        self.report.left.extend(done.left);
        self.report.written_bytes = self.report.written_bytes.saturating_add(done.written);
        let copied = done.copied;
        let bytes = packs.iter().map(|pack| pack.needed_bytes());
        self.copied = bytes.fold(self.copied, u64::saturating_add);
        self.report.rewritten_packs = self.report.rewritten_packs.saturating_add(copied.len());
        let bytes = self.found.bytes(&copied);
        self.report.rewritten_bytes = self.report.rewritten_bytes.saturating_add(bytes);
        self.condemn(&copied)?;
        Ok(copied)
    }
}

/// How many of these packs make a round for which there is this room.
fn round(rest: &[Usage], room: u64) -> usize {
    let (mut chunks, mut bytes) = (0u64, 0u64);
    let fits = |usage: &&Usage| {
        chunks = chunks.saturating_add(usage.chunks);
        bytes = bytes.saturating_add(usage.live_length());
        chunks <= ROUND && bytes <= room
    };
    rest.iter().take_while(fits).count().max(1)
}
