//! Names of other files, as QEMU understands them.

use crate::disk::FormatHint;
use cairn_base::{Error, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The file that an image calls `name`; `what` it is for messages. A prefix `file:` means nothing more.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported), naming it, for what is no path: `json:`, `nbd:` and other protocols, as QEMU tells them
/// from paths; [`Kind::Damaged`](cairn_base::Kind::Damaged) if it can be no name.
pub(super) fn file(name: &[u8], what: &str) -> Result<PathBuf> {
    let path = name.strip_prefix(b"file:").unwrap_or(name);
    let shown = String::from_utf8_lossy(name);
    let shown = shown.escape_debug();
    if path.is_empty() || path.contains(&0) {
        return Err(Error::damaged(format!(
            "the QCOW2 calls its {what} `{shown}`, which is no name of a file"
        )));
    }
    let mut parts = path.splitn(2, |byte| *byte == b':');
    let protocol = parts.next().unwrap_or_default();
    if parts.next().is_some() && !protocol.contains(&b'/') {
        return Err(Error::unsupported(format!(
            "the {what} `{shown}` of the QCOW2 is not named by a path but by `{}:`, which is not read",
            String::from_utf8_lossy(protocol).escape_debug()
        ))
        .advise("make one image of it with `qemu-img convert`, or name it by its path (`qemu-img rebase -u`)"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// What a backing file is that QEMU calls `name`; `None` if that is nothing.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported), naming it, for formats that are not read.
pub(super) fn format(name: &[u8]) -> Result<Option<FormatHint>> {
    Ok(Some(match name {
        b"" => return Ok(None),
        // By the protocols through which the bytes of a raw disk are reached, as old images have it.
        b"raw" | b"file" | b"host_device" => FormatHint::Raw,
        b"qcow2" => FormatHint::Qcow2,
        b"vpc" => FormatHint::Vhd,
        b"vhdx" => FormatHint::Vhdx,
        b"vdi" => FormatHint::Vdi,
        b"vmdk" => FormatHint::Vmdk,
        other => {
            return Err(Error::unsupported(format!(
                "the backing file of the QCOW2 is said to be of the format `{}`, which is not read",
                String::from_utf8_lossy(other).escape_debug()
            ))
            .advise("make one image of it with `qemu-img convert`"));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;

    #[test]
    fn paths_and_protocols() {
        for (name, path) in [
            ("base.raw", "base.raw"),
            ("/a/b:c", "/a/b:c"),
            ("./b:c", "./b:c"),
            ("file:/a/b", "/a/b"),
            ("file:b", "b"),
        ] {
            let found = file(name.as_bytes(), "backing file").unwrap();
            assert_eq!(found, PathBuf::from(path));
        }
        assert_eq!(file(b"\xff\xfe", "x").unwrap().as_os_str().len(), 2);
        for name in [
            r#"json:{"driver":"raw"}"#,
            "nbd://host/disk",
            "nbd:unix:/socket",
            "file:nbd://host/disk",
            "https://host/a",
            r"C:\a.raw",
            ":a",
        ] {
            let error = file(name.as_bytes(), "backing file").unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            let scheme = name.trim_start_matches("file:").split(':').next().unwrap();
            assert!(
                error.to_string().contains(&format!("`{scheme}:`")),
                "{error}"
            );
        }
        for name in ["", "file:", "a\0b"] {
            let error = file(name.as_bytes(), "backing file").unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
        }
    }

    #[test]
    fn formats_are_those_of_qemu() {
        assert_eq!(format(b"").unwrap(), None);
        assert_eq!(format(b"raw").unwrap(), Some(FormatHint::Raw));
        assert_eq!(format(b"vpc").unwrap(), Some(FormatHint::Vhd));
        let error = format(b"qed").unwrap_err();
        assert!(error.to_string().contains("`qed`"), "{error}");
    }
}
