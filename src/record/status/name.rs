//! The name of a recorder's socket, in Linux's abstract namespace: device and inode of the database, so that
//! every path to the file leads to it.

/// Begins with NUL, as the kernel writes abstract names.
pub fn socket_name((device, inode): (u64, u64)) -> Vec<u8> {
    format!("\0seawall-{device:x}-{inode:x}").into_bytes()
}
