//! Change information from a file: what `qemu-img map --output=json` prints, or a plain list of ranges.
//!
//! Both are one JSON array of objects with `start` and `length` in bytes of the disk. An entry counts as changed unless its
//! `depth` is above 0 (it comes from a backing file, or from none of them). `zero`: it reads as zeros now. So an image without a backing file has
//! changed as a whole, discarded clusters too. What is not present reads as zeros; where it is said not to, this is the map of a dirty bitmap (`x-dirty-bitmap`), in which dirty
//! blocks look absent and clean ones present: it is refused. Entries may come in any order and overlap; other fields are not looked at.

use cairn::{ChangeList, Changes, Error, Result};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Entries that are read at most.
const MAX_ENTRIES: u64 = 50_000_000;

#[derive(Deserialize)]
struct Entry {
    start: u64,
    length: u64,
    #[serde(default)]
    depth: u64,
    #[serde(default = "present")]
    present: bool,
    #[serde(default)]
    zero: bool,
}

/// An entry that is written as an object: a type would be read from a list of its fields too.
struct Object(Entry);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Object, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `start` and `length`")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                fields: A,
            ) -> std::result::Result<Entry, A::Error> {
                Entry::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields).map(Object)
    }
}

fn present() -> bool {
    true
}

/// Reads the changes of a disk of `size` bytes.
///
/// # Errors
/// [`Kind::Invalid`](cairn::Kind::Invalid) with line and column for anything but such a list; if the file cannot be read.
pub fn read(path: &Path, size: u64) -> Result<Changes> {
    let file =
        File::open(path).map_err(|e| Error::io("cannot open the change information", path, e))?;
    parse(BufReader::with_capacity(1 << 20, file), size, MAX_ENTRIES).map_err(|error| {
        if error.is_io() {
            Error::io("cannot read the change information", path, error.into())
        } else {
            Error::invalid("this is no change information of the disk")
                .at_path(path)
                .caused_by(error)
                .advise("see `cairn backup --help` and the README")
        }
    })
}

pub(crate) fn parse(input: impl Read, size: u64, limit: u64) -> serde_json::Result<Changes> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let entries = Entries {
        list: ChangeList::new(size),
        limit,
    };
    let list = json.deserialize_seq(entries)?;
    json.end()?;
    Ok(list.finish())
}

/// Takes one entry after the other, so that a file of any length needs little memory.
struct Entries {
    list: ChangeList,
    limit: u64,
}

impl<'de> Visitor<'de> for Entries {
    type Value = ChangeList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of ranges")
    }

    fn visit_seq<A: SeqAccess<'de>>(
        mut self,
        mut entries: A,
    ) -> std::result::Result<ChangeList, A::Error> {
        let mut count = 0u64;
        while let Some(Object(entry)) = entries.next_element::<Object>()? {
            count += 1;
            if count > self.limit {
                return Err(A::Error::custom(format!(
                    "more than {} entries",
                    self.limit
                )));
            }
            // [qemu, block/nbd.c] A dirty bitmap is shown as if it were allocation: the opposite of what it would be taken for.
            if !entry.present && !entry.zero {
                return Err(A::Error::custom(
                    "neither present nor zeros: the map of a dirty bitmap must be made a plain list first",
                ));
            }
            let changed = entry.depth == 0;
            // What is not taken must lie on the disk all the same: otherwise it is the map of another one.
            let length = if changed { entry.length } else { 0 };
            let fits = entry
                .start
                .checked_add(entry.length)
                .is_some_and(|end| end <= self.list.size());
            if !fits {
                return Err(A::Error::custom(format!(
                    "{} bytes at {} lie beyond the disk of {} bytes",
                    entry.length,
                    entry.start,
                    self.list.size()
                )));
            }
            self.list
                .add(entry.start, length, entry.zero)
                .map_err(A::Error::custom)?;
        }
        Ok(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> std::result::Result<Vec<(u64, u64, bool)>, String> {
        let changes = parse(text.as_bytes(), 10_000, 5).map_err(|e| e.to_string())?;
        let all = changes.within(0..10_000);
        Ok(all.map(|c| (c.range.start, c.range.end, c.zero)).collect())
    }

    #[test]
    fn both_forms_are_read() {
        let plain = r#"[{"start": 4096, "length": 10}, {"start": 0, "length": 5, "zero": true}]"#;
        assert_eq!(ranges(plain).unwrap(), [(0, 5, true), (4096, 4106, false)]);
        assert_eq!(ranges("[]").unwrap(), []);
        let qemu = r#"[{ "start": 0, "length": 1000, "depth": 1, "present": true, "zero": false, "data": true, "offset": 0},
            { "start": 1000, "length": 24, "depth": 0, "present": true, "zero": false, "data": true, "offset": 7},
            { "start": 1024, "length": 1000, "depth": 0, "present": true, "zero": true, "data": false, "compressed": false},
            { "start": 2024, "length": 1000, "depth": 0, "present": false, "zero": true, "data": false},
            { "start": 3024, "length": 6976, "depth": 2, "present": true, "zero": true, "data": false}]"#;
        assert_eq!(
            ranges(qemu).unwrap(),
            [(1000, 1024, false), (1024, 3024, true)]
        );
    }

    #[test]
    fn the_map_of_a_dirty_bitmap_is_refused() {
        // As qemu-img 10.0 prints it of `x-dirty-bitmap`: the second range is dirty.
        let map = r#"[{ "start": 0, "length": 1024, "depth": 0, "present": true, "zero": false, "data": true, "compressed": false, "offset": 0},
            { "start": 1024, "length": 512, "depth": 0, "present": false, "zero": false, "data": false, "compressed": false}]"#;
        let error = ranges(map).unwrap_err();
        assert!(
            error.contains("dirty bitmap") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        let entry = r#"{"start":0,"length":1}"#;
        for (text, why) in [
            ("", "line 1 column 0"),
            ("{}", "a list of ranges"),
            ("[1]", "line 1 column 3"),
            ("[[0,5]]", "line 1 column 2"),
            ("[{\"start\":0,\"length\":1}", "line 1 column 23"),
            ("[{\"start\":0,\"length\":1}] x", "line 1 column 26"),
            ("[{\"start\":0}]", "missing field `length`"),
            ("[{\"offset\":0,\"length\":1}]", "missing field `start`"),
            ("[\n{\"start\":-1,\"length\":1}]", "line 2 column"),
            ("[{\"start\":0,\"length\":1.5}]", "line 1 column"),
            ("[{\"start\":0,\"length\":1,\"depth\":-1}]", "line 1 column"),
            ("[{\"start\":0,\"length\":1,\"zero\":1}]", "line 1 column"),
            (
                "[{\"start\":0,\"length\":1,\"length\":2}]",
                "duplicate field",
            ),
            ("[{\"start\":9999,\"length\":2}]", "beyond the disk"),
            (
                "[{\"start\":9999,\"length\":2,\"depth\":1}]",
                "beyond the disk",
            ),
            (
                "[{\"start\":18446744073709551615,\"length\":1}]",
                "beyond the disk",
            ),
            (
                &format!("[{}]", [entry; 6].join(",")),
                "more than 5 entries",
            ),
        ] {
            let error = ranges(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("line"), "{text}: {error}");
        }
        assert!(ranges(&format!("[{}]", [entry; 5].join(","))).is_ok());
    }
}
