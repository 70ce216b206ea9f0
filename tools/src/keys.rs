//! Options of every command that looks into volumes: what opens those that are encrypted.

use crate::exit::Failure;
use crate::signals;
use cairn::units::to_u64;
use cairn::{Error, Keys, Kind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Stdin, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a file with keys, and of a line that is typed.
const MAX_FILE: usize = 64 << 10;
const MAX_LINE: usize = 4096;
/// Where scripts put keys, so that no list of processes shows them.
const RECOVERY_KEY: &str = "CAIRN_RECOVERY_KEY";
const PASSWORD: &str = "CAIRN_VOLUME_PASSWORD";

/// What opens encrypted volumes.
#[derive(clap::Args)]
#[command(next_help_heading = "Encrypted volumes (BitLocker)")]
pub struct KeyArgs {
    /// A recovery key: eight groups of six digits; `-` asks for it
    ///
    /// Lists of processes show it to others: better is --recovery-key-file, `-`, or the variable CAIRN_RECOVERY_KEY. Several can be given, for several volumes.
    #[arg(long, value_name = "KEY")]
    recovery_key: Vec<String>,
    /// A file with recovery keys, as Windows saves them, or one in each line
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Vec<PathBuf>,
    /// Ask for the password; it is read from standard input if that is no terminal
    ///
    /// Scripts can put it into the variable CAIRN_VOLUME_PASSWORD instead.
    #[arg(long)]
    password: bool,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Vec<PathBuf>,
    /// A startup key or recovery key file (.BEK)
    #[arg(long, value_name = "FILE")]
    startup_key: Vec<PathBuf>,
}

impl KeyArgs {
    /// Reads all keys that were given, and asks for those that are to be asked for.
    pub fn load(&self) -> Result<Arc<Keys>, Failure> {
        let mut keys = Keys::new();
        keys.stop_when(signals::stop_requested);
        if let Some(text) = variable(RECOVERY_KEY)? {
            all_recovery_keys(&mut keys, &text, &format!("the variable {RECOVERY_KEY}"))?;
        }
        for text in &self.recovery_key {
            if text == "-" {
                keys.add_recovery_password(&ask("Recovery key: ")?)?;
            } else {
                keys.add_recovery_password(text)?;
            }
        }
        for path in &self.recovery_key_file {
            let text = text_of(path)?;
            all_recovery_keys(&mut keys, &text, &format!("the file {}", path.display()))?;
        }
        for path in &self.startup_key {
            let added = keys.add_startup_key(&bytes_of(path)?);
            added.map_err(|error| error.at_path(path))?;
        }
        if let Some(text) = variable(PASSWORD)? {
            keys.add_password(&text);
        }
        for path in &self.password_file {
            keys.add_password(text_of(path)?.lines().next().unwrap_or_default());
        }
        if self.password {
            keys.add_password(&ask("Password: ")?);
        }
        Ok(Arc::new(keys))
    }
}

/// Adds every recovery key in a text, which may say other things around them.
fn all_recovery_keys(keys: &mut Keys, text: &str, place: &str) -> Result<(), Failure> {
    let mut any = false;
    for word in text.split(|c: char| !c.is_ascii_digit() && c != '-') {
        // Ids have fewer digits, or other dashes.
        if word.len() == 55 && word.split('-').all(|group| group.len() == 6) {
            keys.add_recovery_password(word)
                .map_err(|error| error.context(format!("a key in {place} is not used")))?;
            any = true;
        }
    }
    if any {
        return Ok(());
    }
    let what = format!("there is no recovery key in {place}");
    let advice = "a key is eight groups of six digits, with dashes between them";
    Err(Error::new(Kind::Invalid, what).advise(advice).into())
}

fn variable(name: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(_) => Err(Error::invalid(format!("the variable {name} is no text in UTF-8")).into()),
    }
}

fn bytes_of(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |e| Error::io("cannot read the key", path, e);
    let file = File::open(path).map_err(failed)?;
    // Large enough from the beginning, so that no copy is left where it was too small.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(to_u64(MAX_FILE + 1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(Error::invalid("the file is too large for one with keys").at_path(path));
    }
    Ok(bytes)
}

/// Text of a file: UTF-8, or UTF-16 as Windows writes it.
fn text_of(path: &Path) -> Result<Zeroizing<String>, Error> {
    let bytes = bytes_of(path)?;
    let text = match bytes.strip_prefix(b"\xff\xfe") {
        Some(rest) => {
            let (pairs, _) = rest.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
            let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
            let read = char::decode_utf16(units).try_for_each(|unit| {
                text.push(unit.ok()?);
                Some(())
            });
            read.map(|()| text)
        }
        None => {
            let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let text = std::str::from_utf8(rest).ok();
            text.map(|text| Zeroizing::new(text.to_string()))
        }
    };
    text.ok_or_else(|| Error::invalid("the file is no text").at_path(path))
}

/// Asks for a line: on the terminal, which does not show it, or else from standard input.
fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let input = stdin();
    let hidden = if input.is_terminal() {
        eprint!("{prompt}");
        Some(Hidden::begin(&input)?)
    } else {
        None
    };
    let line = line_of(&input);
    if hidden.is_some() {
        eprintln!();
    }
    drop(hidden);
    line
}

fn line_of(input: &Stdin) -> Result<Zeroizing<String>, Failure> {
    let failed =
        |errno: Errno| Error::io("cannot read standard input", Path::new(""), errno.into());
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    loop {
        if signals::stop_requested() {
            return Err(Error::interrupted().into());
        }
        // Reading alone goes on after a signal, and Ctrl-C would not end it.
        let mut waited = [PollFd::new(input, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(failed(errno).into()),
        }
        // One by one: what stands behind the line is somebody else's.
        let mut byte = [0];
        match rustix::io::read(input, &mut byte[..]) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if bytes.len() == MAX_LINE => {
                return Err(Error::invalid("the line is too long for a key").into());
            }
            Ok(_) => bytes.push(byte[0]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno).into()),
        }
    }
    let line = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
    match std::str::from_utf8(line) {
        Ok("") => Err(Error::invalid("no key was typed").into()),
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
        Err(_) => Err(Error::invalid("what was typed is no text in UTF-8").into()),
    }
}

/// A terminal that does not show what is typed, as long as this lives.
struct Hidden<'a>(&'a Stdin, Termios);

impl Hidden<'_> {
    fn begin(terminal: &Stdin) -> Result<Hidden<'_>, Error> {
        let failed = |errno: Errno| {
            let what = "cannot keep the terminal from showing what is typed";
            Error::io(what, Path::new(""), errno.into())
        };
        let before = tcgetattr(terminal).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Hidden(terminal, before))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If the terminal is gone there is nobody who would mind.
        let _restored = tcsetattr(self.0, OptionalActions::Flush, &self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "235818-357951-253979-013365-241120-245575-342914-591910";

    #[test]
    fn keys_are_found_in_what_windows_saves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("BitLocker Recovery Key 64311DEA.TXT");
        let text = format!(
            "BitLocker Drive Encryption recovery key\r\n\r\nIdentifier:\r\n\r\n\t64311DEA-4587-4029-924A-BA299647998E\r\n\r\nRecovery Key:\r\n\r\n\t{KEY}\r\n"
        );
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [[b"\xff\xfe", &wide[..]].concat(), text.into_bytes()] {
            std::fs::write(&path, bytes).unwrap();
            let mut keys = Keys::new();
            all_recovery_keys(&mut keys, &text_of(&path).unwrap(), "a file").unwrap();
            assert!(!keys.is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let mut keys = Keys::new();
        let wrong = KEY.replace("013365", "013366");
        let error = all_recovery_keys(&mut keys, &wrong, "a file").unwrap_err();
        let said = format!("{} {:?}", error.error(), error.error());
        assert!(said.contains("group 4"), "{said}");
        assert!(!said.contains("0133") && !said.contains("235818"), "{said}");
        let none = all_recovery_keys(&mut keys, "2026-11-20", "a file").unwrap_err();
        assert_eq!(none.error().kind(), Kind::Invalid);
        assert!(keys.is_empty());
    }
}
