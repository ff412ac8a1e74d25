//! When the kernel is given what the resolver keeps.

use dns_cache_common::question::{self, Parsed};

use super::*;
use crate::kernel_cache::tests::in_memory;

/// What is to be done for the kernel holds no client up: its task has its turn first.
#[tokio::test]
async fn the_client_has_its_reply_before_the_kernel_has_the_answer() {
    tokio::spawn(reply_before_kernel()).await.unwrap();
}

async fn reply_before_kernel() {
    let (fake, _) = Fake::answering().await;
    let bench = Bench::new(&[fake.address]);
    let kernel = Arc::new(in_memory(Size::for_entries(16)));
    bench.resolver.mirror_into(Arc::clone(&kernel));
    let web = query(1, "web", 1, 0x0100);
    let Parsed::Query(asked) = question::parse(&web, Transport::Udp) else {
        panic!("a query");
    };
    let in_kernel = || kernel.get(asked.key.as_bytes()).is_some();
    let (_, hit) = bench.ask(&web, Transport::Udp).await;
    assert!(!hit && !in_kernel());
    // All run on this thread: nothing has gone on since.
    while !in_kernel() {
        tokio::task::yield_now().await;
    }
}
