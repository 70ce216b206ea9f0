//! Volumes filled by a script, with everything that ntfs-3g can set.

use super::made::{Mount, TOOLS, make};
use super::{FileDisk, have};
use cairn_guest::ntfs::NtfsVolume;
use std::process::Command;

/// A volume with everything that ntfs-3g can set, by a script in its root.
pub fn filled(script: &str) -> Option<(tempfile::TempDir, NtfsVolume, Mount)> {
    if !have(&TOOLS) || !have(&["setfattr", "getfattr", "python3"]) {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 32 << 20, &[]);
    {
        let mount = Mount::new(
            &image,
            folder.path(),
            "streams_interface=windows,special_files=wsl",
        )?;
        let output = Command::new("python3")
            .args(["-c", &format!("{PYTHON}\n{script}")])
            .current_dir(&mount.0)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let mount = Mount::new(&image, folder.path(), "ro,streams_interface=none")?;
    Some((folder, volume, mount))
}

/// What the scripts have in common: how SIDs, descriptors and `$EA` are written.
const PYTHON: &str = r#"
import os, struct
def sid(authority, *numbers):
    head = struct.pack('<BB', 1, len(numbers)) + struct.pack('>HI', 0, authority)
    return head + b''.join(struct.pack('<I', n) for n in numbers)
def ace(kind, flags, mask, who, rest=b''):
    body = struct.pack('<I', mask) + who + rest
    body += b'\0' * (-len(body) % 4)
    return struct.pack('<BBH', kind, flags, len(body) + 4) + body
def acl(*aces):
    body = b''.join(aces)
    return struct.pack('<BBHHH', 2, 0, len(body) + 8, len(aces), 0) + body
def descriptor(owner, group, dacl, sacl=b'', control=0x8004):
    at, head = 20, []
    for part in (owner, group, sacl, dacl):
        head.append(at if part else 0)
        at += len(part)
    if sacl: control |= 0x10
    return struct.pack('<BBHIIII', 1, 0, control, *head) + owner + group + sacl + dacl
def ea(*pairs):
    out = b''
    for name, value in pairs:
        body = struct.pack('<BBH', 0, len(name), len(value)) + name + b'\0' + value
        body += b'\0' * ((-len(body) - 4) % 4)
        out += struct.pack('<I', len(body) + 4) + body
    return out
def point(tag, data):
    return struct.pack('<IHH', tag, len(data), 0) + data
BA, SY, WD = sid(5, 32, 544), sid(5, 18), sid(1, 0)
ANN, USERS = sid(5, 21, 1, 2, 3, 1001), sid(5, 21, 1, 2, 3, 513)
put = lambda path, name, value: os.setxattr(path, 'system.ntfs_' + name, value)
write = lambda path, text: open(path, 'w').write(text)
"#;
