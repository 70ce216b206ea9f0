//! `cairn serve nbd STORE POINT`, `cairn serve nbd IMAGE`

use crate::address::{open_named, open_store};
use crate::exit::{Answer, Exit, Failure, warn};
use crate::images::ImageArgs;
use crate::output;
use crate::signals;
use cairn::{
    DiskView, Error, Kind, Monitor, NbdEnded, NbdExport, NbdServer, Overlay, OverlayBase,
    PointView, Store,
};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Serve the disks of a point or an image to hypervisors and tools.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(clap::Subcommand)]
enum Protocol {
    /// Over the NBD protocol; Ctrl-C ends it. Prints the address of each disk
    Nbd(NbdArgs),
}

#[derive(clap::Args)]
struct NbdArgs {
    /// A store, or a disk image (raw, VHD, VHDX, QCOW2, VDI, VMDK)
    #[arg(value_name = "STORE|IMAGE")]
    source: PathBuf,
    /// The point, of a store
    #[arg(conflicts_with_all = ["format", "raw", "parent"])]
    point: Option<String>,
    /// Only this disk
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    #[command(flatten)]
    how: ImageArgs,
    /// The socket, for its owner only; without it one is made in the folder that XDG_RUNTIME_DIR names, or /tmp
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    socket: Option<PathBuf>,
    /// A port of this machine instead of a socket: every user of it can read the disks then. Port 0 is any that is free
    #[arg(long, value_name = "127.0.0.1:PORT")]
    listen: Option<SocketAddr>,
    /// Listen on an address that other machines can reach. Nothing is encrypted, and nobody is asked who he is
    #[arg(long, requires = "listen")]
    allow_remote: bool,
    /// Let clients write to private copies, which are deleted at the end. The point or image stays as it is
    #[arg(long)]
    writable: bool,
    /// Where what is written goes; without it to the folder that TMPDIR names, or /var/tmp
    #[arg(long, value_name = "DIR", requires = "writable")]
    scratch: Option<PathBuf>,
    /// Keep what is written in the scratch folder, and go on with what was kept there before
    #[arg(long, requires = "writable", requires = "scratch")]
    keep: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let Protocol::Nbd(args) = &args.protocol;
    let source = Source::open(args)?;
    let mut overlays = Vec::new();
    let mut exports = Vec::new();
    for disk in source.disks(args.disk.as_deref())? {
        let name = disk.name();
        let description = source.describe(name);
        if !args.writable {
            exports.push(NbdExport::fixed(name, description, disk.disk().clone()));
            continue;
        }
        let base = disk.disk().clone();
        let scratch = args.scratch.as_deref();
        let overlay = match scratch.filter(|_| args.keep) {
            Some(folder) => Overlay::kept(base, folder, &source.base_of(&disk))?,
            None => Overlay::temporary(base, scratch)?,
        };
        let overlay = Arc::new(overlay);
        overlays.push(overlay.clone());
        exports.push(NbdExport::writable(name, description, overlay));
    }
    let server = match args.listen {
        Some(address) => NbdServer::tcp(exports, address, args.allow_remote)?,
        None => {
            let path = args.socket.clone().unwrap_or_else(default_socket);
            NbdServer::unix(exports, &path)?
        }
    };
    for uri in server.uris() {
        output::line(&uri)?;
    }
    eprintln!("cairn: {} is served; Ctrl-C ends it", args.source.display());
    let ended = server.run(&signals::stop_flag(), Arc::new(Teller));
    drop(server);
    let ended = ended.map(|ended| {
        if let NbdEnded::Hanging(clients) = ended {
            warn(&format!(
                "requests of {clients} clients hang, and were left to themselves"
            ));
        }
    });
    let flushed = overlays.iter().map(|overlay| overlay.flush());
    first_failure(std::iter::once(ended).chain(flushed))?;
    Ok(Exit::Done)
}

/// Does all of it, whatever becomes of a part; the first failure is the answer, others are warnings.
fn first_failure(all: impl Iterator<Item = Result<(), Error>>) -> Result<(), Error> {
    let mut answer = Ok(());
    for outcome in all {
        match outcome {
            Err(error) if answer.is_err() => warn(&error.to_string()),
            Err(error) => answer = Err(error),
            Ok(()) => {}
        }
    }
    answer
}

/// Tells on standard error what could not be read or written.
struct Teller;

impl Monitor for Teller {
    fn warn(&self, warning: &str) {
        warn(warning);
    }
}

fn default_socket() -> PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_dir());
    let name = format!("cairn-nbd-{}.sock", std::process::id());
    folder.unwrap_or_else(|| PathBuf::from("/tmp")).join(name)
}

/// What is served.
enum Source<'a> {
    Point(Box<PointView>),
    Image(Arc<DiskView>, &'a Path),
}

impl<'a> Source<'a> {
    fn open(args: &'a NbdArgs) -> Result<Source<'a>, Failure> {
        if let Some(point) = &args.point {
            let store = open_store(&args.source)?;
            return Ok(Source::Point(Box::new(open_named(&store, point)?)));
        }
        if Store::is_store(&args.source) {
            return Err(Error::invalid("which point of the store?")
                .advise("see `cairn points`")
                .into());
        }
        if args.source.is_dir() {
            return Err(Error::new(Kind::NotFound, "the folder is no store")
                .at_path(&args.source)
                .advise("name a store and a point, or a disk image")
                .into());
        }
        let how = args.how.options();
        let view = DiskView::open_image_with(&args.source, &how).map_err(Failure::of_input)?;
        for warning in view.warnings() {
            warn(&format!("{}: {warning}", args.source.display()));
        }
        Ok(Source::Image(Arc::new(view), &args.source))
    }

    /// The disks, or the one that is named.
    fn disks(&self, name: Option<&str>) -> Result<Vec<Arc<DiskView>>, Failure> {
        let all = match self {
            Source::Point(point) => point.disks(),
            Source::Image(disk, _) => std::slice::from_ref(disk),
        };
        let Some(name) = name else {
            return Ok(all.to_vec());
        };
        let disk = all.iter().find(|disk| disk.name() == name).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|disk| disk.name()).collect();
            Error::not_found(format!("there is no disk `{name}`"))
                .advise(format!("there is {}", names.join(", ")))
        })?;
        Ok(vec![disk.clone()])
    }

    fn describe(&self, disk: &str) -> String {
        match self {
            Source::Point(point) => {
                let record = point.point();
                format!("{disk} of {} at {}", record.record.machine, record.time())
            }
            Source::Image(_, path) => format!("{disk} of {}", path.display()),
        }
    }

    fn base_of(&self, disk: &DiskView) -> OverlayBase {
        match self {
            Source::Point(point) => OverlayBase::of_point(point.point(), disk.name()),
            Source::Image(..) => OverlayBase::of_view(disk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_nothing_from_being_done() {
        let mut done = 0;
        let all = [true, false, true, false].into_iter().map(|is_well| {
            done += 1;
            match is_well {
                true => Ok(()),
                false => Err(Error::invalid(format!("number {done}"))),
            }
        });
        let failure = first_failure(all).unwrap_err();
        assert!(failure.to_string().contains("number 2"), "{failure}");
        assert_eq!(done, 4);
    }
}
