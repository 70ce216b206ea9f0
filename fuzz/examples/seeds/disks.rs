//! Seeds of disks: small images, kept as pieces.

use crate::Seeds;
use cairn_disk::vhdx::{bat, header, metadata, region};
use cairn_disk::write::{VhdWriter, VhdxOptions, VhdxWriter};
use cairn_disk::{DiskWriter, Guid};
use cairn_fuzz::disks::{VHDX_PARENT, VHDX_PARENT_SIZE};
use cairn_fuzz::pieces::Pieces;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn write(seeds: &Seeds) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    images(seeds, folder);
    for (target, name, script) in SCRIPTS {
        let image = folder.join("image");
        let _none_yet = fs::remove_file(&image);
        let shell = ["-euc", script];
        let mut command = Command::new("sh");
        command.args(shell).current_dir(folder);
        command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            println!("{target}/{name}: its tools are missing, or failed");
            continue;
        }
        let bytes = fs::read(&image).unwrap();
        put(seeds, target, name, &bytes);
        if (*target, *name) == ("vmdk", "stream") {
            put(seeds, target, "footer", &crate::vmdk::with_footer(&bytes));
        }
    }
}

fn put(seeds: &Seeds, target: &str, name: &str, image: &[u8]) {
    let pieces = Pieces::write(image);
    match target {
        "ntfs" => seeds.put(target, name, &without_upcase(image)),
        "ext" | "exfat" => seeds.put(target, name, &pieces),
        "fat" => seeds.put(target, name, &[&[0][..], &pieces].concat()),
        "partitions" => {
            seeds.put(target, name, &[&[0][..], &pieces].concat());
            seeds.put(
                target,
                &format!("{name}_mended"),
                &[&[1][..], &pieces].concat(),
            );
        }
        _ => {
            seeds.put(
                "image",
                &format!("{target}_{name}"),
                &[&[0][..], &pieces].concat(),
            );
            seeds.put(target, name, &[&[1][..], &pieces].concat());
        }
    }
}

/// Images of ours: a dynamic VHD and a VHDX.
fn images(seeds: &Seeds, folder: &Path) {
    let id = Some(Guid::from_printed(0x12345678_1234_1234_1234_123456789abc));
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        disk_id: id,
        ..VhdxOptions::default()
    };
    let (vhd, vhdx) = (folder.join("a.vhd"), folder.join("a.vhdx"));
    let writers: [(&str, &Path, Box<dyn DiskWriter>); 2] = [
        (
            "vhd",
            &vhd,
            Box::new(VhdWriter::create(&vhd, 9 << 20, id).unwrap()),
        ),
        (
            "vhdx",
            &vhdx,
            Box::new(VhdxWriter::create(&vhdx, VHDX_PARENT_SIZE, options).unwrap()),
        ),
    ];
    for (target, path, writer) in writers {
        writer.write_at(5000, b"some bytes").unwrap();
        writer.write_at(8 << 20, &[7; 3000]).unwrap();
        writer.finish().unwrap();
        let image = fs::read(path).unwrap();
        put(seeds, target, "ours", &image);
        if target == "vhd" {
            put(seeds, target, "child", &vhd_child(image));
        } else {
            put(seeds, target, "dirty", &with_log(image.clone()));
            put(seeds, target, "child", &vhdx_child(image));
        }
    }
}

/// The dynamic disk as a child of one that has an id of sevens; half of a block is the parent's. Checksums are made right later.
fn vhd_child(mut image: Vec<u8>) -> Vec<u8> {
    let end = image.len();
    for footer in [0, end - 512] {
        image[footer + 63] = 4;
    }
    let header = 512;
    image[header + 40..header + 56].fill(7);
    image[header + 576..header + 580].copy_from_slice(b"W2ru");
    image[header + 580..header + 584].copy_from_slice(&512u32.to_be_bytes());
    image[header + 587] = 10;
    image[header + 592..header + 600].copy_from_slice(&(512u64 + 64).to_be_bytes());
    for (at, byte) in b"p.vhd".iter().enumerate() {
        image[header + 65 + 2 * at] = *byte;
    }
    let table = u64::from_be_bytes(image[header + 16..header + 24].try_into().unwrap()) as usize;
    let block = u32::from_be_bytes(image[table..table + 4].try_into().unwrap()) as usize * 512;
    image[block..block + 256].fill(0xf0);
    image
}

/// Where the regions of block table and metadata lie.
fn regions(image: &[u8]) -> (usize, usize) {
    let at = region::OFFSETS[0] as usize;
    let table = &image[at..at + region::SIZE];
    let regions = region::Regions::parse(table, 0, image.len() as u64).unwrap();
    (regions.bat.start as usize, regions.metadata.start as usize)
}

/// The VHDX as a child of the parent that the target makes; half of a block is the parent's.
fn vhdx_child(mut image: Vec<u8>) -> Vec<u8> {
    let (table, metadata) = regions(&image);
    image[metadata + metadata::TABLE_SIZE + 4] |= 2;
    image[metadata + 10] = 6;
    let pairs = [
        ("parent_linkage".to_string(), VHDX_PARENT.to_string()),
        ("relative_path".to_string(), r".\p.vhdx".to_string()),
    ];
    let kind = Guid::from_printed(0xB04AEFB7_D19E_4A81_B789_25B8E9445913);
    let mut locator = [&kind.to_windows()[..], &[0, 0, 2, 0]].concat();
    let mut texts: Vec<u8> = Vec::new();
    for (key, value) in pairs {
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let (key, value) = (utf16(&key), utf16(&value));
        let at = 20 + 24 + texts.len();
        for offset in [at, at + key.len()] {
            locator.extend((offset as u32).to_le_bytes());
        }
        for length in [key.len(), value.len()] {
            locator.extend((length as u16).to_le_bytes());
        }
        texts.extend(key);
        texts.extend(value);
    }
    locator.extend(texts);
    let item = [
        &metadata::PARENT_LOCATOR.to_windows()[..],
        &(512u32 << 10).to_le_bytes(),
        &(locator.len() as u32).to_le_bytes(),
        &4u32.to_le_bytes(),
    ]
    .concat();
    image[metadata + 192..][..item.len()].copy_from_slice(&item);
    image[metadata + (512 << 10)..][..locator.len()].copy_from_slice(&locator);
    // The block is partially there; its bitmap is the other block.
    image[table] |= 7;
    let other = image[table + 64..table + 72].to_vec();
    let bitmap = table + bat::chunk_ratio(1 << 20, 512) as usize * 8;
    image[bitmap..bitmap + 8].copy_from_slice(&other);
    image
}

/// The VHDX with the first sector of its block table in its log only.
fn with_log(mut image: Vec<u8>) -> Vec<u8> {
    let (table, _) = regions(&image);
    let content = image[table..table + 4096].to_vec();
    image[table..table + 4096].fill(0);
    for header in header::OFFSETS {
        image[header as usize + 48..][..16].fill(9);
    }
    let at = header::OFFSETS[0] as usize;
    let log = u64::from_le_bytes(image[at + 72..at + 80].try_into().unwrap()) as usize;
    let (size, sequence) = (image.len() as u64, 5u64);
    let mut entry = b"loge\0\0\0\0".to_vec();
    entry.extend(8192u64.to_le_bytes());
    entry.extend(sequence.to_le_bytes());
    entry.extend(2u64.to_le_bytes());
    entry.extend([9; 16]);
    entry.extend([size, size].into_iter().flat_map(u64::to_le_bytes));
    entry.extend(b"zero\0\0\0\0");
    entry.extend(
        [8192, table as u64, sequence]
            .into_iter()
            .flat_map(u64::to_le_bytes),
    );
    entry.extend(b"desc");
    entry.extend(&content[4092..]);
    entry.extend(&content[..8]);
    entry.extend(
        [table as u64, sequence]
            .into_iter()
            .flat_map(u64::to_le_bytes),
    );
    entry.resize(4096, 0);
    entry.extend(b"data\0\0\0\0");
    entry.extend(&content[8..4092]);
    entry.extend((sequence as u32).to_le_bytes());
    image[log..log + entry.len()].copy_from_slice(&entry);
    image
}

/// The table of capital letters is half of a small NTFS volume, and readers have one of their own.
fn without_upcase(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let unit = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    for sector in image.chunks_mut(512) {
        let units: Vec<u16> = sector.chunks_exact(2).map(unit).collect();
        let ascending = units
            .windows(2)
            .filter(|pair| pair[0] != 0 && (1..3).contains(&pair[1].wrapping_sub(pair[0])));
        if ascending.count() > 100 {
            sector.fill(0);
        }
    }
    Pieces::write(&image)
}

/// Target, name, and a script that makes `image`.
const SCRIPTS: &[(&str, &str, &str)] = &[
    (
        "vhd",
        "qemu_dynamic",
        "qemu-img create -q -f vpc -o subformat=dynamic image 5M; qemu-io -f vpc -c 'write -P 7 1M 4k' image",
    ),
    (
        "vhd",
        "qemu_fixed",
        "qemu-img create -q -f vpc -o subformat=fixed image 1M",
    ),
    (
        "vhdx",
        "qemu",
        "qemu-img create -q -f vhdx -o block_size=1M image 5M; qemu-io -f vhdx -c 'write -P 7 1M 4k' image",
    ),
    (
        "vmdk",
        "qemu",
        "qemu-img create -q -f vmdk image 5M; qemu-io -f vmdk -c 'write -P 7 1M 4k' image",
    ),
    (
        "vmdk",
        "zeroed",
        "qemu-img create -q -f vmdk -o zeroed_grain=on,compat6=on image 5M; qemu-io -f vmdk -c 'write -P 7 1M 4k' -c 'write -z 64k 64k' image",
    ),
    (
        "vmdk",
        "stream",
        "qemu-img create -q raw 200K; qemu-io -f raw -c 'write -P 7 5k 70k' -c 'write -P 9 190k 10k' raw; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw image",
    ),
    (
        "vmdk",
        "child",
        "qemu-img create -q -f vmdk p 5M; qemu-img create -q -f vmdk -b p -F vmdk image; qemu-io -f vmdk -c 'write -P 9 2M 64k' image; \
         LC_ALL=C sed -i 's/parentCID=......../parentCID=ca150001/' image",
    ),
    (
        "qcow2",
        "plain",
        "qemu-img create -q -f qcow2 image 5M; qemu-io -f qcow2 -c 'write -P 7 1M 4k' -c 'write -z 2M 64k' image",
    ),
    (
        "qcow2",
        "small",
        "qemu-img create -q -f qcow2 -o cluster_size=512,compat=0.10 image 200k; qemu-io -f qcow2 -c 'write -P 7 10k 4k' -c 'write -c -P 5 51200 512' image",
    ),
    (
        "qcow2",
        "zlib",
        "qemu-img create -q -f qcow2 -o cluster_size=4k image 1M; qemu-io -f qcow2 -c 'write -c -P 7 8k 4k' -c 'write -c -P 9 12k 4k' image",
    ),
    (
        "qcow2",
        "zstd",
        "qemu-img create -q -f qcow2 -o cluster_size=4k,compression_type=zstd image 1M; qemu-io -f qcow2 -c 'write -c -P 7 8k 4k' -c 'write -c -P 9 12k 4k' image",
    ),
    (
        "qcow2",
        "parts",
        "qemu-img create -q -f qcow2 -o cluster_size=16k,extended_l2=on image 1M; qemu-io -f qcow2 -c 'write -P 7 8k 3k' -c 'write -z 20k 1k' -c 'write -P 3 64k 16k' image",
    ),
    (
        "qcow2",
        "child",
        "qemu-img create -q -f qcow2 -u -b base.raw -F raw -o cluster_size=4k image 200k; truncate -s 100k base.raw; qemu-io -f qcow2 -c 'write -P 7 10k 1k' image",
    ),
    (
        "qcow2",
        "data_file",
        "qemu-img create -q -f qcow2 -o cluster_size=4k,data_file=data image 200k; qemu-io -f qcow2 -c 'write -P 7 10k 1k' image",
    ),
    (
        "qcow2",
        "features",
        "qemu-img create -q -f qcow2 image 1M; printf '\\200' | dd of=image bs=1 seek=78 conv=notrunc status=none",
    ),
    (
        "vdi",
        "dynamic",
        "qemu-img create -q -f vdi image 3M; qemu-io -f vdi -c 'write -P 7 1M 4k' image",
    ),
    (
        "vdi",
        "fixed",
        "qemu-img create -q -f vdi -o static=on image 1M",
    ),
    (
        "vdi",
        "child",
        "qemu-img create -q -f vdi image 3M; qemu-io -f vdi -c 'write -P 7 1M 4k' image; printf '\\004' | dd of=image bs=1 seek=76 conv=notrunc status=none; printf 1234567812345678abcdefghabcdefgh | dd of=image bs=1 seek=424 conv=notrunc status=none",
    ),
    (
        "partitions",
        "gpt",
        "truncate -s 8M image; sgdisk -n 1:2048:4095 -n 2:6144:0 -c 2:name image",
    ),
    (
        "partitions",
        "mbr",
        "truncate -s 8M image; printf 'label: dos\nstart=2048,size=2048,type=83\nstart=4096,type=5\nstart=6144,size=1024,type=7\nstart=9216,size=1024,type=82\n' | sfdisk -q image",
    ),
    (
        "partitions",
        "none",
        "truncate -s 1M image; mke2fs -q -F image",
    ),
    (
        "ext",
        "ext2",
        "mkdir -p d/sub; echo text >d/sub/file; ln -sf sub/file d/link; truncate -s 300K d/hole; echo x >>d/hole; mke2fs -q -F -t ext2 -b 1024 -N 24 -d d image 400K",
    ),
    (
        "ext",
        "ext4",
        "mkdir -p d/sub; echo text >d/sub/file; ln -sf sub/file d/link; truncate -s 300K d/hole; echo x >>d/hole; mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum,^resize_inode -b 1024 -N 24 -d d image 400K",
    ),
    (
        "ext",
        "ext4_csum",
        "mkdir -p d/sub; echo text >d/sub/file; mke2fs -q -F -t ext4 -O ^has_journal,metadata_csum,inline_data,^resize_inode -b 1024 -N 24 -I 256 -d d image 300K",
    ),
    (
        "ext",
        "journal",
        "mkdir -p d/sub; echo text >d/sub/file; mke2fs -q -F -t ext4 -O ^metadata_csum,^resize_inode -b 1024 -N 16 -d d image 2M",
    ),
    (
        "ext",
        "crashed",
        "mkdir -p d/sub; echo text >d/sub/file; mke2fs -q -F -t ext4 -O ^resize_inode,64bit,metadata_csum -b 1024 -N 16 -d d image 2M; \
         head -c 3072 /dev/urandom >blocks; printf 'jo -c\njw -b 900-902 blocks\njw -r 901\njc\n' | debugfs -w -f /dev/stdin image",
    ),
    (
        "ext",
        "htree",
        "mkdir -p e/many; for i in $(seq 120); do : >e/many/a-file-with-a-long-name-$i; done; mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum,^resize_inode,dir_index -b 1024 -N 150 -d e image 500K; e2fsck -fyD image || true",
    ),
    (
        "ext",
        "xattr",
        "mkdir -p f; echo text >f/file; setfattr -n user.name -v value f/file; mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum -I 128 -b 1024 -N 16 -d f image 200K",
    ),
    (
        "ntfs",
        "empty",
        "truncate -s 1200K image; mkntfs -q -F -f -s 512 -c 1024 image",
    ),
    (
        "ntfs",
        "files",
        "truncate -s 2M image; mkntfs -q -F -f -s 512 -c 512 image; mkdir -p m; ntfs-3g -o streams_interface=windows,compression image m; \
         trap 'umount m' EXIT; mkdir m/sub; for i in $(seq 40); do echo $i >m/sub/a-rather-long-name-$i; done; \
         ln -s sub/file m/link; ln m/sub/a-rather-long-name-1 m/second; echo named >m/second:stream; truncate -s 300K m/hole; echo x >>m/hole; \
         mkdir m/small; setfattr -h -v 0x00080000 -n system.ntfs_attrib m/small || true; yes text | head -c 70000 >m/small/text; sync",
    ),
    (
        "fat",
        "twelve",
        "mkdir -p d/sub/deeper; for i in 1 2 3 4 5 6 7 8; do echo $i >\"d/sub/A rather long name $i\"; done; yes text | head -c 9000 >d/sub/text; echo x >d/lower.txt; truncate -s 360K image; mkfs.fat -F 12 -n LABEL image; MTOOLS_SKIP_CHECK=1 mcopy -s -i image d/* ::; mdel -i image ::/lower.txt",
    ),
    (
        "fat",
        "sixteen",
        "mkdir -p d/sub/deeper; for i in 1 2 3 4 5 6 7 8; do echo $i >\"d/sub/A rather long name $i\"; done; yes text | head -c 9000 >d/sub/text; echo x >d/lower.txt; truncate -s 3M image; mkfs.fat -F 16 -s 1 -r 32 image; MTOOLS_SKIP_CHECK=1 mcopy -s -i image d/* ::",
    ),
    (
        "fat",
        "thirty_two",
        "mkdir -p d/sub/deeper; for i in 1 2 3 4 5 6 7 8; do echo $i >\"d/sub/A rather long name $i\"; done; yes text | head -c 9000 >d/sub/text; echo x >d/lower.txt; truncate -s 34M image; mkfs.fat -F 32 -s 1 image; MTOOLS_SKIP_CHECK=1 mcopy -s -i image d/* ::",
    ),
    (
        "exfat",
        "files",
        "truncate -s 1M image; mkfs.exfat -b 4K -c 512 -L LABEL image; mkdir -p x; l=$(losetup -f --show image); mount.exfat-fuse $l x; trap 'umount x; sleep 1; losetup -d $l' EXIT; mkdir -p x/sub/deeper; for i in 1 2 3 4 5 6 7 8; do echo $i >\"x/sub/A rather long name $i\"; done; yes text | head -c 9000 >x/text; rm 'x/sub/A rather long name 3'; truncate -s 3000 x/hole; sync",
    ),
];
