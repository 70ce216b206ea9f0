//! Which volumes a machine has, and what Windows calls them.

use super::installation::Installation;
use crate::view::VolumeView;
use cairn_base::Error;
use cairn_guest::mounted_devices::MountedName;
use cairn_guest::{DeviceId, Note, partition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A volume of a machine: whatever has an id by which Windows knows it, and can be opened.
pub struct MachineVolume {
    disk: usize,
    path: String,
    ids: Vec<DeviceId>,
    view: Arc<VolumeView>,
}

impl MachineVolume {
    /// Position of its disk among the machine's.
    pub fn disk(&self) -> usize {
        self.disk
    }

    /// Where it is found: `disk0/p1`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The volume.
    pub fn view(&self) -> &Arc<VolumeView> {
        &self.view
    }
}

/// The volumes of a machine, and what Windows calls them.
pub struct MachineLayout {
    volumes: Vec<MachineVolume>,
    letters: BTreeMap<u8, usize>,
    /// By the GUID that the mount manager gave, as text.
    names: BTreeMap<String, usize>,
    notes: Vec<Note>,
    is_final: bool,
}

impl MachineLayout {
    pub(super) fn new() -> MachineLayout {
        MachineLayout {
            volumes: Vec::new(),
            letters: BTreeMap::new(),
            names: BTreeMap::new(),
            notes: Vec::new(),
            is_final: true,
        }
    }

    /// All volumes, disk by disk.
    pub fn volumes(&self) -> &[MachineVolume] {
        &self.volumes
    }

    /// The drive letters, `A` to `Z`, each with its volume.
    pub fn letters(&self) -> impl Iterator<Item = (char, &MachineVolume)> {
        let letters = self.letters.iter();
        letters.filter_map(|(letter, at)| Some((char::from(*letter), self.volumes.get(*at)?)))
    }

    /// The volume with a drive letter, which may be given in small.
    pub fn letter(&self, letter: u8) -> Option<&MachineVolume> {
        let at = self.letters.get(&letter.to_ascii_uppercase())?;
        self.volumes.get(*at)
    }

    /// The drive letters of the volume of a partition of the disk at a position.
    pub fn letters_of(&self, disk: usize, number: u32) -> Vec<char> {
        let of = |volume: &MachineVolume| volume.disk == disk && volume.view.number() == number;
        let letters = self.letters().filter(|(_, volume)| of(volume));
        letters.map(|(letter, _)| letter).collect()
    }

    /// The volume that Windows calls `Volume{GUID}`: `guid` in small letters, without braces.
    pub fn named(&self, guid: &str) -> Option<&MachineVolume> {
        self.volumes.get(*self.names.get(guid)?)
    }

    /// What a user should know of the letters: why some may be missing or old, and whose they are where there is more than one Windows.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether nothing failed for a reason that says nothing of the disks, so that looking again is of no use.
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    pub(super) fn add_disk(&mut self, disk: usize, name: &str, volumes: &[Arc<VolumeView>]) {
        for view in volumes {
            self.volumes.push(MachineVolume {
                disk,
                path: format!("{name}/{}", view.folder_name()),
                ids: view.device_ids().to_vec(),
                view: view.clone(),
            });
        }
    }

    /// Something could not be looked at. A sector that a disk cannot read is no reason to look again and again: only a failure that says nothing of the bytes is.
    pub(super) fn missed(&mut self, error: &Error) {
        self.is_final &= !(error.kind().may_pass() && error.is_momentary());
    }

    /// The volumes of a disk could not be looked for. Why is told where somebody else looks for them, but not what may have passed by then.
    pub(super) fn missed_disk(&mut self, name: &str, error: &Error) {
        self.missed(error);
        if error.kind().may_pass() {
            self.note(Note::defect(format!(
                "Which volumes of {name} have drive letters, and whether Windows lies on one, cannot be told: {error}."
            )));
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Where an installation lies, for people.
    pub(super) fn place_of(&self, installation: &Installation) -> String {
        let volume = self.volumes.get(installation.volume);
        let path = volume.map_or("", |volume| volume.path());
        format!("{path}/{}", installation.folder)
    }

    /// Notes what could not be read of an installation.
    pub(super) fn take_failures(&mut self, installation: &mut Installation) {
        let place = self.place_of(installation);
        for error in std::mem::take(&mut installation.failures) {
            self.missed(&error);
            let what = match installation.folder.as_str() {
                "" => {
                    format!("Whether all of Windows in {place} was found cannot be told: {error}.")
                }
                _ => format!(
                    "What Windows in {place} says of drive letters cannot all be read: {error}."
                ),
            };
            self.note(Note::defect(what));
        }
    }

    /// Notes that a volume is locked, on which the machine's own Windows may lie: no other was found, or the one whose letters are `chosen` does not know it. No other
    /// key comes later, so that this is final.
    pub(super) fn take_locked(
        &mut self,
        volume: usize,
        error: &Error,
        chosen: Option<&Installation>,
    ) {
        let path = self.volumes.get(volume).map_or("", MachineVolume::path);
        let what = match chosen {
            None => format!("Whether Windows lies on {path}, and which drive letters it gives"),
            Some(_) if self.letters.values().any(|lettered| *lettered == volume) => return,
            Some(chosen) => format!(
                "The drive letters are those of the Windows in {}; whether there is another one on {path}, and which letters that gives",
                self.place_of(chosen)
            ),
        };
        self.note(Note::fact(format!("{what}, cannot be told: {error}.")));
    }

    /// The one volume with an id; nothing if there are several.
    fn of_id(&self, id: &DeviceId) -> Result<Option<usize>, ()> {
        let mut found = None;
        for (at, volume) in self.volumes.iter().enumerate() {
            if volume.ids.contains(id) && found.replace(at).is_some() {
                return Err(());
            }
        }
        Ok(found)
    }

    /// The letter that an installation gives to the volume it lies on.
    pub(super) fn own_letter(&self, installation: &Installation) -> Option<u8> {
        let devices = &installation.hive.as_ref()?.devices;
        devices.iter().find_map(|device| match device.name {
            MountedName::Letter(letter)
                if self.of_id(&device.device) == Ok(Some(installation.volume)) =>
            {
                Some(letter)
            }
            _ => None,
        })
    }

    /// Takes letters and names from an installation.
    pub(super) fn give_letters(&mut self, installation: &Installation) {
        let Some(hive) = &installation.hive else {
            return;
        };
        let mut taken: BTreeMap<u8, Option<usize>> = BTreeMap::new();
        for device in &hive.devices {
            let MountedName::Letter(letter) = device.name else {
                continue;
            };
            match self.of_id(&device.device) {
                Ok(None) => {}
                Ok(Some(at)) => {
                    let same = |known: &Option<usize>| *known == Some(at);
                    let is_new = taken.get(&letter).is_none_or(same);
                    taken.insert(letter, is_new.then_some(at));
                }
                Err(()) => {
                    taken.insert(letter, None);
                }
            }
        }
        for (letter, at) in taken {
            match at {
                Some(at) => {
                    self.letters.insert(letter, at);
                }
                None => self.note(Note::defect(format!(
                    "What Windows in {} says of {}: fits two volumes, so it is shown for neither.",
                    self.place_of(installation),
                    char::from(letter)
                ))),
            }
        }
        self.notes.extend(hive.notes.iter().cloned());
        self.give_names(installation);
    }

    /// Takes names from an installation, as far as they are not known.
    pub(super) fn give_names(&mut self, installation: &Installation) {
        let devices = installation.hive.as_ref().map(|hive| &hive.devices);
        for device in devices.into_iter().flatten() {
            if let MountedName::Volume(guid) = &device.name
                && let Ok(Some(at)) = self.of_id(&device.device)
            {
                self.names.entry(guid.clone()).or_insert(at);
            }
        }
    }

    /// A partition of a GPT has its own GUID as a name too, whether the registry has it or not.
    pub(super) fn give_guids(&mut self) {
        for (at, volume) in self.volumes.iter().enumerate() {
            for id in &volume.ids {
                if let DeviceId::Guid(guid) = id
                    && self.of_id(id) == Ok(Some(at))
                {
                    let text = partition::guid_text(guid);
                    self.names.entry(text).or_insert(at);
                }
            }
        }
    }
}
