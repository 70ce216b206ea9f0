//! `cairn mount STORE|IMAGE MNT`

use crate::address::open_store;
use crate::exit::{Answer, Exit, Failure, warn};
use crate::signals;
use cairn::{DiskView, Error, Kind, Store};
use cairn_fuse::{MountOptions, Scratch, Unmounted, mount_image, mount_store};
use std::path::PathBuf;

/// Mount a store or a disk image as files; Ctrl-C or umount ends it.
#[derive(clap::Args)]
pub struct Args {
    /// A store, or a disk image (raw, VHD, VHDX)
    #[arg(value_name = "STORE|IMAGE")]
    source: PathBuf,
    /// An empty folder
    #[arg(value_name = "MNT")]
    mountpoint: PathBuf,
    /// Let other users look too, within the permissions that the guests' files have
    #[arg(long)]
    allow_other: bool,
    /// Disks (`disks/*.raw`) can be written to: what is written goes to scratch files, and is gone at the end
    #[arg(long)]
    writable: bool,
    /// Where the scratch files lie (without it: TMPDIR, or /var/tmp)
    #[arg(long, value_name = "DIR", requires = "writable")]
    scratch: Option<PathBuf>,
    /// What was written stays in the scratch folder, for the next mount with it
    #[arg(long, requires = "scratch")]
    keep: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let options = MountOptions {
        allow_other: args.allow_other,
        writable: args.writable.then(|| Scratch {
            folder: args.scratch.clone(),
            keep: args.keep,
        }),
        ..MountOptions::default()
    };
    let mounted = if Store::is_store(&args.source) {
        mount_store(open_store(&args.source)?, &args.mountpoint, &options)?
    } else if args.source.is_dir() {
        return Err(Error::new(Kind::NotFound, "the folder is no store")
            .at_path(&args.source)
            .advise("name a store made by `cairn init`, or a disk image")
            .into());
    } else {
        let view = DiskView::open_image(&args.source).map_err(Failure::of_input)?;
        for warning in view.warnings() {
            warn(&format!("{}: {warning}", args.source.display()));
        }
        mount_image(view, &args.mountpoint, &options)?
    };
    eprintln!(
        "cairn: {} is mounted on {}; Ctrl-C or `umount` ends it",
        args.source.display(),
        args.mountpoint.display()
    );
    let is_gone = mounted.wait_or(&signals::stop_flag())?;
    let still_in_use = !is_gone && mounted.unmount()? == Unmounted::StillInUse;
    mounted.flush()?;
    if still_in_use {
        eprintln!(
            "cairn: warning: files of the mount are still in use: their users get errors now"
        );
        return Ok(Exit::Warnings);
    }
    Ok(Exit::Done)
}
