//! An installation of Windows, and what its registry says of letters.

use cairn_base::{Error, Time};
use cairn_guest::Note;
use cairn_guest::mounted_devices::MountedDevice;

/// An installation of Windows, or why it cannot be told whether there is one.
pub struct Installation {
    /// The number of its volume in the layout.
    pub volume: usize,
    /// Its folder in the root, for people; empty if it is not known.
    pub folder: String,
    /// What its hive says, if it can be read.
    pub hive: Option<SystemHive>,
    /// What could not be read.
    pub failures: Vec<Error>,
}

/// What was found on a volume.
#[derive(Default)]
pub struct Looked {
    /// The installations, and what failed.
    pub installations: Vec<Installation>,
    /// Why it stays locked, if it is encrypted and no key opens it.
    pub locked: Option<Error>,
    /// Which bounds were met.
    pub notes: Vec<Note>,
}

/// What a SYSTEM hive says.
pub struct SystemHive {
    /// When it was written last.
    pub written: Time,
    /// Letters and names of volumes.
    pub devices: Vec<MountedDevice>,
    /// What a user should know of the hive.
    pub notes: Vec<Note>,
}

impl Installation {
    /// When its registry was written last.
    pub fn written(&self) -> Time {
        self.hive
            .as_ref()
            .map_or(Time::default(), |hive| hive.written)
    }
}
