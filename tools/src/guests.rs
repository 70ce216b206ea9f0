//! Options of every command that shows files of guests.

use cairn::{CodePage, ReadOptions};

/// How the file systems of guests are read.
#[derive(clap::Args)]
pub struct GuestArgs {
    /// The code page of 8.3 names on FAT: 437, 850, 852, 866, 932, 1252 or another one that MS-DOS and Windows have
    ///
    /// Nothing on such a volume says which one it was written with. Long names need none.
    #[arg(long, value_name = "N", default_value_t)]
    code_page: CodePage,
}

impl GuestArgs {
    /// What they say.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            code_page: self.code_page,
        }
    }
}
