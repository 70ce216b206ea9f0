//! The decoders of single structures, for proofs that reach them without a volume around.

pub use super::attribute_list::{ListEntry, parse as parse_attribute_list};
pub use super::boot_sector::BootSector;
pub use super::cluster::{Lcn, Vcn};
pub use super::index::{Entries, IndexEntry, block_entries, mend_block, root_entries, root_header};
pub use super::lznt1::decompress as unpack_lznt1;
pub use super::lzx::decompress as unpack_lzx;
pub use super::record::{Record, Reference};
pub use super::reparse::{tag as reparse_tag, target as reparse_target};
pub use super::run_list::{Run, RunList};
pub use super::wof::{Algorithm, WofStream};
pub use super::xpress::decompress as unpack_xpress;
