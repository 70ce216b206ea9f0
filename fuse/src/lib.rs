//! Recovery points and disk images as a file system.
