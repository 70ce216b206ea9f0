//! Seeds of VMDK: descriptors, and streams whose grain directory stands at the end.

use crate::Seeds;

/// Descriptors as VMware and QEMU write them, and with all that may stand in them.
const DESCRIPTORS: &[(&str, &str)] = &[
    (
        "split",
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=a4c48d29\nparentCID=ffffffff\nisNativeSnapshot=\"no\"\n\
         createType=\"twoGbMaxExtentSparse\"\n\n# Extent description\nRW 4192256 SPARSE \"a b-s001.vmdk\"\nRW 4096 SPARSE \"a b-s002.vmdk\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.uuid = \"60 00 C2 9b 2d 2f 6f 9f-4c 3b 0b 5e 8e 1d 2c 77\"\n",
    ),
    (
        "flat",
        "# Disk DescriptorFile\r\nversion=3\r\nencoding=\"windows-1252\"\r\nCID=1\r\nparentCID=ffffffff\r\ncreateType=\"monolithicFlat\"\r\n\
         RW 63 FLAT \"caf\u{e9}-flat.vmdk\" 0\r\n",
    ),
    (
        "delta",
        "# Disk DescriptorFile\nversion=1\nCID=2\nparentCID=fffffffe\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"/vmfs/volumes/1/a.vmdk\"\n\
         RW 8192 VMFSSPARSE \"a-000001-delta.vmdk\"\nchangeTrackPath=\"a-ctk.vmdk\"\n",
    ),
    (
        "zeros",
        "version=1\nCID=00000003\ncreateType=\"custom\"\nRDONLY 100 ZERO\nRW 5000000 ZERO\n",
    ),
];

pub fn write(seeds: &Seeds) {
    for (name, text) in DESCRIPTORS {
        seeds.put("vmdk_descriptor", name, text.as_bytes());
    }
}

/// The stream of QEMU, whose grain directory stands in front, as VMware writes one: the footer says where it is.
pub fn with_footer(image: &[u8]) -> Vec<u8> {
    let mut bytes = image.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let header = bytes[..512].to_vec();
    bytes[56..64].fill(0xff);
    let mut marker = [0; 512];
    marker[12] = 3;
    bytes.extend(marker);
    bytes.extend(header);
    bytes.extend([0; 512]);
    bytes
}
