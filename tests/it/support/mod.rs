//! What several tests share.

pub(crate) mod fake_fal;
pub(crate) mod fake_sockets;
pub(crate) mod proxy_stack;
pub(crate) mod raw_fal;
pub(crate) mod relay_gate;
