//! Results on standard output.

use crate::exit::Failure;
use cairn::Error;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

static GONE: AtomicBool = AtomicBool::new(false);

/// Whether the reader of standard output has gone away: long output may end then.
pub fn reader_is_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Writes to standard output. A reader that has gone away (`| head`) wants no more: the command goes on and ends as it would.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
            GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(e) => Err(Error::io("cannot write the result", Path::new("-"), e).into()),
        Ok(()) => Ok(()),
    }
}

/// A line.
pub fn line(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// The one JSON document of a command.
pub fn json(value: &serde_json::Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// A name of a guest as a line: as it is into a pipe; on a terminal control characters become `?`, so that no name can
/// play with the screen.
pub fn name_line(prefix: &str, name: &[u8]) -> Result<(), Failure> {
    let mut bytes = prefix.as_bytes().to_vec();
    bytes.extend(shown(name));
    bytes.push(b'\n');
    write(&bytes)
}

/// A name of a guest as it is printed.
pub fn shown(name: &[u8]) -> Vec<u8> {
    if !std::io::stdout().is_terminal() {
        return name.to_vec();
    }
    let text = String::from_utf8_lossy(name);
    let tame = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(tame).collect::<String>().into_bytes()
}

/// A name as JSON: a string, and where it is no UTF-8 a lossy one; `hex` then has the bytes.
pub fn name_json(name: &[u8]) -> (serde_json::Value, Option<String>) {
    match std::str::from_utf8(name) {
        Ok(text) => (text.into(), None),
        Err(_) => {
            let hex = name.iter().map(|byte| format!("{byte:02x}")).collect();
            (String::from_utf8_lossy(name).into_owned().into(), Some(hex))
        }
    }
}
