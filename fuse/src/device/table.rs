//! What is mounted where, as the kernel tells it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// See proc_pid_mountinfo(5).
pub(super) const TABLE: &str = "/proc/self/mountinfo";

/// What the kernel's table says of a mount.
pub(super) struct Line {
    /// Which mount it is, of those that there are now.
    pub(super) id: String,
    /// Its device number, `0:57`.
    pub(super) number: String,
}

/// Everything mounted at `path`, lowest first. See proc_pid_mountinfo(5).
pub(super) fn all_at(path: &Path) -> std::io::Result<Vec<Line>> {
    let table = std::fs::read(TABLE)?;
    let escaped = escape(path);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let found = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next()?;
        let number = fields.nth(1)?;
        let place = fields.nth(1)?;
        (place == escaped).then(|| Line {
            id: text(id),
            number: text(number),
        })
    });
    Ok(found.collect())
}

/// Whether anything is mounted at `path` or below it.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn is_mounted_below(path: &Path) -> std::io::Result<bool> {
    let table = std::fs::read(TABLE)?;
    let escaped = escape(path);
    let mut places = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Ok(places.any(|place| {
        let rest = place.strip_prefix(&*escaped);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }))
}

fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            other => escaped.push(*other),
        }
    }
    escaped
}
