//! What the name of a file says of it, where its content says nothing: an image whose header is gone must not be kept as if it were the disk.

use crate::source::FileSource;
use crate::vmdk;
use cairn_base::{Error, Result};
use std::path::Path;

/// Images that have an id by which children know them.
const WITH_IDS: &[&str] = &["vhd", "vhdx", "avhd", "avhdx", "vdi"];
/// Others that are never without a header; `vhds` is the list of a VHD set, whose disk lies in an `.avhdx`.
const WITHOUT_IDS: &[&str] = &["qcow2", "qcow", "qed", "vhds"];

/// Whether a file is called like an image that has an id by which children know it.
pub(crate) fn has_id(path: &Path) -> bool {
    extension(path, WITH_IDS).is_some()
}

/// Whether `file`, in which no image was found by its content, may be taken as a raw disk; what is to be said then.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is called like an image whose header cannot be missing, or like a VMDK and does not begin like a
/// disk, or holds remains of one; what the file says when it is read.
pub(crate) fn check_raw(file: &FileSource) -> Result<Option<String>> {
    let path = file.path();
    let known = WITH_IDS.iter().chain(WITHOUT_IDS);
    let known: Vec<&str> = known.copied().collect();
    match extension(path, &known) {
        Some(extension) => Err(Error::damaged(format!(
            "the file is called `.{extension}` and holds no such image: its header or footer is missing"
        ))),
        None => vmdk::check_raw(file, path),
    }
}

/// The one of `extensions` that `path` ends in.
fn extension<'a>(path: &Path, extensions: &[&'a str]) -> Option<&'a str> {
    let own = path.extension()?;
    let mut all = extensions.iter().copied();
    all.find(|known| own.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        for (name, has, is_raw) in [
            ("a.vhd", true, false),
            ("a.AVHDX", true, false),
            ("a.vdi", true, false),
            ("a.qcow2", false, false),
            ("a.Qcow", false, false),
            ("a.vhds", false, false),
            ("a.raw", false, true),
            ("vhdx", false, true),
            ("a.vhdx.bak", false, true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            std::fs::write(&path, [1; 1000]).unwrap();
            let file = FileSource::open(&path).unwrap();
            assert_eq!(has_id(&path), has, "{name}");
            let checked = check_raw(&file);
            assert_eq!(checked.is_ok(), is_raw, "{name}");
            assert!(checked.is_err() || checked.unwrap().is_none(), "{name}");
        }
    }
}
