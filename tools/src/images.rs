//! Options of every command that opens disk images.

use cairn::{FormatHint, OpenOptions};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;

/// How an image is opened.
#[derive(clap::Args)]
pub struct ImageArgs {
    /// Take the image for one of this format, whatever its content looks like
    ///
    /// Without it the content decides. Where the format is given, other files that it names, parents above all, are looked for wherever it says, and
    /// not only in its folder.
    #[arg(long, value_name = "FORMAT", value_parser = format(), ignore_case = true)]
    format: Option<FormatHint>,
    /// The same as --format raw
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    #[command(flatten)]
    parents: ParentArgs,
}

/// Where parents are looked for.
#[derive(clap::Args)]
pub struct ParentArgs {
    /// Another folder to look in for parents and other files of an image (or such a file itself)
    #[arg(long, value_name = "DIR")]
    parent: Vec<PathBuf>,
}

impl ImageArgs {
    /// What they say.
    pub fn options(&self) -> OpenOptions {
        let raw = self.raw.then_some(FormatHint::Raw);
        self.parents
            .options(self.format.or(raw).unwrap_or_default())
    }
}

impl ParentArgs {
    /// What they say, of an image of which this is known.
    pub fn options(&self, hint: FormatHint) -> OpenOptions {
        OpenOptions {
            hint,
            parents: self.parent.clone(),
        }
    }
}

/// Reads the name of a format, and lists those there are.
fn format() -> impl TypedValueParser<Value = FormatHint> {
    PossibleValuesParser::new(names()).try_map(|name| name.parse::<FormatHint>())
}

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    let known = FormatHint::KNOWN.iter().map(|hint| hint.name());
    std::iter::once(FormatHint::Detect.name()).chain(known)
}
