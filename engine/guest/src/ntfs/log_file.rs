//! `$LogFile`: whether the guest closed the volume, by the log's two restart pages.

use super::fixup;
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};

/// Bit of the restart area: the volume was closed, nothing is to be replayed.
const VOLUME_IS_CLEAN: u16 = 2;
const NO_CLIENT: u16 = 0xFFFF;
/// Pages of a log file are 4 KiB everywhere Windows runs; the format allows up to 64 KiB.
const PAGE: u64 = 4096;
const MAX_PAGE: u64 = 64 << 10;

/// What is known of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// Empty or closed: there is nothing to replay.
    Clean,
    /// There may be something to replay.
    Open,
}

/// Looks at the restart pages of `log`.
///
/// # Errors
/// Whatever the disk below reports; a log that makes no sense is [`LogState::Open`].
pub fn state(log: &dyn ReadAt) -> Result<LogState> {
    let Some(first) = page(log, 0)? else {
        return Ok(LogState::Open);
    };
    if first.iter().all(|&byte| byte == 0xFF) {
        return Ok(LogState::Clean);
    }
    let size = View::new(&first, "log page", 0)
        .u32_le(16)
        .map_or(PAGE, u64::from);
    let second_at = if size.is_power_of_two() && (512..=MAX_PAGE).contains(&size) {
        size
    } else {
        PAGE
    };
    let mut newest: Option<(u64, LogState)> = None;
    for at in [0, second_at] {
        let Some(found) = page(log, at)?.and_then(|bytes| restart(bytes, at).ok()) else {
            continue;
        };
        if newest.is_none_or(|(lsn, _)| found.0 > lsn) {
            newest = Some(found);
        }
    }
    Ok(newest.map_or(LogState::Open, |(_, state)| state))
}

fn page(log: &dyn ReadAt, offset: u64) -> Result<Option<Vec<u8>>> {
    if offset.saturating_add(PAGE) > log.size() {
        return Ok(None);
    }
    read_vec(log, offset, usize::try_from(PAGE).unwrap_or(0)).map(Some)
}

/// The number of the last log record and the state that a restart page tells.
fn restart(mut bytes: Vec<u8>, offset: u64) -> Result<(u64, LogState)> {
    const WHAT: &str = "restart page of the log";
    let view = View::new(&bytes, WHAT, offset);
    if !matches!(view.slice(0, 4)?, b"RSTR" | b"CHKD") {
        return Err(view.damaged(0, "the name `RSTR` is missing"));
    }
    if view.u32_le(16)? == 4096 {
        fixup::apply(&mut bytes, WHAT, offset)?;
    }
    let view = View::new(&bytes, WHAT, offset);
    let area = view.tail(usize::from(view.u16_le(24)?))?;
    let clean = area.u16_le(14)? & VOLUME_IS_CLEAN != 0 || area.u16_le(12)? == NO_CLIENT;
    let state = if clean {
        LogState::Clean
    } else {
        LogState::Open
    };
    Ok((area.u64_le(0)?, state))
}

#[cfg(test)]
mod tests;
