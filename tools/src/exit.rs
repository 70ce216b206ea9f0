//! Exit codes: the contract with scripts.

use crate::tame::tame;
use cairn::{Error, Kind, Store};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 3: done, with warnings that were named.
    Warnings,
    /// 4: damage was found.
    Damage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Warnings => 3,
            Exit::Damage => 4,
        })
    }
}

static WARNED: AtomicBool = AtomicBool::new(false);

/// Names something that is wrong, but did not stop the command: it ends with 3 then, if nothing else speaks against it.
pub fn warn(warning: &str) {
    eprintln!("cairn: warning: {}", tame(warning));
    warned();
}

/// As [`warn`], each warning once.
pub fn warn_once(warning: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = TOLD.lock().map(|mut told| told.insert(warning.to_string()));
    if is_new.unwrap_or(true) {
        warn(warning);
    }
}

/// Something was named that is wrong, but did not stop the command.
pub fn warned() {
    WARNED.store(true, Ordering::Relaxed);
}

/// The store that the command works with.
static STORE: Mutex<Option<Store>> = Mutex::new(None);

/// At the end it is told what of this store could be read only with the help of parity.
pub fn watch(store: &Store) {
    if let Ok(mut slot) = STORE.lock() {
        *slot = Some(store.clone());
    }
}

/// Tells what of the store could be read only with the help of parity.
pub fn tell_healed() {
    let store = STORE.lock().ok().and_then(|mut slot| slot.take());
    for warning in store.iter().flat_map(Store::healed) {
        warn(&warning);
    }
}

impl Exit {
    /// How a command ended that may have warned before.
    pub fn after_warnings(self) -> Exit {
        match self {
            Exit::Done if WARNED.load(Ordering::Relaxed) => Exit::Warnings,
            other => other,
        }
    }
}

/// Why a command failed, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    code: u8,
}

impl Failure {
    /// Says why on standard error; answers the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!("cairn: {}", self.error);
        ExitCode::from(self.code)
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The failure of a batch, in which this one came first; its exit code is that of the batch.
    pub fn in_batch(self, what: String) -> Failure {
        Failure {
            error: Error::new(self.error.kind(), what),
            code: self.code,
        }
    }

    /// The failure of reading an input that is not the store: damage in it is a failed command, not a damaged store.
    pub fn of_input(error: Error) -> Failure {
        let code = match code_of(error.kind()) {
            4 => 1,
            code => code,
        };
        Failure { error, code }
    }
}

impl Failure {
    /// The failure of reading something inside a disk of a point: 4 if a chunk of the store is lost (such errors name it), 1 if
    /// the guest's own file system is damaged.
    pub fn of_guest(error: Error) -> Failure {
        if error.id().is_some() {
            error.into()
        } else {
            Failure::of_input(error)
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = code_of(error.kind());
        Failure { error, code }
    }
}

/// The one place where kinds become exit codes.
fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 2,
        Kind::Damaged => 4,
        Kind::Busy => 5,
        Kind::NotFound
        | Kind::Exists
        | Kind::Unsupported
        | Kind::Io
        | Kind::Full
        | Kind::Denied
        | Kind::Interrupted => 1,
    }
}

/// What a command answers.
pub type Answer = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_of_an_input_is_no_damage_of_the_store() {
        assert_eq!(Failure::from(Error::damaged("x")).code, 4);
        assert_eq!(Failure::of_input(Error::damaged("x")).code, 1);
        assert_eq!(Failure::of_input(Error::invalid("x")).code, 2);
        assert_eq!(Failure::from(Error::new(Kind::Busy, "x")).code, 5);
    }
}
