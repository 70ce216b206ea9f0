//! File records: the entries of `$MFT`.

use super::attribute::{Attribute, Body, kind};
use super::fixup;
use cairn_base::{Error, Result, View};

const WHAT: &str = "file record";
const IN_USE: u16 = 1;
const FOLDER: u16 = 2;
/// Where the update sequence begins at the earliest in a record that has its number before it.
const NUMBERED: u16 = 48;
/// Attributes that a file has as a rule: times, two names, content; and one more.
const USUAL: usize = 5;

/// A file reference: record number and the sequence number the record had when the reference was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// 48 bits.
    pub number: u64,
    /// 0 matches any.
    pub sequence: u16,
}

impl Reference {
    /// Takes the 64 bits of a reference apart.
    pub fn new(raw: u64) -> Reference {
        Reference {
            number: raw & 0xFFFF_FFFF_FFFF,
            sequence: u16::try_from(raw.checked_shr(48).unwrap_or(0)).unwrap_or(0),
        }
    }
}

/// One record, whole and mended, its attributes' headers decoded.
#[derive(Debug)]
pub struct Record {
    bytes: Vec<u8>,
    base_offset: u64,
    /// Counts how often the record was given to another file.
    pub sequence: u16,
    flags: u16,
    /// The record this one extends; number 0 and sequence 0 if it stands for itself.
    pub base: Reference,
    /// The low half of its own number, which records have since version 3.1; 0 if it is not known.
    number: u32,
    attributes: Vec<Attribute>,
    /// Why the attributes behind the last one are not there.
    broken: Option<Error>,
}

impl Record {
    /// Decodes a record as read from disk; `offset` is for messages.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) for a record that was never written,
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for anything that is no whole record.
    pub fn parse(mut bytes: Vec<u8>, offset: u64) -> Result<Record> {
        let view = View::new(&bytes, WHAT, offset);
        match &view.array::<4>(0)? {
            b"FILE" => {}
            [0, 0, 0, 0] if bytes.iter().all(|&byte| byte == 0) => {
                return Err(Error::not_found("the file record was never used").at_offset(offset));
            }
            b"BAAD" => return Err(view.damaged(0, "marked as bad by the guest")),
            _ => return Err(view.damaged(0, "the name `FILE` is missing")),
        }
        fixup::apply(&mut bytes, WHAT, offset)?;
        let view = View::new(&bytes, WHAT, offset);
        let (attributes, broken) = attributes(view)?;
        Ok(Record {
            base_offset: offset,
            sequence: view.u16_le(16)?,
            flags: view.u16_le(22)?,
            base: Reference::new(view.u64_le(32)?),
            number: match view.u16_le(4)? {
                NUMBERED.. => view.u32_le(44)?,
                _ => 0,
            },
            attributes,
            broken,
            // No attribute goes beyond what is in use, which as a rule is less than half.
            bytes: view.slice(0, used(view)?)?.to_vec(),
        })
    }

    /// The record itself, if it is the one of that number.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is another, which was written to the wrong place.
    pub fn check_number(self, number: u64) -> Result<Record> {
        if self.number == 0 || u64::from(self.number) == number & 0xFFFF_FFFF {
            return Ok(self);
        }
        let other = self.number;
        let view = self.view();
        Err(view.damaged(44, &format!("record {other} stands in its place")))
    }

    /// Bytes of memory it holds, about.
    pub fn weight(&self) -> usize {
        let attributes = self.attributes.capacity();
        let names = self.attributes.iter().map(|one| one.name.len());
        attributes
            .saturating_mul(size_of::<Attribute>())
            .saturating_add(names.sum::<usize>().saturating_mul(2))
            .saturating_add(self.bytes.len())
            .saturating_add(size_of::<Record>())
    }

    /// Whether a file or folder owns it.
    pub fn in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.flags & FOLDER != 0
    }

    /// The record's bytes.
    pub fn view(&self) -> View<'_> {
        View::new(&self.bytes, WHAT, self.base_offset)
    }

    /// The attributes of type `kind`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if more of them may have been lost. Attributes are in the
    /// order of their types, so damage behind larger types does not matter.
    pub fn of_kind(&self, kind: u32) -> Result<impl Iterator<Item = &Attribute>> {
        if let Some(broken) = &self.broken
            && self.attributes.last().is_none_or(|last| last.kind <= kind)
        {
            return Err(broken.clone());
        }
        Ok(self
            .attributes
            .iter()
            .filter(move |attribute| attribute.kind == kind))
    }

    /// The value of a resident attribute of this record.
    pub fn resident(&self, attribute: &Attribute) -> Option<&[u8]> {
        match &attribute.body {
            Body::Resident(range) => self.bytes.get(range.clone()),
            Body::NonResident(_) => None,
        }
    }
}

/// Bytes of the record that are in use, as it says.
fn used(view: View<'_>) -> Result<usize> {
    Ok(usize::try_from(view.u32_le(24)?).unwrap_or(usize::MAX))
}

/// All attributes up to the end mark or to the first that makes no sense.
fn attributes(view: View<'_>) -> Result<(Vec<Attribute>, Option<Error>)> {
    let used = used(view)?;
    if used > view.len() {
        return Err(view.damaged(24, "more bytes in use than the record has"));
    }
    let mut found = Vec::with_capacity(USUAL);
    let mut at = usize::from(view.u16_le(20)?);
    loop {
        match next(view, at, used) {
            Ok(None) => return Ok((found, None)),
            Ok(Some((attribute, length))) => {
                found.push(attribute);
                at = at.saturating_add(length);
            }
            Err(error) => return Ok((found, Some(error))),
        }
    }
}

fn next(view: View<'_>, at: usize, used: usize) -> Result<Option<(Attribute, usize)>> {
    if view.u32_le(at)? == kind::END {
        return Ok(None);
    }
    let length = usize::try_from(view.u32_le(at.saturating_add(4))?).unwrap_or(usize::MAX);
    if length < 24 || length % 8 != 0 || at.saturating_add(length) > used {
        return Err(view.damaged(at, "impossible attribute length"));
    }
    let attribute = Attribute::parse(view.part(at, length, "attribute")?, at)?;
    Ok(Some((attribute, length)))
}
