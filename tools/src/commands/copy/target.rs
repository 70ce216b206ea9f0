//! Where copies go: a folder, a new name, a file, standard output.

use super::Args;
use crate::address::Address;
use crate::exit::Failure;
use crate::output;
use cairn::copy::{UNFINISHED, new_partial};
use cairn::{Error, Kind, PointView};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where to.
pub struct Place {
    /// As it was given.
    pub dest: PathBuf,
    /// The folder into which everything goes.
    folder: PathBuf,
    /// The name of the one thing that is copied, if it gets another one.
    name: Option<Vec<u8>>,
    /// The name that the one thing gets in a folder that is there.
    into: Option<Vec<u8>>,
    parents: bool,
    /// With --parents: whether points' names are part of the paths.
    points: bool,
    archive: bool,
}

impl Place {
    /// Of what is asked for.
    pub fn of(args: &Args, dest: &OsString, addresses: &[Address<'_>]) -> Result<Place, Failure> {
        let dest = PathBuf::from(dest);
        let archive = args.format.is_some();
        if archive && args.json && dest == Path::new("-") {
            return Err(
                Error::invalid("standard output has the archive, so --json has no place").into(),
            );
        }
        let several = addresses.iter().any(|a| a.point != addresses[0].point);
        let mut place = Place {
            folder: dest.clone(),
            name: None,
            into: None,
            parents: args.parents,
            points: args.parents && several,
            archive,
            dest,
        };
        let one = addresses.len() == 1 && args.from_file.is_none() && !args.parents && !archive;
        // What goes on may have made the folder itself.
        let goes_on = args.resume && place.dest.join(UNFINISHED).symlink_metadata().is_ok();
        if one && place.dest.is_dir() && !goes_on {
            place.into = addresses.first().map(|a| a.last_name().to_vec());
        } else if one {
            let missing = || Error::invalid("the target has no name");
            let name = place.dest.file_name().ok_or_else(missing)?;
            place.name = Some(name.as_bytes().to_vec());
            let above = place.dest.parent();
            let above = above.filter(|path| !path.as_os_str().is_empty());
            place.folder = above.unwrap_or(Path::new(".")).to_path_buf();
        }
        Ok(place)
    }

    /// The folder, which is made if several things go into it.
    pub fn open_folder(&self) -> Result<PathBuf, Failure> {
        if self.name.is_none() {
            match std::fs::create_dir(&self.folder) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("cannot make the folder", &self.folder, e).into());
                }
                _ => {}
            }
        }
        Ok(self.folder.clone())
    }

    /// Where an address goes, below the folder or in the archive.
    pub fn path_of(&self, addresses: &[Address<'_>], number: usize, point: &PointView) -> Vec<u8> {
        let Some(address) = addresses.get(number) else {
            return Vec::new();
        };
        if let Some(name) = &self.name {
            return name.clone();
        }
        if !self.parents {
            // A volume has no name of a file: its folder takes the volume's.
            return address.last_name().to_vec();
        }
        let mut path = Vec::new();
        if self.points {
            let record = point.point();
            path.extend_from_slice(record.record.machine.as_bytes());
            path.push(b'/');
            path.extend_from_slice(record.time().folder_name().as_bytes());
        }
        for name in address.names() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// Whether standard output is the target.
    pub fn is_stream(&self) -> bool {
        self.archive && self.dest == Path::new("-")
    }

    /// What to call it.
    pub fn shown(&self) -> String {
        let shown = match &self.into {
            Some(name) => self.dest.join(OsStr::from_bytes(name)),
            None => self.dest.clone(),
        };
        shown.display().to_string()
    }
}

/// An archive that is being written: to standard output, or to a file that has its name only when it is whole.
pub enum ToFile {
    /// Standard output.
    Stream,
    /// A file under another name, the one it gets, and whether it may replace something.
    File(Option<File>, PathBuf, PathBuf, bool),
}

impl ToFile {
    pub fn create(path: &Path, replace: bool) -> Result<ToFile, Failure> {
        if path == Path::new("-") {
            return Ok(ToFile::Stream);
        }
        if path.file_name().is_none() || path.is_dir() {
            let what = "the target of an archive is a file";
            return Err(Error::new(Kind::Exists, what).at_path(path).into());
        }
        if !replace && path.symlink_metadata().is_ok() {
            return Err(exists(path).into());
        }
        let (file, beside) = new_partial(folder_of(path))?;
        Ok(ToFile::File(
            Some(file),
            beside,
            path.to_path_buf(),
            replace,
        ))
    }

    /// It is whole: it lies on the disk, and has its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        let ToFile::File(file, beside, path, replace) = &mut self else {
            return Ok(());
        };
        let failed = |e| Error::io("cannot write the archive", path, e);
        if let Some(file) = file {
            file.sync_all().map_err(failed)?;
        }
        if *replace {
            std::fs::rename(&*beside, &*path).map_err(failed)?;
        } else {
            let named = std::fs::hard_link(&*beside, &*path);
            match named.map_err(|e| (e.kind(), e)) {
                Ok(()) => {}
                Err((std::io::ErrorKind::AlreadyExists, _)) => return Err(exists(path).into()),
                // A file system without second names.
                Err(_) if path.symlink_metadata().is_err() => {
                    std::fs::rename(&*beside, &*path).map_err(failed)?;
                }
                Err((_, e)) => return Err(failed(e).into()),
            }
        }
        let folder = File::open(folder_of(path));
        folder
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn exists(path: &Path) -> Error {
    Error::new(Kind::Exists, "the target is there already")
        .at_path(path)
        .advise("choose another target, or say --force")
}

impl Drop for ToFile {
    fn drop(&mut self) {
        if let ToFile::File(file, beside, ..) = self {
            drop(file.take());
            // Half an archive must not pass for a whole one; a whole one has its name.
            let _gone = std::fs::remove_file(beside);
        }
    }
}

impl Write for ToFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            ToFile::File(Some(file), ..) => file.write(bytes),
            ToFile::File(None, ..) => Ok(0),
            ToFile::Stream => {
                // A reader that has gone away wants no more.
                let written = output::write(bytes);
                written.map_err(|failure| std::io::Error::other(failure.error().clone()))?;
                if output::reader_is_gone() {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
