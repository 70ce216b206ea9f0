//! Where everything lies in a store's folder.

use cairn_base::{PackId, PointId, SegmentId, SessionId, Time};
use std::fmt;

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
/// What is known to be damaged; only there if something ever was.
pub const DAMAGE: &str = "damage";
/// The same while it is written.
pub const DAMAGE_SCRATCH: &str = "locks/damage.new";
/// When packs were last proven good; only there if something ever was verified.
pub const PROOFS: &str = "proofs";
/// The same while it is written.
pub const PROOFS_SCRATCH: &str = "locks/proofs.new";
/// A file that gives its place back when the disk is full.
pub const RESERVE: &str = "reserve";
/// What holds for all points of the store.
pub const POLICY: &str = "policy";
/// The same while it is written.
pub const POLICY_SCRATCH: &str = "locks/policy.new";
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

/// Stands for a host in the names of its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(pub [u8; 8]);

impl HostKey {
    /// The first 8 bytes of BLAKE3 of what tells the host from others.
    pub fn of(identity: &str) -> HostKey {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(identity.as_bytes()).as_bytes();
        HostKey([a, b, c, d, e, f, g, h])
    }
}

/// What the name of a session's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName {
    /// The session's id.
    pub id: SessionId,
    /// Whose it is; `None` in names that do not tell.
    pub host: Option<HostKey>,
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        match self.host {
            Some(HostKey(key)) => write!(f, "-{:016x}", u64::from_be_bytes(key)),
            None => Ok(()),
        }
    }
}

impl SessionName {
    /// What the name of a session's file or folder says; `None` for other names.
    pub fn parse(name: &str) -> Option<SessionName> {
        let name = name.strip_suffix(".d").unwrap_or(name);
        let (id, host) = match name.split_once('-') {
            Some((id, host)) => (id, Some(u64::from_str_radix(host, 16).ok()?)),
            None => (name, None),
        };
        let parsed = SessionName {
            id: SessionId::parse(id).ok()?,
            host: host.map(|host| HostKey(host.to_be_bytes())),
        };
        // Exactly the name we would write.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// `sessions/<id>-<host>`: the locked file.
    pub fn file(&self) -> String {
        format!("{SESSIONS}/{self}")
    }

    /// `sessions/<id>-<host>.d`: what the session has not published yet.
    pub fn folder(&self) -> String {
        format!("{SESSIONS}/{self}.d")
    }
}

/// A machine's folder: the first 16 bytes of BLAKE3 of its name in lower case, so that names are unique without
/// regard to case and any name makes a folder.
pub fn machine_folder(machine: &str) -> String {
    let hash = blake3::hash(machine.to_lowercase().as_bytes()).to_hex();
    format!("{POINTS}/{}", hash.get(..32).unwrap_or_default())
}

/// Where a machine's name stands, in its folder.
pub const MACHINE_NAME: &str = "name";
/// A point or a name while it is written, in the machine's folder.
pub const MACHINE_SCRATCH: &str = "new";
/// The lock of a machine's backups, in its folder.
pub const MACHINE_LOCK: &str = "lock";
/// Which of a machine's points were forgotten and which are pinned, in its folder.
pub const MACHINE_RETENTION: &str = "retention";
/// The same while it is written, in the machine's folder: by others than those who write `new`.
pub const MACHINE_RETENTION_SCRATCH: &str = "retention.new";

/// Whether a file in a machine's folder is one of those beside the points.
pub fn is_beside_points(name: &str) -> bool {
    let beside = [
        MACHINE_NAME,
        MACHINE_SCRATCH,
        MACHINE_LOCK,
        MACHINE_RETENTION,
        MACHINE_RETENTION_SCRATCH,
    ];
    beside.contains(&name)
}

/// What the name of a point's file says of it: enough to order, choose and list points without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PointFile {
    /// Orders the points of a machine.
    pub sequence: u64,
    /// Time of the point, seconds since 1970.
    pub seconds: i64,
    /// Whether it is an import.
    pub import: bool,
    /// The point's id.
    pub id: PointId,
}

impl PointFile {
    /// When the point was made.
    pub fn time(&self) -> Time {
        Time::from_seconds(self.seconds)
    }

    /// `<sequence>-<seconds>-<check>-<id>` in the machine's folder; the seconds of an import end in `i`.
    pub fn name(&self) -> String {
        let (sequence, seconds, id) = (self.sequence, self.seconds, self.id);
        let import = if self.import { "i" } else { "" };
        format!("{sequence:010}-{seconds}{import}-{:08x}-{id}", self.check())
    }

    /// What a point's file name says; `None` for other files, and for a name that was changed.
    pub fn parse(name: &str) -> Option<PointFile> {
        let (rest, id) = name.rsplit_once('-')?;
        let (rest, check) = rest.rsplit_once('-')?;
        // From the left: a time before 1970 begins with a dash of its own.
        let (sequence, time) = rest.split_once('-')?;
        let (seconds, import) = match time.strip_suffix('i') {
            Some(seconds) => (seconds, true),
            None => (time, false),
        };
        let file = PointFile {
            sequence: number(sequence, 10)?.parse().ok()?,
            seconds: seconds.parse().ok()?,
            import,
            id: PointId::parse(lower_hex(id)?).ok()?,
        };
        // Exactly the name we would write: `+1`, `01` and `-0` are not.
        number(seconds.strip_prefix('-').unwrap_or(seconds), 1).filter(|_| seconds != "-0")?;
        let told = lower_hex(check).filter(|check| check.len() == 8)?;
        (u32::from_str_radix(told, 16).ok()? == file.check()).then_some(file)
    }

    /// Ties the name's parts together, so that one that was changed is noticed without reading the point.
    fn check(&self) -> u32 {
        let (sequence, seconds) = (self.sequence.to_le_bytes(), self.seconds.to_le_bytes());
        let parts = [
            &self.id.0[..],
            &sequence,
            &seconds,
            &[u8::from(self.import)],
        ];
        let [a, b, c, d, ..] = *blake3::hash(&parts.concat()).as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Decimal digits, as many as `{:0width}` would write.
fn number(text: &str, width: usize) -> Option<&str> {
    let digits = text.len() >= width && text.bytes().all(|byte| byte.is_ascii_digit());
    let filled = text.len() > width && text.starts_with('0');
    (digits && !filled).then_some(text)
}

fn lower_hex(text: &str) -> Option<&str> {
    let ours = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(ours).then_some(text)
}

/// Whether a file that [`PointFile::parse`] does not know may be a point whose name was changed: it is long enough.
pub fn may_be_renamed_point(name: &str) -> bool {
    name.len() >= PointId::LEN.saturating_mul(2)
}

/// The lock of a machine's backups, in its folder.
pub fn machine_lock(machine: &str) -> String {
    format!("{}/{MACHINE_LOCK}", machine_folder(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sequence: u64, seconds: i64, import: bool) -> PointFile {
        PointFile {
            sequence,
            seconds,
            import,
            id: PointId([0xab; 32]),
        }
    }

    #[test]
    fn session_names_there_and_back() {
        let id = SessionId([0xab; 16]);
        for host in [None, Some(HostKey([0, 1, 2, 3, 4, 5, 6, 0xff]))] {
            let name = SessionName { id, host };
            assert_eq!(SessionName::parse(&name.to_string()), Some(name));
            assert_eq!(SessionName::parse(&format!("{name}.d")), Some(name));
            let upper = name.to_string().to_uppercase();
            let long = format!("{name}0");
            for bad in ["", "-", "x", &upper, &long, &format!("{name}.d.d")] {
                assert_eq!(SessionName::parse(bad), None, "{bad}");
            }
        }
        let golden = SessionName {
            id,
            host: Some(HostKey::of("web01 0123")),
        };
        let id = "ab".repeat(16);
        assert_eq!(golden.to_string(), format!("{id}-8e06cc163559f593"));
        for bad in [
            "-",
            "-+123456789abcde",
            "-00010203040506FF",
            "-0001020304050",
        ] {
            assert_eq!(SessionName::parse(&format!("{id}{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn point_names_there_and_back() {
        for sequence in [0, 7, 9_999_999_999, 10_000_000_000, u64::MAX] {
            for seconds in [0, 1, -1, 1_800_000_000, i64::MIN, i64::MAX] {
                for import in [false, true] {
                    let file = file(sequence, seconds, import);
                    let name = file.name();
                    assert_eq!(PointFile::parse(&name), Some(file), "{name}");
                    assert!(may_be_renamed_point(&name));
                }
            }
        }
        let golden = file(7, 1_800_000_000, true).name();
        let id = "ab".repeat(32);
        assert_eq!(golden, format!("0000000007-1800000000i-b5d793e2-{id}"));
        assert_eq!(machine_folder("Web01"), machine_folder("wEB01"));
        for name in ["lock", "name", "new", "retention", "retention.new"] {
            assert!(is_beside_points(name) && PointFile::parse(name).is_none());
            assert!(!may_be_renamed_point(name));
        }
    }

    #[test]
    fn a_changed_name_is_no_name() {
        for file in [file(7, 1_800_000_000, false), file(12, -5, true)] {
            let name = file.name();
            for at in 0..name.len() {
                for with in "0123456789abcdefiA+-".chars() {
                    let mut changed: Vec<char> = name.chars().collect();
                    let before = std::mem::replace(&mut changed[at], with);
                    let changed: String = changed.into_iter().collect();
                    assert_eq!(
                        PointFile::parse(&changed).is_some(),
                        before == with,
                        "{changed}"
                    );
                }
            }
        }
        let name = file(7, 0, false).name();
        let id = "ab".repeat(32);
        for (from, to) in [
            ("0000000007-", "7-"),
            ("0000000007-", "00000000007-"),
            ("-0-", "-00-"),
            ("-0-", "--0-"),
            ("-0-", "-+0-"),
            ("-0-", "-0i-"),
            (&*id, &*id.to_uppercase()),
        ] {
            assert_eq!(PointFile::parse(&name.replacen(from, to, 1)), None, "{to}");
        }
    }
}
