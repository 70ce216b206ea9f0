//! The time of a new point.

use crate::layout::PointFile;
use cairn_base::{Error, Kind, Result, Time};
use std::collections::HashSet;

/// When a new point is said to have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of the point.
    pub time: Time,
    /// Whether it is an import.
    pub import: bool,
    /// Whether the clock is behind the latest point.
    pub clock_went_back: bool,
}

/// Decides the time of a new point of a machine with these points, oldest first. A taken second moves to the next free one; a time that the user asks for must be free.
///
/// # Errors
/// [`Kind::Exists`] if the time asked for is taken.
pub fn choose_time(points: &[PointFile], asked: Option<Time>, now: Time) -> Result<Moment> {
    let taken: HashSet<i64> = points.iter().map(|point| point.seconds).collect();
    let mut made_here = points.iter().rev().filter(|point| !point.import);
    let latest = made_here.next().map(|point| point.seconds);
    let mut seconds = asked.unwrap_or(now).seconds;
    if asked.is_some() && taken.contains(&seconds) {
        return Err(Error::new(
            Kind::Exists,
            format!(
                "the machine has a point at {} already",
                Time::from_seconds(seconds)
            ),
        )
        .advise("choose another --time"));
    }
    let asked_behind = latest.is_some_and(|latest| seconds < latest);
    while taken.contains(&seconds) {
        seconds = seconds.saturating_add(1);
    }
    // Several backups in one second move to the next ones: that is no clock that went back.
    let behind = latest.is_some_and(|latest| seconds < latest);
    Ok(Moment {
        time: Time::from_seconds(seconds),
        import: asked.is_some() && asked_behind,
        clock_went_back: asked.is_none() && behind,
    })
}
