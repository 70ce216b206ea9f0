//! Files compressed by wimlib, another implementation of XPRESS and LZX, and put on a volume as Windows does.

use super::{have, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The algorithms of WOF's reparse points, by their numbers: name, and bytes of a chunk.
pub const ALGORITHMS: [(&str, usize); 4] = [
    ("xpress4k", 4096),
    ("lzx", 32768),
    ("xpress8k", 8192),
    ("xpress16k", 16384),
];

/// Makes of each file of the folder `argv[1]` a stream `WofCompressedData` in `argv[2]`, called by its name and the
/// number of the algorithm.
const SCRIPT: &str = r#"
import ctypes, os, struct, sys
wim = ctypes.CDLL("libwim.so.15")
wim.wimlib_create_compressor.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.POINTER(ctypes.c_void_p)]
wim.wimlib_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
wim.wimlib_compress.restype = ctypes.c_size_t
XPRESS, LZX = 1, 2
for number, (kind, size) in enumerate([(XPRESS, 4096), (LZX, 32768), (XPRESS, 8192), (XPRESS, 16384)]):
    compressor = ctypes.c_void_p()
    if wim.wimlib_create_compressor(kind, size, 0, ctypes.byref(compressor)):
        sys.exit("no compressor")
    room = ctypes.create_string_buffer(size)
    for name in os.listdir(sys.argv[1]):
        with open(os.path.join(sys.argv[1], name), "rb") as file:
            content = file.read()
        chunks = []
        for at in range(0, len(content), size):
            chunk = content[at:at + size]
            length = wim.wimlib_compress(chunk, len(chunk), room, len(chunk) - 1, compressor) if len(chunk) > 1 else 0
            chunks.append(room.raw[:length] if length else chunk)
        table, place = b"", 0
        for chunk in chunks[:-1]:
            place += len(chunk)
            table += struct.pack("<I", place)
        with open(os.path.join(sys.argv[2], "%s.%d" % (name, number)), "wb") as file:
            file.write(table + b"".join(chunks))
"#;

/// Whether wimlib can be called; says so if not.
pub fn have_wimlib() -> bool {
    if !have(&["python3"]) {
        return false;
    }
    let found = Command::new("python3")
        .args(["-c", "import ctypes; ctypes.CDLL('libwim.so.15')"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: wimlib (libwim.so.15 of the package wimtools) is not installed");
    }
    found
}

/// Compresses `contents`; answers for each what the four algorithms made of it, in the order of [`ALGORITHMS`].
pub fn compress(contents: &[Vec<u8>]) -> Vec<[Vec<u8>; 4]> {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
    fs::create_dir(&plain).unwrap();
    fs::create_dir(&packed).unwrap();
    for (number, content) in contents.iter().enumerate() {
        fs::write(plain.join(number.to_string()), content).unwrap();
    }
    let (plain, packed_path) = (plain.to_str().unwrap(), packed.to_str().unwrap());
    run("python3", &["-c", SCRIPT, plain, packed_path]);
    (0..contents.len())
        .map(|number| {
            std::array::from_fn(|algorithm| {
                fs::read(packed.join(format!("{number}.{algorithm}"))).unwrap()
            })
        })
        .collect()
}

/// The reparse point of a file compressed with the algorithm `number`.
pub fn point(number: u32) -> Vec<u8> {
    reparse(
        0x8000_0017,
        &[1, 2, 1, number].map(u32::to_le_bytes).concat(),
    )
}

/// A reparse point; one that is not Microsoft's has a GUID.
pub fn reparse(tag: u32, data: &[u8]) -> Vec<u8> {
    let mut point = tag.to_le_bytes().to_vec();
    point.extend((data.len() as u16).to_le_bytes());
    point.extend([0, 0]);
    if tag & 0x8000_0000 == 0 {
        point.extend([0x11; 16]);
    }
    point.extend(data);
    point
}

/// Gives a file on a volume that ntfs-3g has mounted a reparse point.
pub fn set_reparse(path: &Path, point: &[u8]) {
    let hex: String = point.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = format!("0x{hex}");
    let path = path.to_str().unwrap();
    run(
        "setfattr",
        &["-h", "-n", "system.ntfs_reparse_data", "-v", &value, path],
    );
}

/// Puts a compressed file where ntfs-3g has mounted a volume with `streams_interface=windows`.
pub fn place(path: &Path, size: u64, packed: &[u8], algorithm: u32) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    drop(file);
    fs::write(format!("{}:WofCompressedData", path.display()), packed).unwrap();
    set_reparse(path, &point(algorithm));
}

/// Bytes in the manner of programs: many calls, near and far, forwards and backwards.
pub fn program(length: usize) -> Vec<u8> {
    let noise = super::made::noise(99, length);
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        let seed = noise[bytes.len()];
        let target = match seed % 4 {
            0 => i32::from(seed) * 9000 - 100_000,
            1 => -(bytes.len() as i32),
            2 => 12_000_000 - bytes.len() as i32,
            _ => i32::from(seed) << 20,
        };
        bytes.push(0xE8);
        bytes.extend(target.to_le_bytes());
        bytes.extend(b"\x55\x48\x89\xe5\xff");
        bytes.extend(&noise[..usize::from(seed % 7)]);
    }
    bytes.truncate(length);
    bytes
}
