//! What is not as it should be, in sentences, and what to do about it.

use crate::doctor::Checkup;
use crate::doctor::sessions::SessionFacts;
use crate::session::SessionKind;
use cairn_base::Error;
use cairn_base::units::{GIB, human_bytes};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is lost, or cannot be read.
    Damage,
    /// Nothing is lost, but something should be done, or will be done by the next backup.
    Attention,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A word that stays the same, for scripts.
    pub topic: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// A store of which some pack was not read back for longer than this is overdue: 30 days, in seconds.
pub const OVERDUE: i64 = 30 * 86_400;

/// With less than this a backup may well find the disk full, in bytes.
const LITTLE_SPACE: u64 = GIB;

impl Finding {
    fn damage(topic: &'static str, what: String, advice: &str) -> Finding {
        Finding {
            severity: Severity::Damage,
            topic,
            what,
            advice: advice.to_string(),
        }
    }

    fn attention(topic: &'static str, what: String, advice: &str) -> Finding {
        Finding {
            severity: Severity::Attention,
            topic,
            what,
            advice: advice.to_string(),
        }
    }

    pub(super) fn unreadable(error: &Error) -> Finding {
        let what = error.to_string();
        let advice = "look at the disk and its messages, then run this again; what cannot be read must come from a copy of the store";
        Finding::damage("unreadable", what, advice)
    }

    pub(super) fn damaged_part(what: &(impl ToString + ?Sized)) -> Finding {
        let advice = "run `cairn verify STORE`: it names what is concerned; the next backup mends what it can";
        Finding::damage("damaged-file", what.to_string(), advice)
    }

    pub(super) fn read_only(flags: u64) -> Finding {
        let what = format!("this program can only read the store (feature flags {flags:#x})");
        Finding::attention(
            "features",
            what,
            "use a newer version of cairn to write to it",
        )
    }

    pub(super) fn no_publish_lock(error: &Error) -> Finding {
        let what = format!("whether sessions live could not be told: {error}");
        let advice = "if a process of cairn was stopped while it published, let it go on or end it; on read-only media this means nothing";
        Finding::attention("locks", what, advice)
    }

    pub(super) fn lost_proofs(what: &str) -> Finding {
        let advice = "run `cairn verify STORE`: it writes that record anew";
        Finding::attention("proofs", what.to_string(), advice)
    }
}

/// Draws the findings from what was seen.
pub(super) fn judge(checkup: &mut Checkup) {
    let mut found = std::mem::take(&mut checkup.findings);
    let dying = checkup.sessions.iter().any(is_dead_publisher);
    judge_contents(checkup, dying, &mut found);
    found.extend(checkup.sessions.iter().filter_map(judge_session));
    if !checkup.temporary.is_empty() {
        let what = format!(
            "{} files were being written when their writer ended: {}",
            checkup.temporary.len(),
            checkup.temporary.join(", ")
        );
        let advice = "nothing: they are written over when the same is written next";
        found.push(Finding::attention("temporary", what, advice));
    }
    if let Some(space) = checkup.space
        && space.free < LITTLE_SPACE
    {
        let what = format!("only {} are free", human_bytes(space.free));
        let advice = "make room on the disk of the store: a backup that finds it full fails, and loses nothing";
        found.push(Finding::attention("space", what, advice));
    }
    found.sort_by_key(|finding| finding.severity);
    checkup.findings = found;
}

fn judge_contents(checkup: &Checkup, dying: bool, found: &mut Vec<Finding>) {
    let Some(contents) = &checkup.contents else {
        return;
    };
    if !contents.missing.is_empty() {
        let what = format!(
            "{} of {} packs are missing or cut short",
            contents.missing.len(),
            contents.packs
        );
        let advice = "put them back from a copy of the store if there is one; `cairn verify STORE --quick` names the points concerned; what a backup sees again it stores anew";
        found.push(Finding::damage("missing-packs", what, advice));
    }
    if contents.known_damage > 0 {
        let what = format!(
            "{} places of chunks are known to be damaged",
            contents.known_damage
        );
        let advice = "run `cairn verify STORE` to learn which files are concerned, and back the machines up: what is seen again is stored anew";
        found.push(Finding::damage("known-damage", what, advice));
    }
    let swept = "nothing: the next backup clears them away";
    let orphans = contents.orphan_packs.len() + contents.orphan_segments.len();
    if orphans > 0 {
        let bytes = contents.orphan_packs.iter().map(|(_, length)| length).sum();
        let what = format!(
            "{orphans} files with {} are listed by nothing",
            human_bytes(bytes)
        );
        let advice = if dying {
            swept
        } else {
            "nothing: they take space and do no harm"
        };
        found.push(Finding::attention("orphans", what, advice));
    }
    if !contents.condemned.is_empty() {
        let what = format!(
            "{} packs that nothing needs wait until backups that began before have ended",
            contents.condemned.len()
        );
        let advice = "run `cairn prune STORE` when they have ended";
        found.push(Finding::attention("condemned-packs", what, advice));
    }
    if !contents.replaced.is_empty() {
        let what = format!(
            "{} packs that nothing needs any more are still there",
            contents.replaced.len()
        );
        found.push(Finding::attention("leftover-packs", what, swept));
    }
    if let Some(seconds) = contents.unverified_seconds.filter(|age| *age > OVERDUE) {
        let what = format!(
            "some of the store was not read back for {} days or more",
            seconds / 86_400
        );
        let advice = "run `cairn verify STORE`, or `cairn verify STORE --slice 30` every night";
        found.push(Finding::attention("unverified", what, advice));
    }
}

fn is_dead_publisher(session: &SessionFacts) -> bool {
    session.alive == Some(false) && session.publishing
}

/// Whose session it is, in words.
fn whose(session: &SessionFacts) -> String {
    match &session.owner {
        Some(owner) => format!(
            "{} by process {} on {} since {}{} (`{}`)",
            match owner.kind {
                SessionKind::Write => "writing",
                SessionKind::Read => "reading",
            },
            owner.process,
            owner.host,
            owner.began,
            if owner.earlier_boot {
                ", before that was started anew"
            } else {
                ""
            },
            owner.command
        ),
        None => "whose record cannot be read".to_string(),
    }
}

fn judge_session(session: &SessionFacts) -> Option<Finding> {
    match session.alive {
        Some(true) => None,
        _ if session.elsewhere => Some(judge_elsewhere(session)),
        Some(false) => Some(judge_dead(session)),
        None => None,
    }
}

fn judge_dead(session: &SessionFacts) -> Finding {
    let mut what = format!("the session {}, {}, is dead", session.id, whose(session));
    if session.files > 0 {
        what.push_str(&format!(
            " and left {} files with {}",
            session.files,
            human_bytes(session.bytes)
        ));
    }
    let advice = "nothing: the next backup clears away what it left";
    Finding::attention("dead-session", what, advice)
}

/// One of another host of which nobody here knows whether it lives.
fn judge_elsewhere(session: &SessionFacts) -> Finding {
    let held = match (session.waiting, session.forgotten) {
        _ if session.owner.is_none() => "no prune deletes anything".to_string(),
        (0, 0) => "it holds nothing back now".to_string(),
        (waiting, 0) => format!("{waiting} packs that nothing needs wait for it"),
        (0, forgotten) => format!("what {forgotten} forgotten points need stays"),
        (waiting, forgotten) => format!(
            "{waiting} packs that nothing needs wait for it, and what {forgotten} forgotten points need stays"
        ),
    };
    let what = format!(
        "the session {}, {}, is not of this host, so whether it lives cannot be told from here; as long as it is there, {held}",
        session.id,
        whose(session)
    );
    let advice = format!(
        "nothing, if its process runs. If you are sure that it has ended: `cairn doctor STORE --remove-session {}`",
        session.id
    );
    Finding::attention("foreign-session", what, &advice)
}
