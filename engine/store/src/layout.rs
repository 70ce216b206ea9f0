//! Where everything lies in a store's folder.

use cairn_base::{PackId, PointId, SegmentId, SessionId};

/// The three copies of the header.
pub const HEADERS: [&str; 3] = ["header.0", "header.1", "header.2"];
/// The two slots of the state.
pub const STATES: [&str; 2] = ["state.0", "state.1"];
/// Sealed packs, in 256 folders by the first byte of their id.
pub const PACKS: &str = "packs";
/// Published index segments.
pub const INDEX: &str = "index";
/// Points, a folder for each machine.
pub const POINTS: &str = "points";
/// A file for each live session and a folder for what it has not published.
pub const SESSIONS: &str = "sessions";
/// Lock files.
pub const LOCKS: &str = "locks";
/// Held exclusively for the moment of a publication, or of a consistent listing.
pub const PUBLISH_LOCK: &str = "locks/publish";
/// Held shared by every writer; its note names the host.
pub const HOST_LOCK: &str = "locks/host";

/// `packs/ab`.
pub fn pack_folder(id: PackId) -> String {
    let [first, ..] = id.0;
    format!("{PACKS}/{first:02x}")
}

/// `packs/ab/<id>`.
pub fn pack(id: PackId) -> String {
    format!("{}/{id}", pack_folder(id))
}

/// `index/<id>`.
pub fn segment(id: SegmentId) -> String {
    format!("{INDEX}/{id}")
}

/// `sessions/<id>`: the locked file.
pub fn session(id: SessionId) -> String {
    format!("{SESSIONS}/{id}")
}

/// `sessions/<id>.d`: what the session has not published yet.
pub fn session_folder(id: SessionId) -> String {
    format!("{SESSIONS}/{id}.d")
}

/// A machine's folder: the first 16 bytes of BLAKE3 of its name in lower case, so that names are unique without
/// regard to case and any name makes a folder.
pub fn machine_folder(machine: &str) -> String {
    let hash = blake3::hash(machine.to_lowercase().as_bytes()).to_hex();
    format!("{POINTS}/{}", hash.get(..32).unwrap_or_default())
}

/// `<sequence>-<id>` in the machine's folder.
pub fn point_name(sequence: u64, id: PointId) -> String {
    format!("{sequence:010}-{id}")
}

/// The sequence number and id in a point's file name; `None` for other files.
pub fn parse_point_name(name: &str) -> Option<(u64, PointId)> {
    let (sequence, id) = name.split_once('-')?;
    let sequence = sequence.parse().ok()?;
    let id = PointId::parse(id).ok()?;
    // Exactly the name we would write: `+1` and `1` are not.
    (point_name(sequence, id) == name).then_some((sequence, id))
}

/// The lock of a machine's backups, in its folder.
pub fn machine_lock(machine: &str) -> String {
    format!("{}/lock", machine_folder(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_names_there_and_back() {
        let id = PointId([0xab; 32]);
        assert_eq!(parse_point_name(&point_name(7, id)), Some((7, id)));
        assert_eq!(parse_point_name("lock"), None);
        assert_eq!(parse_point_name(&format!("7-{id}")), None);
        assert_eq!(machine_folder("Web01"), machine_folder("wEB01"));
    }
}
