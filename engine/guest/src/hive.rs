//! Hives of the Windows registry, versions 1.3 to 1.6, read-only.
//!
//! The format is described by Maxim Suhanov's "Windows registry file format specification"; structures bear its names.
//!
//! - `base_block`, `bins`: the head of the file, and the cells behind it
//! - `log`, `marvin`: what the logs of a hive that was in use hold beside it
//! - `key`, `list`, `value`: keys, lists of subkeys, values
//!
//! A hive that was in use is read as if its logs had been applied; the file is not written. Where that cannot be done a note says so, and what the file itself
//! says is shown.

mod base_block;
mod bins;
mod key;
mod list;
mod log;
mod marvin;
mod value;

pub use key::Key;
pub use value::Value;

use crate::volume::Note;
use base_block::BaseBlock;
use bins::Bins;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, Time, View};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Subkeys, or values, of one key that are looked at; Windows' own largest have some ten thousand.
const MAX_ENTRIES: u32 = 1 << 16;

/// A hive, open for reading.
pub struct Hive {
    base: BaseBlock,
    bins: Bins,
    notes: Vec<Note>,
}

/// Receives keys until it breaks. One that cannot be read is told as why.
pub type KeySink<'a> = &'a mut dyn FnMut(Result<Key>) -> ControlFlow<()>;

/// Receives values until it breaks. One that cannot be read is told as why.
pub type ValueSink<'a> = &'a mut dyn FnMut(Result<Value>) -> ControlFlow<()>;

impl Hive {
    /// Opens the hive in `file`; `logs` are the files `.LOG1`, `.LOG2` and `.LOG` beside it, as far as they are there. They are read only if the hive was in use.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is no hive, or its base block is not whole; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for
    /// other versions; what reading reports.
    pub fn open(file: Arc<dyn ReadAt>, logs: &[Arc<dyn ReadAt>]) -> Result<Hive> {
        if file.size() < bins::START {
            return Err(Error::damaged("a registry hive has 4096 bytes at least"));
        }
        let head = read_vec(&*file, 0, base_block::LENGTH)?;
        let base = BaseBlock::parse(View::new(&head, "base block", 0))?;
        if base.file_type != base_block::PRIMARY {
            return Err(Error::damaged("a log of a registry hive, not the hive"));
        }
        let mut bins = Bins::new(file, base.size);
        let mut notes = Vec::new();
        if base.is_dirty() {
            match log::replay(&base, logs) {
                Ok(replay) => {
                    bins.overlay(replay);
                    notes.push(Note::fact(
                        "The registry hive was in use: what its log holds was applied in memory.",
                    ));
                }
                Err(error) if error.kind().may_pass() => return Err(error),
                Err(error) => notes.push(Note::defect(format!(
                    "The registry hive was in use, and its log cannot be applied ({error}): what it says may be old."
                ))),
            }
        }
        Ok(Hive { base, bins, notes })
    }

    /// When Windows wrote it last.
    pub fn written(&self) -> Time {
        self.base.written()
    }

    /// What a user should know of it.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The root key.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it cannot be made out.
    pub fn root(&self) -> Result<Key> {
        Key::read(&self.bins, self.base.root)
    }

    /// The subkey of `key` that is called `name`, without regard to case.
    ///
    /// # Errors
    /// If it is not found, and something of the subkeys cannot be read, why.
    pub fn subkey(&self, key: &Key, name: &str) -> Result<Option<Key>> {
        let wanted = name.to_lowercase();
        let (mut found, mut failed) = (None, None);
        let read = self.each_subkey(key, &mut |subkey| match subkey {
            Ok(subkey) if subkey.name().to_lowercase() == wanted => {
                found = Some(subkey);
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failed.get_or_insert(error);
                ControlFlow::Continue(())
            }
        });
        match (found, failed) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => read.map(|()| None),
        }
    }

    /// Tells `sink` the subkeys of `key`, as the hive lists them: the first 65,536.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if their list cannot be read; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it has more.
    pub fn each_subkey(&self, key: &Key, sink: KeySink<'_>) -> Result<()> {
        if key.subkeys == 0 {
            return Ok(());
        }
        let mut left = Some(MAX_ENTRIES);
        list::each(&self.bins, key.subkeys_at, &mut |at| {
            left = left.and_then(|left| left.checked_sub(1));
            match left {
                Some(_) => sink(Key::read(&self.bins, at)),
                None => ControlFlow::Break(()),
            }
        })?;
        match left {
            Some(_) => Ok(()),
            None => Err(too_many(key, "subkeys")),
        }
    }

    /// Tells `sink` the values of `key`, as the hive orders them: the first 65,536.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if their list cannot be read; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it has more.
    pub fn each_value(&self, key: &Key, sink: ValueSink<'_>) -> Result<()> {
        if key.values == 0 {
            return Ok(());
        }
        let count = usize::try_from(key.values.min(MAX_ENTRIES)).unwrap_or(usize::MAX);
        let bytes = self.bins.cell(key.values_at, count.saturating_mul(4))?;
        let view = View::new(&bytes, "list of values", self.bins.place(key.values_at));
        for number in 0..count {
            let at = view.u32_le(number.saturating_mul(4))?;
            if sink(Value::read(&self.bins, at)).is_break() {
                return Ok(());
            }
        }
        if key.values > MAX_ENTRIES {
            return Err(too_many(key, "values"));
        }
        Ok(())
    }

    /// The data of a value, which has no more than `most` bytes.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it has more; [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not all there.
    pub fn data(&self, value: &Value, most: usize) -> Result<Vec<u8>> {
        value.data(&self.bins, self.base.has_big_data(), most)
    }
}

fn too_many(key: &Key, what: &str) -> Error {
    let name = key.name().escape_debug();
    Error::unsupported(format!(
        "the registry key `{name}` has more than {MAX_ENTRIES} {what}; the others were not looked at"
    ))
}
