//! The test phone: calls, speaks, listens, and measures what a caller hears, stamped at the socket.

pub mod caller;
pub mod clips;
pub mod ear;
pub mod mouth;
pub mod packets;
pub mod report;
pub mod script;
#[cfg(test)]
mod testing;
pub mod turn;
