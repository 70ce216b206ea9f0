//! Other implementations read the same hives: libhivex (`hivexget`) and libregf (`regfexport`).

use crate::made::{MadeKey, hive, system};
use crate::{everything, open};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn have(tool: &str) -> bool {
    let there = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output()
        .is_ok_and(|out| out.status.success());
    if !there {
        println!("SKIPPED: the tool `{tool}` is not installed");
    }
    there
}

/// Keys of all kinds of lists, values of all lengths, names in Latin and other letters.
fn many() -> MadeKey {
    let mut root = MadeKey::new("ROOT");
    for list in [*b"lf", *b"lh", *b"ri"] {
        let mut key = MadeKey::new(&format!("by {}", String::from_utf8_lossy(&list))).listed(list);
        for number in 0..40 {
            let child = MadeKey::new(&format!("Key {number}"));
            key = key.key(child.value("number", 4, &u32::to_le_bytes(number)));
        }
        root = root.key(key);
    }
    let long: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
    root.key(
        MadeKey::new("values")
            .value("", 1, b"d\0e\0f\0\0\0")
            .value("none", 3, b"")
            .value("three", 3, b"abc")
            .value("five", 3, b"abcde")
            .value("piece", 3, &long[..16_344])
            .value("pieces", 3, &long)
            .value("Größe", 3, b"latin")
            .value("世界", 3, b"not latin"),
    )
    .key(MadeKey::new("世界").value("x", 3, b"in a key"))
}

/// What `hivexget` prints of a key: name and bytes of each value.
fn by_hivex(file: &Path, key: &str) -> BTreeSet<(String, Vec<u8>)> {
    let out = Command::new("hivexget")
        .args([file.to_str().unwrap(), key])
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{key}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .map(|line| {
            let (name, data) = match line.strip_prefix("\"@\"=") {
                Some(data) => (String::new(), data),
                None => {
                    let (name, data) = line[1..].split_once("\"=").unwrap();
                    (name.replace("\\\\", "\\"), data)
                }
            };
            let data = if let Some(number) = data.strip_prefix("dword:") {
                let number = u32::from_str_radix(number, 16).unwrap();
                number.to_le_bytes().to_vec()
            } else if let Some(text) = data.strip_prefix('"') {
                let text = format!("{}\0", text.strip_suffix('"').unwrap());
                text.encode_utf16().flat_map(u16::to_le_bytes).collect()
            } else {
                let (_, hex) = data.split_once(':').unwrap();
                let bytes = hex.split(',').filter(|byte| !byte.is_empty());
                bytes
                    .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                    .collect()
            };
            (name, data)
        })
        .collect()
}

#[test]
fn hivex_reads_the_same() {
    if !have("hivexget") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let devices = [
        (r"\DosDevices\C:", vec![1; 12]),
        (
            r"\??\Volume{01234567-89ab-cdef-0123-456789abcdef}",
            vec![2; 24],
        ),
        (r"\DosDevices\D:", b"_\0?\0?\0_\0U\0S\0B\0".to_vec()),
    ];
    for (name, bytes) in [("many", hive(&many())), ("system", system(&devices))] {
        let file = folder.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let ours = everything(&open(&bytes));
        let keys: BTreeSet<&String> = ours.keys().map(|(key, _)| key).collect();
        assert!(keys.len() > 1);
        let mut compared = 0;
        for key in keys {
            let of_key = ours.iter().filter(|((of, _), _)| of == key);
            let of_key = of_key.map(|((_, name), (_, data))| (name.clone(), data.clone()));
            let theirs = by_hivex(&file, key);
            compared += theirs.len();
            let of_key: BTreeSet<(String, Vec<u8>)> = of_key.collect();
            let differing = of_key.symmetric_difference(&theirs).next();
            assert_eq!(differing, None, "{name} {key}");
        }
        assert_eq!(compared, ours.len());
    }
}

#[test]
fn libregf_reads_the_same_keys_and_values() {
    if !have("regfexport") || !have("regfinfo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many");
    // Leaves without hints are as libregf knows them, and libhivex does not.
    let mut plain = MadeKey::new("by li").listed(*b"li");
    for number in 0..40 {
        plain = plain.key(MadeKey::new(&format!("Plain {number}")).value("v", 3, b"12345"));
    }
    let bytes = hive(&many().key(plain));
    fs::write(&file, &bytes).unwrap();
    let told = |tool: &str| {
        let out = Command::new(tool).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{tool}: {text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        text
    };
    assert!(!told("regfinfo").to_lowercase().contains("corrupt"));
    let theirs = told("regfexport");
    let ours = everything(&open(&bytes));
    assert!(ours.len() > 160);
    for (key, value) in ours.keys() {
        let last = key.rsplit('\\').next().unwrap();
        assert!(theirs.contains(last), "{key}");
        assert!(theirs.contains(value.as_str()), "{key} {value}");
    }
    let values = theirs.lines().filter(|line| line.starts_with("Value: "));
    assert_eq!(values.count(), ours.len());
}

#[test]
fn subkeys_are_found_whatever_their_case() {
    let made = hive(&many());
    let hive = open(&made);
    let root = hive.root().unwrap();
    assert_eq!(root.name(), "ROOT");
    for list in ["by lf", "BY LH", "By Ri"] {
        let key = hive.subkey(&root, list).unwrap().unwrap();
        let found = hive.subkey(&key, "kEY 39").unwrap().unwrap();
        assert_eq!(found.name(), "Key 39");
        assert_eq!(hive.subkey(&key, "Key 40").unwrap(), None);
    }
    assert_eq!(hive.written().folder_name(), "2026-11-20T02-00-00Z");
    assert!(hive.notes().is_empty());
}
