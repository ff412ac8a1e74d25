//! Small helpers around interface names.

use std::hash::{BuildHasher, RandomState};

/// A host-side veth name as CNI plugins give it: `veth` and eight hex digits.
pub(crate) fn veth_name() -> String {
    format!("veth{:08x}", RandomState::new().hash_one(0u8) as u32)
}
