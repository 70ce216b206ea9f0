//! Containers that are known by their signature and not read, so that none of them is taken for a raw disk.

use cairn_base::{Error, Result, View};

/// A signature, where it stands, and whose it is. Sources: QEMU `block/qcow.c`, `block/vmdk.c`, `docs/interop/qed_spec.txt`, `parallels.txt`;
/// libewf "EWF specification".
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"QFI\xfb\0\0\0\x01", "QCOW version 1 (QEMU)"),
    (0, b"QED\0", "QED (QEMU)"),
    (0, b"EVF\x09\x0d\x0a\xff\x00", "EWF (EnCase)"),
    (0, b"LVF\x09\x0d\x0a\xff\x00", "EWF (EnCase, logical)"),
    (0, b"EVF2\x0d\x0a\x81\x00", "EWF 2 (EnCase)"),
    (0, b"LEF2\x0d\x0a\x81\x00", "EWF 2 (EnCase, logical)"),
    (0, b"WithoutFreeSpace", "Parallels HDD"),
    (0, b"WithouFreSpacExt", "Parallels HDD"),
    (0, b"AFF10\x0d\x0a\x00", "AFF"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", "VMDK seSparse (ESXi)"),
];

/// How many bytes of an image's start [`refuse`] wants to see.
pub(crate) const HEAD: usize = 512;

/// Refuses an image whose first bytes, `head`, are those of a container that is not read.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported), naming the container.
pub(crate) fn refuse(head: &[u8]) -> Result<()> {
    let view = View::new(head, "start of the image", 0);
    for (offset, signature, name) in SIGNATURES {
        if view.slice(*offset, signature.len()).ok() == Some(*signature) {
            return Err(Error::unsupported(format!("{name} images are not read"))
                .advise("convert it with `qemu-img convert -O qcow2` (a VMDK by its descriptor), or say that it is raw if it is a raw disk"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;

    #[test]
    fn every_signature_is_refused_by_name() {
        for (offset, signature, name) in SIGNATURES {
            let mut head = vec![0; HEAD];
            head[*offset..offset + signature.len()].copy_from_slice(signature);
            let error = refuse(&head).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.to_string().contains(name), "{error}");
        }
        refuse(&[0; HEAD]).unwrap();
        refuse(b"QFI").unwrap();
    }
}
