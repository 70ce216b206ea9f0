//! What Windows says of its volumes: hives of the registry, written here byte by byte, and read by libhivex and libregf as well; links.
//!
//! - `compared`: what hivexget and regfexport say of the same hives
//! - `logs`: hives that were in use
//! - `hostile`: loops, impossible counts, and anything else
//! - `links`: symbolic links and junctions, beside ntfs-3g
//! - `made`: writes hives
//! - `disks`: disks of a Windows machine
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

#[cfg(test)]
mod compared;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod links;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod made;

#[cfg(test)]
use cairn_guest::hive::{Hive, Key};
#[cfg(test)]
use std::collections::BTreeMap;
#[cfg(test)]
use std::ops::ControlFlow;
#[cfg(test)]
use std::sync::Arc;

/// A hive without logs.
#[cfg(test)]
fn open(bytes: &[u8]) -> Hive {
    Hive::open(Arc::new(bytes.to_vec()), &[]).unwrap()
}

/// Type and data of every value, by `\Key\Key` and its own name.
#[cfg(test)]
type Everything = BTreeMap<(String, String), (u32, Vec<u8>)>;

#[cfg(test)]
fn everything(hive: &Hive) -> Everything {
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, Key)> = vec![(String::new(), hive.root().unwrap())];
    while let Some((path, key)) = open.pop() {
        hive.each_value(&key, &mut |value| {
            let value = value.unwrap();
            let data = hive.data(&value, 1 << 20).unwrap();
            assert_eq!(data.len(), value.size() as usize);
            let place = (path.clone(), value.name().to_string());
            found.insert(place, (value.kind(), data));
            ControlFlow::Continue(())
        })
        .unwrap();
        hive.each_subkey(&key, &mut |subkey| {
            let subkey = subkey.unwrap();
            open.push((format!("{path}\\{}", subkey.name()), subkey));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}
