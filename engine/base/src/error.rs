//! One error type for every floor: what failed, where, why, and what the user can do.
//!
//! The [`Kind`] is small and stable: the command line turns it into an exit code and the mount into an
//! errno, each in one exhaustive match. Everything else is words and plain numbers, so that this module
//! needs to know nothing of the floors above.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of everything in Cairn that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing asked for is not there.
    NotFound,
    /// The thing to be made is there already; nothing is overwritten unasked.
    Exists,
    /// The caller asked for something that makes no sense (a bad name, a range past the end).
    Invalid,
    /// Well-formed, but not something this version reads or does.
    Unsupported,
    /// The bytes contradict their format or their checksum.
    Damaged,
    /// The operating system refused or failed a call.
    Io,
    /// No space, or a quota is exhausted.
    Full,
    /// Somebody else holds the lock: another backup of the machine, another host.
    Busy,
    /// Permission denied.
    Denied,
    /// The user asked to stop; nothing is lost.
    Interrupted,
}

impl Kind {
    /// Whether the same may go well another time, because nothing was found out of what was asked for: such a failure is not to be remembered.
    pub fn may_pass(self) -> bool {
        match self {
            Kind::Io | Kind::Full | Kind::Busy | Kind::Denied | Kind::Interrupted => true,
            Kind::NotFound | Kind::Exists | Kind::Invalid | Kind::Unsupported | Kind::Damaged => {
                false
            }
        }
    }

    fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::Exists,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Denied,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::Full,
            E::Unsupported => Kind::Unsupported,
            E::UnexpectedEof => Kind::Damaged,
            E::WouldBlock => Kind::Busy,
            _ => Kind::Io,
        }
    }
}

/// What was read; `None` if the bytes are lost.
///
/// # Errors
/// A failure that says nothing of the bytes ([`Error::is_momentary`]).
pub fn unless_lost<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_momentary() => Err(error),
        Err(_) => Ok(None),
    }
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    id: Option<String>,
    advice: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What failed, where (file, offset, id), why, and what the user can do.
///
/// Cheap to clone, so that a failed look-up can be remembered and told again.
#[derive(Debug, Clone)]
pub struct Error(Arc<Inner>);

impl Error {
    /// A failure of `kind`; `what` is a sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Error {
        Error(Arc::new(Inner {
            kind,
            what: what.into(),
            path: None,
            offset: None,
            id: None,
            advice: None,
            source: None,
        }))
    }

    /// The bytes contradict their format.
    pub fn damaged(what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Damaged, what)
    }

    /// Well-formed, but not read by this version.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Unsupported, what)
    }

    /// The caller's mistake.
    pub fn invalid(what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Invalid, what)
    }

    /// The thing asked for is not there.
    pub fn not_found(what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::NotFound, what)
    }

    /// The user asked to stop.
    pub fn interrupted() -> Error {
        Error::new(Kind::Interrupted, "stopped on request")
    }

    /// A failed system call; the kind follows from the error.
    pub fn io(what: impl Into<Cow<'static, str>>, path: &Path, error: std::io::Error) -> Error {
        let kind = Kind::of_io(&error);
        Error::new(kind, what).at_path(path).caused_by(error)
    }

    fn edit(self, change: impl FnOnce(&mut Inner)) -> Error {
        let mut inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner,
            // Shared already: keep what was said and hang it below.
            Err(shared) => {
                let mut copy = Inner {
                    kind: shared.kind,
                    what: shared.what.clone(),
                    path: shared.path.clone(),
                    offset: shared.offset,
                    id: shared.id.clone(),
                    advice: shared.advice.clone(),
                    source: None,
                };
                if shared.source.is_some() {
                    copy.source = Some(Box::new(Shared(shared)));
                }
                copy
            }
        };
        change(&mut inner);
        Error(Arc::new(inner))
    }

    /// Names the file; the innermost place wins, because it is the most exact.
    pub fn at_path(self, path: impl AsRef<Path>) -> Error {
        self.edit(|e| {
            if e.path.is_none() {
                e.path = Some(path.as_ref().to_path_buf());
            }
        })
    }

    /// Names the byte offset in the file or disk; the innermost wins.
    pub fn at_offset(self, offset: u64) -> Error {
        self.edit(|e| {
            if e.offset.is_none() {
                e.offset = Some(offset);
            }
        })
    }

    /// Names the chunk, pack or point, in hexadecimal; the innermost wins.
    pub fn with_id(self, id: impl fmt::Display) -> Error {
        self.edit(|e| {
            if e.id.is_none() {
                e.id = Some(id.to_string());
            }
        })
    }

    /// Says what the user can do, a sentence without a full stop; the innermost wins.
    pub fn advise(self, advice: impl Into<Cow<'static, str>>) -> Error {
        self.edit(|e| {
            if e.advice.is_none() {
                e.advice = Some(advice.into());
            }
        })
    }

    /// Hangs the underlying failure below this one.
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.edit(|e| e.source = Some(Box::new(source)))
    }

    /// Puts this failure into a larger context: `what` goes in front, kind and places stay.
    pub fn context(self, what: impl Into<Cow<'static, str>>) -> Error {
        let kind = self.kind();
        let what = what.into();
        Error::new(kind, what).caused_by(self)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The file concerned, the innermost one named.
    pub fn path(&self) -> Option<&Path> {
        self.0
            .path
            .as_deref()
            .or_else(|| self.inner_error()?.path())
    }

    /// The byte offset concerned, the innermost one named.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset.or_else(|| self.inner_error()?.offset())
    }

    /// What failed, why, and what the user can do, without the places: for reports that name them apart.
    pub fn reason(&self) -> String {
        let why = match (&self.0.source, self.inner_error()) {
            (_, Some(error)) => format!(": {}", error.reason()),
            (Some(source), None) => format!(": {source}"),
            (None, None) => String::new(),
        };
        let advice = self.0.advice.as_ref();
        let advice = advice.map(|advice| format!("; {advice}"));
        format!("{}{why}{}", self.0.what, advice.unwrap_or_default())
    }

    /// What the user can do, if that is said; the innermost that is.
    pub fn advice(&self) -> Option<&str> {
        let inner = self.inner_error().and_then(Error::advice);
        inner.or(self.0.advice.as_deref())
    }

    /// The chunk, pack or point concerned.
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref().or_else(|| self.inner_error()?.id())
    }

    /// Whether the failure says nothing of the bytes themselves: no descriptors, no memory, a server that does not answer. Tried
    /// again later it may go well. A disk that cannot read a sector is not momentary.
    pub fn is_momentary(&self) -> bool {
        use rustix::io::Errno;
        match self.kind() {
            Kind::Io => {}
            Kind::Damaged | Kind::NotFound => return false,
            _ => return true,
        }
        let lasting = [Errno::IO, Errno::UCLEAN, Errno::BADMSG].map(Errno::raw_os_error);
        let code = |error: &std::io::Error| error.raw_os_error();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            if let Some(code) = error.downcast_ref::<std::io::Error>().and_then(code) {
                return !lasting.contains(&code);
            }
            source = error.source();
        }
        // Not from the system: what a map met, or a test.
        false
    }

    fn inner_error(&self) -> Option<&Error> {
        let mut source = self.0.source.as_ref()?;
        // One that was cloned in between hangs below its copy.
        while let Some(shared) = source.downcast_ref::<Shared>() {
            source = shared.0.source.as_ref()?;
        }
        source.downcast_ref::<Error>()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_inner(&self.0, f)
    }
}

fn write_inner(e: &Inner, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&e.what)?;
    let mut places = Vec::new();
    if let Some(path) = &e.path {
        places.push(path.display().to_string());
    }
    if let Some(offset) = e.offset {
        places.push(format!("byte {offset}"));
    }
    if let Some(id) = &e.id {
        places.push(format!("id {id}"));
    }
    if !places.is_empty() {
        write!(f, " ({})", places.join(", "))?;
    }
    if let Some(source) = &e.source {
        write!(f, ": {source}")?;
    }
    if let Some(advice) = &e.advice {
        write!(f, "; {advice}")?;
    }
    Ok(())
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

/// The cause of an error that was cloned before more was said about it.
#[derive(Debug)]
struct Shared(Arc<Inner>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            Some(source) => fmt::Display::fmt(source, f),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            Kind::NotFound => E::NotFound,
            Kind::Exists => E::AlreadyExists,
            Kind::Invalid => E::InvalidInput,
            Kind::Unsupported => E::Unsupported,
            Kind::Damaged => E::InvalidData,
            Kind::Io => E::Other,
            Kind::Full => E::StorageFull,
            Kind::Busy => E::WouldBlock,
            Kind::Denied => E::PermissionDenied,
            Kind::Interrupted => E::Interrupted,
        };
        std::io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_what_to_do() {
        let error = Error::io(
            "cannot read the image",
            Path::new("/a/b.vhdx"),
            std::io::Error::from_raw_os_error(5),
        )
        .at_offset(512)
        .advise("check the disk it lies on");
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read the image (/a/b.vhdx, byte 512): "),
            "{text}"
        );
        assert!(text.ends_with("; check the disk it lies on"), "{text}");
        assert_eq!(error.kind(), Kind::Io);
    }

    #[test]
    fn innermost_place_wins_and_shows_through_context() {
        let error = Error::damaged("bad magic")
            .at_offset(7)
            .at_offset(9)
            .context("cannot open");
        assert_eq!(error.offset(), Some(7));
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(error.to_string(), "cannot open: bad magic (byte 7)");
        assert_eq!(error.reason(), "cannot open: bad magic");
    }

    #[test]
    fn a_clone_can_be_told_more() {
        let error = Error::io(
            "open",
            Path::new("/x"),
            std::io::Error::from_raw_os_error(2),
        );
        let kept = error.clone();
        let more = error.advise("look elsewhere");
        assert!(more.to_string().contains("No such file"), "{more}");
        assert!(!kept.to_string().contains("elsewhere"));
        assert_eq!(more.kind(), Kind::NotFound);
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        use rustix::io::Errno;
        let of = |errno: Errno| Error::io("cannot read", Path::new("/x"), errno.into());
        for (errno, momentary) in [
            (Errno::IO, false),
            (Errno::NOENT, false),
            (Errno::MFILE, true),
            (Errno::STALE, true),
            (Errno::TIMEDOUT, true),
            (Errno::ACCESS, true),
        ] {
            let error = of(errno).context("a chunk is lost").with_id("7");
            assert_eq!(error.is_momentary(), momentary, "{error}");
        }
        // Kept by somebody else while more is said of it.
        let shared = of(Errno::TIMEDOUT).at_offset(7);
        let more = shared.clone().with_id("7").context("a chunk is lost");
        assert!(more.is_momentary(), "{more}");
        let outer = shared.context("above");
        let kept = outer.clone();
        assert_eq!(outer.with_id("8").offset(), Some(7), "{kept}");
        assert!(!Error::damaged("x").is_momentary());
        assert!(!Error::new(Kind::Io, "a page was lost").is_momentary());
        assert!(Error::interrupted().is_momentary());
    }
}
