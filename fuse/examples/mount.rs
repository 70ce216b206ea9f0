//! Mounts a store or a disk image until it is unmounted: `mount STORE|IMAGE FOLDER`.

use cairn::{DiskView, Result, Store};
use cairn_fuse::{MountOptions, mount_image, mount_store};
use std::path::Path;

fn main() -> Result<()> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(source), Some(folder)) = (paths.next(), paths.next()) else {
        return Err(cairn::Error::invalid("usage: mount STORE|IMAGE FOLDER"));
    };
    let (source, folder) = (Path::new(&source), Path::new(&folder));
    let options = MountOptions::default();
    let mounted = if Store::is_store(source) {
        mount_store(Store::open(source)?, folder, &options)?
    } else {
        mount_image(DiskView::open_image(source)?, folder, &options)?
    };
    mounted.wait()
}
