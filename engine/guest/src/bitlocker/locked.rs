//! A volume of BitLocker: what is known of it without a key, and how it is unlocked.

use super::cipher::{Method, SectorCipher};
use super::conversion::Conversion;
use super::copies::{self, Copies};
use super::header::{Header, Layout};
use super::id::KeyId;
use super::keys::Keys;
use super::metadata::{Metadata, State};
use super::protector::Protection;
use super::reader::Reader;
use super::refusal::refusal;
use super::regions::{Regions, fits};
use super::sealed::Key;
use super::unlocked::UnlockedVolume;
use crate::volume::{Note, Volume};
use cairn_base::{Error, ReadAt, Result, Time};
use std::sync::Arc;

/// A protector of a volume's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectorInfo {
    /// What kind it is.
    pub protection: Protection,
    /// Its id: of a recovery password the "key ID" that Windows shows and Active Directory keeps beside it, of a startup key the name of its file.
    pub id: KeyId,
}

/// What is known of a volume without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitLockerInfo {
    /// How its header is laid out.
    pub layout: Layout,
    /// The id of the encrypted volume.
    pub id: KeyId,
    /// How its sectors are encrypted.
    pub method: Method,
    /// What is being done to it.
    pub state: State,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// When it was encrypted; to the second.
    pub created: Time,
    /// What Windows wrote down of it: the machine, the drive, the date.
    pub description: String,
    /// What its key is protected with.
    pub protectors: Vec<ProtectorInfo>,
    /// What is wrong with the copies of its metadata, or different in them.
    pub notes: Vec<Note>,
}

/// A volume of BitLocker that is not unlocked yet.
pub struct BitLocker {
    device: Arc<dyn ReadAt>,
    header: Header,
    metadata: Metadata,
    notes: Vec<Note>,
}

/// The key of the sectors, or none if nothing is encrypted; and what is to be told of how it was found.
type Found = (Option<(u16, zeroize::Zeroizing<Vec<u8>>)>, Vec<Note>);

impl BitLocker {
    /// Reads the volume header and the copies of the metadata.
    ///
    /// # Errors
    /// Damaged if no copy is whole; unsupported for versions that are not known; whatever the device reports.
    pub fn open(device: Arc<dyn ReadAt>) -> Result<BitLocker> {
        let header = Header::read(&*device)?;
        let Copies { best, notes } = copies::read(&*device, &header)?;
        if !fits(header.layout, best.version) {
            let what = "the BitLocker volume header and the metadata are of different versions";
            return Err(Error::damaged(what));
        }
        Ok(BitLocker {
            device,
            header,
            metadata: best,
            notes,
        })
    }

    /// What is known without a key.
    pub fn info(&self) -> BitLockerInfo {
        let protectors = self.metadata.protectors.iter();
        BitLockerInfo {
            layout: self.header.layout,
            id: self.metadata.volume,
            method: Method::of(self.metadata.method),
            state: self.metadata.state,
            sector_size: u32::try_from(self.header.sector_size).unwrap_or(0),
            created: self.metadata.created,
            description: self.metadata.description.clone(),
            protectors: protectors
                .map(|protector| ProtectorInfo {
                    protection: protector.protection,
                    id: protector.id,
                })
                .collect(),
            notes: self.notes.clone(),
        }
    }

    /// Unlocks it: with a key of `keys`, or with none if protection is suspended or nothing is encrypted.
    ///
    /// # Errors
    /// [`Kind::Denied`](cairn_base::Kind::Denied) if no key fits, saying which were tried and which would; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) if `keys` were told to stop; damaged if what the key opens is no key, or regions lie where they
    /// cannot; unsupported for methods and states that are not known.
    pub fn unlock(&self, keys: &Keys) -> Result<Unlocked> {
        let conversion = match self.header.conversion {
            Some(offsets) => Some(Conversion::read(&*self.device, offsets)?),
            None => None,
        };
        let is_on_write = conversion.is_some();
        let size = self.device.size();
        let regions = Regions::new(size, &self.header, &self.metadata, conversion)?;
        let (key, mut notes) = if regions.encrypted_before() == Some(0) {
            (
                None,
                vec![Note::fact(
                    "the volume was decrypted: BitLocker is not in force",
                )],
            )
        } else {
            self.find_key(keys)?
        };
        let sector = usize::try_from(self.header.sector_size).unwrap_or(512);
        let cipher = key.map(|(method, key)| SectorCipher::new(method, &key, sector));
        notes.extend(self.notes.iter().chain(regions.notes()).cloned());
        notes.extend(self.conversion_notes(&regions, is_on_write));
        let mark = self.metadata.volume_key.as_ref().map(|key| key.tag());
        let mark = mark.and_then(|tag| tag.first_chunk::<4>().copied());
        Ok(Unlocked {
            reader: Arc::new(Reader {
                device: self.device.clone(),
                regions,
                cipher: cipher.transpose()?,
                mirror: self.metadata.header_offset,
            }),
            notes,
            mark: u32::from_le_bytes(mark.unwrap_or_default()),
        })
    }

    fn find_key(&self, keys: &Keys) -> Result<Found> {
        let damaged = |what: &'static str| Err(Error::damaged(what));
        let Some(sealed) = &self.metadata.volume_key else {
            return damaged("the BitLocker metadata have no key of the volume");
        };
        for protector in &self.metadata.protectors {
            let Some(master) = &protector.sealed else {
                continue;
            };
            let Some(master) = keys.try_on(protector, &mut |key| master.open_key(key))? else {
                continue;
            };
            let Some(opened) = sealed.open(&master)? else {
                return damaged("the BitLocker volume key does not belong to its master key");
            };
            let mut notes = Vec::new();
            if protector.clear.is_some() {
                notes.push(Note::fact(
                    "protection by BitLocker is suspended: the key lies on the volume, so that none was needed",
                ));
            }
            notes.extend(self.hash_note(&master));
            if opened.method != self.metadata.method {
                let (told, is) = (self.metadata.method, opened.method);
                notes.push(Note::fact(format!(
                    "the BitLocker metadata name {} where the volume's key is one for {}, which counts",
                    Method::of(told),
                    Method::of(is)
                )));
            }
            return Ok((Some((opened.method, opened.bytes)), notes));
        }
        Err(refusal(&self.metadata.protectors, keys))
    }

    /// What the hash says that was made with the master key.
    fn hash_note(&self, master: &Key) -> Option<Note> {
        let sealed = self.metadata.sealed_hash.as_ref()?;
        let is_right =
            matches!(sealed.open_key(master), Ok(Some(hash)) if *hash == self.metadata.hash);
        (!is_right).then(|| {
            Note::defect(
                "the BitLocker metadata are not those that were hashed with the volume's key: something other than Windows changed them",
            )
        })
    }

    fn conversion_notes(&self, regions: &Regions, is_on_write: bool) -> Vec<Note> {
        let mut notes = Vec::new();
        let state = self.metadata.state;
        let under_way = matches!(
            state,
            State::ConvertingDirty | State::Converting | State::Paused
        );
        if is_on_write && state != State::Encrypted {
            notes.push(Note::fact(format!(
                "BitLocker encrypts what is written to the volume ({state}): what is not encrypted yet is read as it is"
            )));
        } else if let Some(end) = regions.encrypted_before().filter(|end| *end > 0) {
            notes.push(Note::fact(format!(
                "only the first {end} bytes of the volume are encrypted by BitLocker ({state})"
            )));
        } else if under_way && self.metadata.encrypted == 0 {
            notes.push(Note::defect(format!(
                "BitLocker does not say how much of the volume is encrypted ({state}): it is read as if all were"
            )));
        }
        if state == State::ConvertingDirty {
            let place = match is_on_write {
                true => "what was being encrypted then".to_string(),
                false => format!("what lies around byte {}", self.metadata.encrypted),
            };
            notes.push(Note::defect(format!(
                "BitLocker was converting the volume and was not properly stopped: {place} may be wrong"
            )));
        }
        notes
    }
}

/// A volume that was unlocked.
#[derive(Clone)]
pub struct Unlocked {
    reader: Arc<Reader>,
    notes: Vec<Note>,
    mark: u32,
}

impl Unlocked {
    /// Its decrypted bytes.
    pub fn device(&self) -> Arc<dyn ReadAt> {
        self.reader.clone()
    }

    /// The file system on it, which was opened from [`device`](Unlocked::device): with the notes of the unlocking, and with places that are those of the encrypted volume.
    pub fn volume(&self, volume: Arc<dyn Volume>) -> Arc<dyn Volume> {
        let reader = self.reader.clone();
        Arc::new(UnlockedVolume::new(volume, reader, &self.notes, self.mark))
    }
}
