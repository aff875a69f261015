//! Sources of readings. `sim` and `sysfs` are sampled by our clock; `stdin` and clients of sockets
//! are streams, which wait for room; datagrams can do neither.

pub mod answers;
pub mod binding;
pub mod client;
pub mod datagrams;
pub mod http;
pub mod inflate;
pub mod lines;
pub mod listener;
pub mod notices;
pub mod old_times;
pub mod opening;
pub mod places;
pub mod protocol;
pub mod sim;
pub mod sockets;
pub mod spec;
pub mod stdin;
pub mod sysfs;
