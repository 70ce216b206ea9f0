//! `cairn mount STORE|IMAGE MNT`

use crate::account::{Group, User};
use crate::address::open_store;
use crate::exit::{Answer, Exit, Failure, warn, warn_once};
use crate::guests::GuestArgs;
use crate::images::ImageArgs;
use crate::signals;
use cairn::{DiskView, Error, Kind, Store};
use cairn_fuse::{Look, MountOptions, Mounted, Scratch, Unmounted, mount_image, mount_store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long it is waited before what could not be unmounted is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Mount a store or a disk image as files; Ctrl-C or umount ends it.
///
/// Without options only you can look, and you can read everything: owners and modes of the guests' files are shown as they are, and not enforced.
#[derive(clap::Args)]
pub struct Args {
    /// A store, or a disk image (raw, VHD, VHDX, QCOW2, VDI, VMDK)
    #[arg(value_name = "STORE|IMAGE")]
    source: PathBuf,
    /// An empty folder
    #[arg(value_name = "MNT")]
    mountpoint: PathBuf,
    /// Let other users look too, within the permissions that are shown
    ///
    /// From then on the kernel enforces the owners, modes and access control lists of the guests' files, also for you unless you are root. `disks/*.raw` and
    /// `versions` stay yours alone. Who is not root may use it only if an administrator wrote the line `user_allow_other` to /etc/fuse.conf.
    #[arg(long)]
    allow_other: bool,
    /// Show all files of the guests as this user's
    #[arg(long, value_name = "N|NAME")]
    uid: Option<User>,
    /// Show all files of the guests as this group's
    #[arg(long, value_name = "N|NAME")]
    gid: Option<Group>,
    /// Take these bits from the modes of the guests' files, as in `--umask 027`
    #[arg(long, value_name = "OCTAL", value_parser = umask)]
    umask: Option<u32>,
    /// Let everybody who may look read all files and enter all folders, whatever their modes say; `disks/*.raw` and `versions` too
    #[arg(long)]
    permissive: bool,
    /// Find names whose case is not right, where only one fits
    ///
    /// For programs that are used to Windows, and for Samba with `case sensitive = yes`. NTFS, FAT and exFAT need no such option.
    #[arg(long)]
    ignore_case: bool,
    #[command(flatten)]
    how: ImageArgs,
    #[command(flatten)]
    guests: GuestArgs,
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

fn umask(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| "an octal number up to 777 is needed, such as 027".into())
}

impl Args {
    fn options(&self) -> MountOptions {
        MountOptions {
            allow_other: self.allow_other,
            writable: self.writable.then(|| Scratch {
                folder: self.scratch.clone(),
                keep: self.keep,
            }),
            look: Look {
                uid: self.uid.map(|user| user.0),
                gid: self.gid.map(|group| group.0),
                umask: self.umask,
                permissive: self.permissive,
                ignore_case: self.ignore_case,
            },
            source: shown(&self.source),
            journal: Some(Arc::new(|line: &str| eprintln!("cairn: {line}"))),
            ..MountOptions::default()
        }
    }
}

/// What `df` shows as the source of a mount: the full path.
pub fn shown(source: &Path) -> String {
    let full = source.canonicalize();
    full.as_deref().unwrap_or(source).display().to_string()
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let options = args.options();
    let mounted = if Store::is_store(&args.source) {
        let store = open_store(&args.source)?.with_read_options(args.guests.options()?);
        mount_store(store, &args.mountpoint, &options)?
    } else if args.source.is_dir() {
        return Err(Error::new(Kind::NotFound, "the folder is no store")
            .at_path(&args.source)
            .advise("name a store made by `cairn init`, or a disk image")
            .into());
    } else {
        let how = args.how.options();
        let view = DiskView::open_image_with(&args.source, &how).map_err(Failure::of_input)?;
        for warning in view.warnings() {
            warn(&format!("{}: {warning}", args.source.display()));
        }
        let view = view.with_read_options(args.guests.options()?);
        mount_image(view, &args.mountpoint, &options)?
    };
    eprintln!(
        "cairn: {} is mounted on {}; Ctrl-C or `umount` ends it",
        args.source.display(),
        args.mountpoint.display()
    );
    let ended = mounted
        .wait_or(&signals::stop_flag())
        .and_then(|is_gone| Ok(!is_gone && end(&mounted)? == Unmounted::StillInUse));
    let still_in_use = matches!(ended, Ok(true));
    let flushed = then_flush(ended, || mounted.flush());
    if still_in_use {
        warn("files of the mount are still in use: their users get errors now");
        mounted.leave();
    }
    flushed?;
    Ok(if still_in_use {
        Exit::Warnings
    } else {
        Exit::Done
    })
}

/// Unmounts. What others have mounted in it, or over it, is not taken along: then it is served on until that is gone, or a second signal ends this process.
fn end(mounted: &Mounted) -> cairn::Result<Unmounted> {
    loop {
        match mounted.unmount() {
            Err(error) if error.kind() == Kind::Busy => {
                // What is in the way may be something else each time.
                warn_once(&error.to_string());
                warn_once(
                    "it is served until then, and ends by itself; Ctrl-C once more ends it at once",
                );
                // That would leave no time for it, and what is served on is written to.
                if let Err(error) = mounted.flush() {
                    warn_once(&error.to_string());
                }
                std::thread::sleep(AGAIN);
            }
            ended => return ended,
        }
    }
}

/// What `ended` says, after `flush`, which is done however the mount ended: what was written is worth more than the mount.
/// The first error is the answer, a second one is told.
fn then_flush<T>(
    ended: cairn::Result<T>,
    flush: impl FnOnce() -> cairn::Result<()>,
) -> cairn::Result<T> {
    match (ended, flush()) {
        (Err(first), Err(second)) => {
            warn(&second.to_string());
            Err(first)
        }
        (ended, flushed) => ended.and_then(|it| flushed.map(|()| it)),
    }
}

#[cfg(test)]
mod tests;
