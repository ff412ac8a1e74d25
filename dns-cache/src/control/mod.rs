//! The local control socket: how an agent that runs is looked into.

/// The socket's name in the state directory.
pub const SOCKET_NAME: &str = "control.sock";
