//! Packs: sealed files of frames. Written once, never changed.
//!
//! header (64 bytes) | frames | table of contents | parity (may be empty; [`crate::parity`]) | footer (128 bytes)

pub mod check;
pub mod footer;
pub mod head;
pub mod heal;
pub mod read;
pub mod toc;
pub mod write;

pub use check::FrameChecker;
pub use footer::Footer;
pub use head::PackKind;
pub use heal::Healed;
pub use read::PackReader;
pub use toc::{Toc, TocChunk, TocFrame};
pub use write::{PackWriter, SealedPack};
