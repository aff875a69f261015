//! Where readings come from. Those that are sampled keep their own time; `stdin` and the clients of sockets
//! are streams, which wait while there is no room; datagrams can do neither.

pub mod answers;
pub mod client;
pub mod datagrams;
pub mod listener;
pub mod sim;
pub mod sockets;
pub mod spec;
pub mod stdin;
pub mod sysfs;
