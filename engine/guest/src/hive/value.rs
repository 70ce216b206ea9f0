//! Values (`vk`) and their data, which may be in pieces (`db`).

use super::bins::Bins;
use super::key::name_text;
use cairn_base::{Error, Result, View};

/// Bytes before the name.
const NAME: usize = 20;
/// The longest name of a value: 16,383 characters, of two bytes each.
const MAX_NAME: u16 = 32_766;
/// The name has one byte for each character.
const COMP_NAME: u16 = 1;
/// Set in the size of data that stand where their offset would.
const RESIDENT: u32 = 0x8000_0000;
/// Bytes of a piece of big data; data that are longer are in pieces.
const PIECE: usize = 16_344;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    name: String,
    kind: u32,
    size: u32,
    /// The cell of the data, or the data.
    data: [u8; 4],
}

impl Value {
    pub(super) fn read(bins: &Bins, at: u32) -> Result<Value> {
        let head = bins.cell(at, NAME)?;
        let view = View::new(&head, "registry value", bins.place(at));
        let length = view.u16_le(2)?;
        if length > MAX_NAME {
            return Err(view.damaged(2, "its name is longer than names are"));
        }
        let bytes = bins.cell(at, NAME.saturating_add(length.into()))?;
        Value::parse(View::new(&bytes, "registry value", bins.place(at)))
    }

    /// Decodes it.
    fn parse(view: View<'_>) -> Result<Value> {
        if view.slice(0, 2)? != b"vk" {
            return Err(view.damaged(0, "it has no signature"));
        }
        let name = view.slice(NAME, usize::from(view.u16_le(2)?))?;
        Ok(Value {
            name: name_text(name, view.u16_le(16)? & COMP_NAME != 0),
            kind: view.u32_le(12)?,
            size: view.u32_le(4)?,
            data: view.array(8)?,
        })
    }

    /// Its name; empty for the default value. What is not valid UTF-16 is replaced.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its data: 1 is a text, 3 bytes, 4 a number of 32 bits.
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// Bytes of data.
    pub fn size(&self) -> u32 {
        self.size & !RESIDENT
    }

    pub(super) fn data(&self, bins: &Bins, in_pieces: bool, most: usize) -> Result<Vec<u8>> {
        let length = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let called = || format!("the registry value `{}`", self.name.escape_debug());
        if self.size & RESIDENT != 0 {
            let data = self.data.get(..length).map(<[u8]>::to_vec);
            let damaged = || Error::damaged(format!("{} is longer than its place", called()));
            return data.ok_or_else(damaged);
        }
        if length > most {
            return Err(Error::unsupported(format!(
                "{} has {length} bytes; {most} are read at most",
                called()
            )));
        }
        if length == 0 {
            return Ok(Vec::new());
        }
        let at = u32::from_le_bytes(self.data);
        let bytes = if in_pieces && length > PIECE {
            self.pieces(bins, at, length)?
        } else {
            bins.cell(at, length)?
        };
        if bytes.len() < length {
            let what = format!("{} is not all there", called());
            return Err(Error::damaged(what).at_offset(bins.place(at)));
        }
        Ok(bytes)
    }

    fn pieces(&self, bins: &Bins, at: u32, length: usize) -> Result<Vec<u8>> {
        let bytes = bins.cell(at, 8)?;
        let view = View::new(&bytes, "big data", bins.place(at));
        if view.slice(0, 2)? != b"db" {
            return Err(view.damaged(0, "it has no signature"));
        }
        let count = usize::from(view.u16_le(2)?);
        let list_at = view.u32_le(4)?;
        let list = bins.cell(list_at, count.saturating_mul(4))?;
        let mut data = Vec::new();
        for cell in list.chunks_exact(4) {
            let left = length.saturating_sub(data.len());
            if left == 0 {
                break;
            }
            let at = cell.try_into().map_or(0, u32::from_le_bytes);
            let piece = bins.cell(at, left.min(PIECE))?;
            if piece.len() < left.min(PIECE) {
                let what = "a piece of a long registry value is too short";
                return Err(Error::damaged(what).at_offset(bins.place(at)));
            }
            data.extend(piece);
        }
        Ok(data)
    }
}
