//! Why a volume stays locked: which keys were tried, that they do not fit, and which would.

use super::id::KeyId;
use super::keys::Keys;
use super::protector::{Protection, Protector};
use cairn_base::{Error, Kind};

/// Ids that are named one by one.
const NAMED: usize = 8;

/// The error of a volume with these protectors, of which no key of `keys` opened one. Keys are told by their kind, and never shown. It has advice if there is a key that would open the volume.
pub(super) fn refusal(protectors: &[Protector], keys: &Keys) -> Error {
    let volume = "the volume is encrypted by BitLocker";
    let what = if keys.is_empty() {
        format!("{volume}, and no key was given")
    } else {
        format!("{volume}: {}", tried(protectors, keys).join("; "))
    };
    match advice(protectors) {
        Ok(advice) => Error::new(Kind::Denied, what).advise(advice),
        Err(why) => Error::new(Kind::Denied, format!("{what}; {why}")),
    }
}

/// The ids of the protectors of a kind, as text.
fn ids(protectors: &[Protector], protection: Protection) -> Vec<String> {
    let of_kind = protectors
        .iter()
        .filter(|protector| protector.protection == protection);
    of_kind.map(|protector| protector.id.to_string()).collect()
}

/// `A`, or `A, B and 5 more`.
fn listed(mut ids: Vec<String>) -> String {
    let more = ids.len().saturating_sub(NAMED);
    ids.truncate(NAMED);
    let named = ids.join(", ");
    match more {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What became of each kind of keys that were given.
fn tried(protectors: &[Protector], keys: &Keys) -> Vec<String> {
    let (recovery, passwords, startup) = keys.kinds();
    let mut said = Vec::new();
    for (given, protection, called) in [
        (recovery, Protection::RecoveryPassword, "recovery key"),
        (passwords, Protection::Password, "password"),
    ] {
        let wanted = ids(protectors, protection);
        let (those, fits, was) = match given {
            0 => continue,
            1 => (
                format!("the {called} that was given"),
                "does not fit",
                "was not",
            ),
            many => (
                format!("none of the {many} {called}s that were given"),
                "fits",
                "was",
            ),
        };
        said.push(match wanted.is_empty() {
            true => format!("{those} {was} tried, because the volume has no {called}"),
            false => format!(
                "{those} {fits} (tried on the protector with the ID {})",
                listed(wanted)
            ),
        });
    }
    said.extend(startup_keys(protectors, &startup));
    said
}

/// What became of startup keys, by whose they are.
fn startup_keys(protectors: &[Protector], given: &[KeyId]) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<String>)> = [
        "has the volume's id and does not open it",
        "belongs to a protector of the volume that also needs the TPM",
        "belongs to a protector of the volume that no startup key opens",
        "is of another volume",
    ]
    .map(|reason| (reason, Vec::new()))
    .into();
    for id in given {
        let of = |protection: Protection| {
            let mut all = protectors.iter();
            all.any(|one| one.id == *id && one.protection == protection)
        };
        let reason = if of(Protection::StartupKey) {
            0
        } else if of(Protection::TpmStartupKey) || of(Protection::TpmPinStartupKey) {
            1
        } else if protectors.iter().any(|one| one.id == *id) {
            2
        } else {
            3
        };
        if let Some((_, ids)) = by_reason.get_mut(reason) {
            ids.push(id.to_string());
        }
    }
    let told = by_reason.into_iter().filter(|(_, ids)| !ids.is_empty());
    let told = told.map(|(why, ids)| format!("the startup key with the id {} {why}", listed(ids)));
    told.collect()
}

/// What opens the volume, each by its id as Windows shows it; or that nothing does which can be given.
fn advice(protectors: &[Protector]) -> Result<String, String> {
    let mut wanted = Vec::new();
    let mut others = Vec::new();
    let mut has_recovery = false;
    for protector in protectors {
        let id = protector.id;
        match protector.protection {
            Protection::RecoveryPassword => {
                has_recovery = true;
                wanted.push(format!(
                    "the recovery key with the ID {id} (--recovery-key)"
                ));
            }
            Protection::Password => {
                wanted.push(format!("its password, protector {id} (--password)"));
            }
            Protection::StartupKey => {
                wanted.push(format!("the file {id}.BEK (--startup-key)"));
            }
            other => others.push(format!("{other} {id}")),
        }
    }
    let others = others.join(", ");
    if wanted.is_empty() {
        let others = if others.is_empty() {
            "nothing"
        } else {
            &others
        };
        return Err(format!(
            "its key is protected only by what cannot be used here: {others}"
        ));
    }
    let mut advice = format!("give {}", wanted.join(", or "));
    if has_recovery {
        advice
            .push_str("; Windows, Active Directory and Entra ID keep a recovery key under its ID");
    }
    if !others.is_empty() {
        advice.push_str("; what else protects it cannot be used here: ");
        advice.push_str(&others);
    }
    Ok(advice)
}
