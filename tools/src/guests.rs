//! Options of every command that shows files of guests.

use crate::exit::Failure;
use crate::keys::KeyArgs;
use cairn::{CodePage, ReadOptions};

/// How the file systems of guests are read.
#[derive(clap::Args)]
pub struct GuestArgs {
    /// The code page of 8.3 names on FAT: 437, 850, 852, 866, 932, 1252 or another one that MS-DOS and Windows have
    ///
    /// Nothing on such a volume says which one it was written with. Long names need none.
    #[arg(long, value_name = "N", default_value_t)]
    code_page: CodePage,
    #[command(flatten)]
    keys: KeyArgs,
}

impl GuestArgs {
    /// What they say. Reads the keys that were given, and asks for those that are to be asked for.
    pub fn options(&self) -> Result<ReadOptions, Failure> {
        Ok(ReadOptions {
            code_page: self.code_page,
            keys: self.keys.load()?,
        })
    }
}
