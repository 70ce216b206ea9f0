//! What a user knows: recovery passwords, passwords, startup keys. And what was computed from them, so that it is not done again.

use super::id::KeyId;
use super::protector::{Protection, Protector};
use super::sealed::Key;
use super::startup;
use super::stretch::{of_password, of_recovery_password, stretched};
use cairn_base::{Kind, Result};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Keys that are remembered: protectors times passwords. The oldest go first.
const REMEMBERED: usize = 16 << 10;

/// A key as it was given, turned into what is needed of it.
enum Given {
    RecoveryPassword(Key),
    Password(Key),
    StartupKey(KeyId, Key),
}

/// Says when to stop.
type Stop = Box<dyn Fn() -> bool + Send + Sync>;

/// A key that was computed: of which password by its number, with which salt. Whoever computes it holds the lock of this one alone.
struct Computed {
    given: usize,
    salt: [u8; 16],
    key: Arc<Mutex<Option<Key>>>,
}

/// Keys of encrypted volumes. Of what was typed only hashes are kept; all of it is wiped when it is dropped, and nothing of it is ever shown.
///
/// A password's key takes a good part of a second for each protector; it is computed once, whichever volumes, disks and points ask for it.
#[derive(Default)]
pub struct Keys {
    given: Vec<Given>,
    computed: Mutex<Vec<Computed>>,
    stop: Option<Stop>,
}

impl fmt::Debug for Keys {
    /// How many there are, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.given.len())
    }
}

impl Keys {
    /// No keys at all.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// How many recovery passwords and passwords were given, and the ids of the startup keys.
    pub(super) fn kinds(&self) -> (usize, usize, Vec<KeyId>) {
        let (mut recovery, mut passwords, mut startup) = (0usize, 0usize, Vec::new());
        for given in &self.given {
            match given {
                Given::RecoveryPassword(_) => recovery = recovery.saturating_add(1),
                Given::Password(_) => passwords = passwords.saturating_add(1),
                Given::StartupKey(id, _) => startup.push(*id),
            }
        }
        (recovery, passwords, startup)
    }

    /// Adds a recovery password ("recovery key") of BitLocker: 48 digits in eight groups, with dashes, spaces or nothing between them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is none: every group is checked, and the one that is wrong is named by its number.
    pub fn add_recovery_password(&mut self, text: &str) -> Result<()> {
        let key = of_recovery_password(text)?;
        self.given.push(Given::RecoveryPassword(key));
        Ok(())
    }

    /// Adds a password.
    pub fn add_password(&mut self, text: &str) {
        self.given.push(Given::Password(of_password(text)));
    }

    /// Adds the content of a startup key or recovery key file (.BEK).
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is none.
    pub fn add_startup_key(&mut self, file: &[u8]) -> Result<()> {
        let (id, key) = startup::parse(file).map_err(|error| {
            let what = format!("this is no startup key of BitLocker: {}", error.reason());
            cairn_base::Error::new(Kind::Invalid, what)
        })?;
        self.given.push(Given::StartupKey(id, key));
        Ok(())
    }

    /// From now on a computation ends with [`Kind::Interrupted`] when `stop` says so. It is asked often.
    pub fn stop_when(&mut self, stop: impl Fn() -> bool + Send + Sync + 'static) {
        self.stop = Some(Box::new(stop));
    }

    /// Tells `attempt` the keys that may open a protector, until it answers something.
    pub(super) fn try_on<T>(
        &self,
        protector: &Protector,
        attempt: &mut dyn FnMut(&Key) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if let Some(clear) = &protector.clear {
            return attempt(clear);
        }
        for (number, given) in self.given.iter().enumerate() {
            let found = match (given, protector.protection, &protector.salt) {
                (Given::RecoveryPassword(initial), Protection::RecoveryPassword, Some(salt))
                | (Given::Password(initial), Protection::Password, Some(salt)) => {
                    attempt(&self.computed(number, initial, salt)?)?
                }
                (Given::StartupKey(id, key), Protection::StartupKey, _) if *id == protector.id => {
                    attempt(key)?
                }
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn computed(&self, given: usize, initial: &Key, salt: &[u8; 16]) -> Result<Key> {
        let slot = self.slot(given, salt);
        let mut slot = slot.lock();
        if let Some(key) = &*slot {
            return Ok(key.clone());
        }
        let never = || false;
        let key = match &self.stop {
            Some(stop) => stretched(initial, salt, &**stop)?,
            None => stretched(initial, salt, &never)?,
        };
        *slot = Some(key.clone());
        Ok(key)
    }

    fn slot(&self, given: usize, salt: &[u8; 16]) -> Arc<Mutex<Option<Key>>> {
        let mut all = self.computed.lock();
        let known = |one: &&Computed| (one.given, &one.salt) == (given, salt);
        if let Some(found) = all.iter().find(known) {
            return found.key.clone();
        }
        if all.len() >= REMEMBERED {
            all.remove(0);
        }
        let key = Arc::default();
        all.push(Computed {
            given,
            salt: *salt,
            key: Arc::clone(&key),
        });
        key
    }
}
