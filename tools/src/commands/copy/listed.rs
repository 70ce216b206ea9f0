//! Lists of addresses.

use crate::exit::Failure;
use cairn::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Reads addresses, one a line or each with a NUL byte behind it; `-` is standard input. Empty ones are passed over.
pub fn read(path: &Path, null: bool) -> Result<Vec<OsString>, Failure> {
    let failed = |e| Error::io("cannot read the list", path, e);
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let mut file = File::open(path).map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    let end = if null { 0 } else { b'\n' };
    let parts = bytes.split(|byte| *byte == end);
    Ok(parts
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect())
}
