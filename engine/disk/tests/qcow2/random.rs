//! Random writes into disks of all cluster sizes, compared with a model, and with what QEMU reads.

use super::kit::{Dice, check_with_qemu, difference, img, io, read_all, sample};
use cairn_disk::open;
use std::path::Path;

/// A disk that QEMU writes to, and what it should read as.
struct Run<'a> {
    folder: &'a Path,
    cluster_bits: u32,
    options: String,
    size: u64,
    dice: Dice,
}

impl Run<'_> {
    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// A range of whole sectors, or of whole clusters.
    fn range(&mut self, unit: u64) -> (u64, u64) {
        let units = self.size / unit;
        let at = self.dice.below(units);
        let most = (units - at).min(1 + 200_000 / unit);
        (at * unit, (1 + self.dice.below(most)) * unit)
    }

    /// One command of `qemu-io`; what it does is done to the model.
    fn command(&mut self, model: &mut [u8]) -> String {
        let byte = 1 + self.dice.below(255) as u8;
        let cluster = self.cluster();
        let (text, at, length, value) = match self.dice.below(7) {
            0..3 => {
                let (at, length) = self.range(512);
                (format!("write -P {byte} {at} {length}"), at, length, byte)
            }
            3 => {
                let (at, length) = self.range(512);
                (format!("write -z {at} {length}"), at, length, 0)
            }
            4 => {
                let (at, length) = self.range(cluster);
                (format!("write -z -u {at} {length}"), at, length, 0)
            }
            5 => {
                let (at, length) = self.range(cluster);
                (format!("discard {at} {length}"), at, length, 0)
            }
            _ => {
                let (at, length) = self.range(cluster);
                (format!("write -P {byte} {at} {length}"), at, length, byte)
            }
        };
        model[at as usize..(at + length) as usize].fill(value);
        text
    }

    /// Compressed writes, each to a cluster of its own. They come first: QEMU (10.0) may put a compressed cluster into one that was freed and is
    /// in use again, and overwrite a part of that.
    fn compressed(&mut self, model: &mut [u8]) -> Vec<String> {
        let cluster = self.cluster();
        let mut places: Vec<u64> = (0..6).map(|_| self.range(cluster).0).collect();
        places.sort_unstable();
        places.dedup();
        let mut commands = Vec::new();
        for at in places {
            let byte = 1 + self.dice.below(255) as u8;
            model[at as usize..(at + cluster) as usize].fill(byte);
            commands.push(format!("write -c -P {byte} {at} {cluster}"));
        }
        commands
    }

    fn run(&mut self) {
        let backing = self.dice.below(2) == 0;
        let mut model = vec![0; self.size as usize];
        let mut arguments: Vec<String> = ["create", "-q", "-f", "qcow2", "-o"]
            .map(String::from)
            .to_vec();
        arguments.push(self.options.clone());
        if backing {
            let length = (self.size / 2 + self.dice.below(self.size)) / 512 * 512;
            let base = sample(&self.folder.join("base.raw"), length, self.dice.next());
            let shared = base.len().min(model.len());
            model[..shared].copy_from_slice(&base[..shared]);
            arguments.extend(["-b", "base.raw", "-F", "raw"].map(String::from));
        }
        arguments.extend(["image.qcow2".to_string(), self.size.to_string()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        img(self.folder, &arguments);
        let image = self.folder.join("image.qcow2");
        let mut commands = self.compressed(&mut model);
        commands.extend((0..40).map(|_| self.command(&mut model)));
        io(&image, "qcow2", &commands);
        let what = format!("{} {backing}: {commands:?}", self.options);
        let disk = open(&image).unwrap();
        assert_eq!(disk.files().len(), 1 + usize::from(backing), "{what}");
        let found = read_all(&*disk, &mut self.dice);
        let expected = check_with_qemu(&*disk, &image, "qcow2", &what);
        assert_eq!(difference(&found, &expected), None, "{what}");
        assert_eq!(difference(&found, &model), None, "{what}");
    }
}

#[test]
fn disks_of_all_cluster_sizes_read_as_they_were_written() {
    let work = tempfile::tempdir().unwrap();
    for cluster_bits in 9..=21u32 {
        for kind in ["zlib", "zstd", "zstd,extended_l2=on"] {
            if cluster_bits < 14 && kind.contains("extended") {
                continue;
            }
            let size: u64 = if cluster_bits < 12 { 2 << 20 } else { 9 << 20 };
            let cluster_size = 1u32 << cluster_bits;
            let size = size + 512 * u64::from(cluster_bits % 3);
            Run {
                folder: work.path(),
                cluster_bits,
                options: format!("cluster_size={cluster_size},compression_type={kind}"),
                size,
                dice: Dice(u64::from(cluster_bits) << 8 | kind.len() as u64),
            }
            .run();
        }
    }
}
