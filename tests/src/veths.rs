//! Many interfaces at once, as the pods of a full node have them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::netns::Netns;
use crate::node::Node;

/// Veths in the node whose other ends are in a namespace without anybody. All go with it.
#[derive(Debug)]
pub struct Veths {
    names: Vec<String>,
    _elsewhere: Netns,
}

impl Veths {
    /// Makes so many, and sets them up.
    #[must_use]
    pub fn new(node: &Node, count: usize) -> Self {
        let elsewhere = Netns::new(node.netns().scope(), "many");
        // Never twice: what goes is gone some time later.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let first = NEXT.fetch_add(count, Relaxed);
        let names: Vec<_> = (first..first + count)
            .map(|number| format!("veth{number:07}"))
            .collect();
        let mut batch = String::new();
        for name in &names {
            let _ = writeln!(
                batch,
                "link add {name} type veth peer name {name} netns {}\nlink set {name} up",
                elsewhere.name()
            );
        }
        node.netns().ip(&batch);
        Self {
            names,
            _elsewhere: elsewhere,
        }
    }

    /// Their names in the node.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}
