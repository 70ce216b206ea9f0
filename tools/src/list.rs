//! A long result, gathered to a few large writes: as lines, or as one JSON array.

use crate::exit::Failure;
use crate::output;
use serde_json::Value;

/// What is printed.
pub struct List {
    json: bool,
    empty: bool,
    out: Vec<u8>,
}

impl List {
    /// Bytes that are printed at once.
    const ENOUGH: usize = 64 << 10;

    /// As an array, or as lines.
    pub fn new(json: bool) -> List {
        List {
            json,
            empty: true,
            out: Vec::new(),
        }
    }

    /// One more: as JSON, or as a line without its end.
    pub fn add(
        &mut self,
        value: impl FnOnce() -> Value,
        line: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Failure> {
        if self.json {
            let begin: &[u8] = if self.empty { b"[\n  " } else { b",\n  " };
            self.out.extend_from_slice(begin);
            // No line ends within a string of JSON, so each of these begins a line.
            let item = format!("{:#}", value()).replace('\n', "\n  ");
            self.out.extend_from_slice(item.as_bytes());
        } else {
            self.out.extend_from_slice(&line());
            self.out.push(b'\n');
        }
        self.empty = false;
        self.flush()
    }

    /// Bytes as they are, where the result is no JSON.
    pub fn raw(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.empty = false;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.out.len() >= List::ENOUGH {
            output::write(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// The end of it.
    pub fn end(mut self) -> Result<(), Failure> {
        if self.json {
            let end: &[u8] = if self.empty { b"[]\n" } else { b"\n]\n" };
            self.out.extend_from_slice(end);
        }
        output::write(&self.out)
    }
}
