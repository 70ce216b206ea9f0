//! Names of machines and disks, and the ways a point is named.

use cairn_base::{Error, PointId, Result, Time};

/// Names that a disk cannot have, because the mount uses them.
const RESERVED: [&str; 5] = ["lvm", "md", "root", "versions", "latest"];

/// Whether `name` can be a machine's: 1 to 128 bytes without `/ @ :` and control characters, not starting with `.`.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) if not, saying why.
pub fn check_machine(name: &str) -> Result<()> {
    let why = if name.is_empty() || name.len() > 128 {
        "must have 1 to 128 bytes"
    } else if name.starts_with('.') {
        "must not start with a dot"
    } else if name.contains(['/', '@', ':']) || name.chars().any(char::is_control) {
        "must not contain / @ : or control characters"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("the machine name `{name}` {why}")))
}

/// Whether `name` can be a disk's: `[A-Za-z0-9._-]{1,64}`, not starting with `.`, not reserved.
pub fn is_disk_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// How a user names a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointName {
    /// `NAME@latest`
    Latest(String),
    /// `NAME@<time>`
    At(String, Time),
    /// A prefix of a point's id, in hexadecimal.
    Prefix(String),
}

impl PointName {
    /// Parses `NAME@latest`, `NAME@<time>` or a prefix of an id.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is none of these.
    pub fn parse(text: &str) -> Result<PointName> {
        if let Some((machine, when)) = text.rsplit_once('@') {
            check_machine(machine)?;
            return Ok(if when == "latest" {
                PointName::Latest(machine.to_string())
            } else {
                PointName::At(machine.to_string(), Time::parse(when)?)
            });
        }
        let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
        if hexadecimal && (4..=PointId::LEN * 2).contains(&text.len()) {
            return Ok(PointName::Prefix(text.to_ascii_lowercase()));
        }
        Err(Error::invalid(format!("`{text}` does not name a point"))
            .advise("write MACHINE@latest, MACHINE@2026-11-20T02-00-00Z, or at least 4 digits of a point's id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["web01", "Büro Server", "a"] {
            assert!(check_machine(good).is_ok(), "{good}");
        }
        for bad in ["", ".x", "a/b", "a@b", "a:b", "a\nb", &"x".repeat(129)] {
            assert!(check_machine(bad).is_err(), "{bad}");
        }
        for good in ["disk0", "C", "data-1.x"] {
            assert!(is_disk_name(good), "{good}");
        }
        for bad in ["", ".x", "a b", "Latest", "lvm", "ä", &"x".repeat(65)] {
            assert!(!is_disk_name(bad), "{bad}");
        }
    }

    #[test]
    fn points_are_named_three_ways() {
        assert_eq!(
            PointName::parse("a@latest").unwrap(),
            PointName::Latest("a".into())
        );
        let time = Time::parse("2026-11-20T02:00:00Z").unwrap();
        assert_eq!(
            PointName::parse("a@2026-11-20T02-00-00Z").unwrap(),
            PointName::At("a".into(), time)
        );
        assert_eq!(
            PointName::parse("ABcd12").unwrap(),
            PointName::Prefix("abcd12".into())
        );
        for bad in ["abc", "xyz1", "@latest", "a@", "a@noon", ""] {
            assert!(PointName::parse(bad).is_err(), "{bad}");
        }
    }
}
