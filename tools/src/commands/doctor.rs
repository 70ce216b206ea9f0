//! `cairn doctor STORE`

use crate::address::open_store;
use crate::amount::duration;
use crate::commands::mount::shown;
use crate::commands::stats::proven;
use crate::exit::{Answer, Exit, Failure, warn};
use crate::output::{self, line};
use cairn::units::human_bytes;
use cairn::{
    Checkup, Condition, Contents, Finding, RecordCopy, SessionFacts, SessionId, SessionKind,
    Severity, Store,
};
use cairn_fuse::stale::dead_mounts;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Explain what state a store is in, and what to run.
///
/// Changes nothing, unless it is told to remove a session, and reads no packs: `cairn verify` does. Ends with 0 if all is well, 3 if something should be
/// done, 4 if something is damaged.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Remove the session of a process of another host that has ended
    ///
    /// Each process that works with a store has a session, so that no prune deletes what it stands on. Whether a process of this host lives, the lock on its
    /// session tells; locks may not reach here from other hosts, so a session of another one stays until it ends, or until somebody says that it is over.
    ///
    /// Look on that host first: the process must not run any more, nor a mount of the store be there that it made. If it lives all the same, the next prune
    /// may delete what it reads, so that its mount or restore fails, and what its backup relies on, so that the recovery point cannot be read.
    ///
    /// A session whose lock is held lives for sure, and is not removed.
    #[arg(long, value_name = "ID", value_parser = session, conflicts_with = "json")]
    remove_session: Option<SessionId>,
}

fn session(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    if let Some(id) = args.remove_session {
        return remove(args, id);
    }
    let mut checkup = Store::examine(&args.store)?;
    checkup.findings.extend(stale_mounts(args));
    if args.json {
        output::json(&as_json(&checkup))?;
    } else {
        tell(&checkup, &args.store.display().to_string())?;
    }
    let worst = checkup.findings.iter().map(|finding| finding.severity);
    Ok(match worst.min() {
        None => Exit::Done,
        Some(Severity::Attention) => Exit::Warnings,
        Some(Severity::Damage) => Exit::Damage,
    })
}

/// Mounts of the store on this machine that lost their program.
fn stale_mounts(args: &Args) -> impl Iterator<Item = Finding> {
    let dead = dead_mounts(Some(&shown(&args.store)));
    dead.into_iter().map(|mount| {
        let path = mount.path.display();
        Finding {
            severity: Severity::Attention,
            topic: "stale mount",
            what: format!("the program of the mount at {path} was killed: nothing there can be read"),
            advice: format!(
                "clear it away with `fusermount3 -u {path}`, or as root `umount {path}`, after what others mounted in it; mounting there again does so too"
            ),
        }
    })
}

fn remove(args: &Args, id: SessionId) -> Answer {
    let removed = open_store(&args.store)?.remove_session(id)?;
    for warning in &removed.warnings {
        warn(warning);
    }
    let whose = removed.record.map(|record| {
        format!(
            ": {} by process {} on {} since {}",
            kind(record.kind),
            record.process,
            record.host,
            record.began()
        )
    });
    line(&format!(
        "removed session {id}{}",
        whose.unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}

fn tell(checkup: &Checkup, store: &str) -> Result<(), Failure> {
    if let Some(identity) = &checkup.identity {
        line(&format!(
            "store {}, made {}, cut {}",
            hex(&identity.store),
            identity.created,
            identity.cut
        ))?;
        line(&format!(
            "feature flags: read {:#x}, write {:#x}",
            identity.read_flags, identity.write_flags
        ))?;
    }
    line(&format!("header: {}", copies(&checkup.headers)))?;
    line(&format!("state: {}", copies(&checkup.slots)))?;
    if let Some(contents) = &checkup.contents {
        tell_contents(contents)?;
    }
    if let Some(space) = checkup.space {
        let (free, total) = (human_bytes(space.free), human_bytes(space.total));
        line(&format!("{free} of {total} are free"))?;
    }
    for session in &checkup.sessions {
        line(&as_line(session))?;
    }
    if checkup.findings.is_empty() {
        return line("all is well");
    }
    for finding in &checkup.findings {
        let severity = match finding.severity {
            Severity::Damage => "damage",
            Severity::Attention => "attention",
        };
        line(&format!("{severity}: {}", finding.what))?;
        line(&format!("    what to do: {}", advice(finding, store)))?;
    }
    Ok(())
}

fn tell_contents(contents: &Contents) -> Result<(), Failure> {
    line(&format!(
        "generation {}: {} points, {} packs with {}, {} index segments",
        contents.generation,
        contents.points,
        contents.packs,
        human_bytes(contents.pack_bytes),
        contents.segments
    ))?;
    let age = contents.unverified_seconds.map(duration);
    let age = age.map(|age| format!("; all of it was read back within {age}, as far as is known"));
    let overdue = contents.proofs.newest.is_none();
    let age = age.filter(|_| !overdue).unwrap_or_default();
    line(&format!("{}{age}", proven(&contents.proofs)))
}

/// `3 whole`, or each with what is wrong.
fn copies(copies: &[RecordCopy]) -> String {
    let said = copies.iter().map(|copy| {
        let version = copy.version.map(|version| format!(", version {version}"));
        let generation = copy
            .generation
            .map(|number| format!(", generation {number}"));
        format!(
            "{} {}{}{}",
            copy.file,
            condition(copy.condition),
            version.unwrap_or_default(),
            generation.unwrap_or_default()
        )
    });
    said.collect::<Vec<_>>().join("; ")
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Whole => "whole",
        Condition::Missing => "missing",
        Condition::Damaged => "damaged",
        Condition::Unsupported => "unsupported",
        Condition::Unreadable => "unreadable",
    }
}

fn as_line(session: &SessionFacts) -> String {
    let state = match session.alive {
        Some(true) => "alive",
        Some(false) => "dead",
        None => "alive or dead",
    };
    let whose = session.owner.as_ref().map(|owner| {
        format!(
            ": {} by process {} on {} since {}, {} points",
            kind(owner.kind),
            owner.process,
            owner.host,
            owner.began,
            owner.points.len()
        )
    });
    format!(
        "session {} ({state}){}",
        session.id,
        whose.unwrap_or_default()
    )
}

fn kind(kind: SessionKind) -> &'static str {
    match kind {
        SessionKind::Write => "writing",
        SessionKind::Read => "reading",
    }
}

fn advice(finding: &Finding, store: &str) -> String {
    finding.advice.replace("STORE", store)
}

fn as_json(checkup: &Checkup) -> Value {
    let findings = checkup.findings.iter().map(|finding| {
        json!({
            "severity": match finding.severity {
                Severity::Damage => "damage",
                Severity::Attention => "attention",
            },
            "topic": finding.topic,
            "what": finding.what,
            "advice": finding.advice,
        })
    });
    let identity = checkup.identity.as_ref().map(|identity| {
        json!({
            "store": hex(&identity.store),
            "created": identity.created.rfc3339(),
            "read_flags": identity.read_flags,
            "write_flags": identity.write_flags,
            "cut": identity.cut,
        })
    });
    json!({
        "identity": identity,
        "header_copies": checkup.headers.iter().map(copy_json).collect::<Vec<_>>(),
        "state_slots": checkup.slots.iter().map(copy_json).collect::<Vec<_>>(),
        "contents": checkup.contents.as_ref().map(contents_json),
        "sessions": checkup.sessions.iter().map(session_json).collect::<Vec<_>>(),
        "temporary": checkup.temporary,
        "free_bytes": checkup.space.map(|space| space.free),
        "total_bytes": checkup.space.map(|space| space.total),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn copy_json(copy: &RecordCopy) -> Value {
    json!({
        "file": copy.file,
        "condition": condition(copy.condition),
        "version": copy.version,
        "generation": copy.generation,
        "why": copy.why,
    })
}

fn contents_json(contents: &Contents) -> Value {
    let orphans = contents.orphan_packs.iter();
    json!({
        "generation": contents.generation,
        "points": contents.points,
        "segments": contents.segments,
        "packs": contents.packs,
        "pack_bytes": contents.pack_bytes,
        "missing_packs": names(&contents.missing),
        "orphan_packs": orphans.clone().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
        "orphan_bytes": orphans.map(|(_, length)| length).sum::<u64>(),
        "orphan_segments": names(&contents.orphan_segments),
        "condemned_packs": names(&contents.condemned),
        "replaced_packs": names(&contents.replaced),
        "known_damage": contents.known_damage,
        "unproven_packs": contents.proofs.unproven_packs,
        "unproven_bytes": contents.proofs.unproven_bytes,
        "oldest_proof": contents.proofs.oldest.map(|time| time.rfc3339()),
        "newest_proof": contents.proofs.newest.map(|time| time.rfc3339()),
        "unverified_seconds": contents.unverified_seconds,
    })
}

fn session_json(session: &SessionFacts) -> Value {
    let owner = session.owner.as_ref();
    json!({
        "session": session.id.to_string(),
        "alive": session.alive,
        "kind": owner.map(|owner| kind(owner.kind)),
        "process": owner.map(|owner| owner.process),
        "host": owner.map(|owner| &owner.host),
        "generation": owner.map(|owner| owner.generation),
        "points": owner.map(|owner| owner.points.len()),
        "began": owner.map(|owner| owner.began.rfc3339()),
        "command": owner.map(|owner| &owner.command),
        "earlier_boot": owner.map(|owner| owner.earlier_boot),
        "elsewhere": session.elsewhere,
        "waiting_packs": session.waiting,
        "forgotten_points": session.forgotten,
        "files": session.files,
        "bytes": session.bytes,
        "publishing": session.publishing,
    })
}

fn names(ids: &[impl ToString]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
