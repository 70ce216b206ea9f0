//! `cairn cat STORE POINT:/disk/pN/path`

use crate::address::{Address, Target, open_point, resolve};
use crate::exit::{Answer, Exit, Failure};
use crate::guests::GuestArgs;
use crate::output;
use crate::signals;
use cairn::{Error, ReadAt};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Write a file of a point to standard output.
///
/// Why its volume may be shown old, in part or wrong is named, and the command ends with 3.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// POINT:/disk/pN/path or POINT:C:/path of a file, or POINT:/disk for the whole disk
    #[arg(value_name = "POINT:/disk/pN/path")]
    address: OsString,
    /// A named stream of the file (NTFS alternate data stream)
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    #[command(flatten)]
    guests: GuestArgs,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let address = Address::parse(&args.address)?;
    let point = open_point(&args.store, &address, args.guests.options()?)?;
    let source: Arc<dyn ReadAt> = match resolve(&point, &address.path)? {
        Target::Point => {
            return Err(Error::invalid("a point is no file")
                .advise("name a file: POINT:/disk0/p1/path")
                .into());
        }
        Target::Disk(disk) => disk.disk().clone(),
        Target::Entry(volume, id) => match &args.stream {
            Some(name) => volume
                .open_stream(id, name.as_bytes())
                .map_err(Failure::of_guest)?,
            None => volume.open(id).map_err(Failure::of_guest)?,
        },
    };
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0u64;
    while at < source.size() && !output::reader_is_gone() {
        if signals::stop_requested() {
            return Err(Error::interrupted().into());
        }
        let left = usize::try_from(source.size() - at).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let part = &mut buffer[..length];
        source.read_exact_at(at, part).map_err(Failure::of_guest)?;
        output::write(part)?;
        at += cairn::units::to_u64(length);
    }
    Ok(Exit::Done)
}
