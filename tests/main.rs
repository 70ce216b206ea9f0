//! Tests that belong to no single crate: the house rules, and the command `cairn` as a whole.
//!
//! All of them are one binary. A new file of tests is a `mod` line here; `tidy` fails when the line was forgotten.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod command;
#[cfg(test)]
#[path = "../engine/guest/tests/windows/disks.rs"]
mod disks;
#[cfg(test)]
#[path = "../engine/guest/tests/windows/made.rs"]
mod made;
#[cfg(test)]
#[path = "../engine/guest/tests/ldm/maker.rs"]
mod maker;
#[cfg(test)]
#[path = "../engine/guest/tests/ldm/records.rs"]
mod records;
#[cfg(test)]
mod tidy;
