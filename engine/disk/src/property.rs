//! What an image says of itself, besides what every image has (format, sizes, ids): named values.

use crate::guid::Guid;
use cairn_base::Time;

/// A named value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// In small letters with underscores, the same for the same thing in all formats: it is the field's name in JSON, and never changes. A
    /// [size](Value::Bytes) ends in `_bytes`.
    pub name: &'static str,
    /// What it says.
    pub value: Value,
}

/// What a property says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Anything else. As the image has it: whoever prints it takes care of control characters. At most a few KiB.
    Text(String),
    /// A number without a unit.
    Number(u64),
    /// A number of bytes.
    Bytes(u64),
    /// Yes or no.
    Flag(bool),
    /// An id.
    Id(Guid),
    /// A point in time.
    Time(Time),
    /// Several of the same kind: names, paths, ids. At most a few dozen.
    List(Vec<String>),
}

impl Property {
    /// Under this name, this value.
    pub fn new(name: &'static str, value: Value) -> Property {
        Property { name, value }
    }

    /// Text of an image, without the zeros and spaces at its ends; `None` if nothing else is there.
    pub(crate) fn text(name: &'static str, text: &str) -> Option<Property> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| Property::new(name, Value::Text(text.to_string())))
    }
}
