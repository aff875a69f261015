//! Where readings come from. Those that are sampled keep their own time; `stdin` is a stream.

pub mod sim;
pub mod sysfs;
