//! The programs' requests for a refresh.

use std::io;

use aya::maps::{MapData, RingBuf};
use dns_cache_common::cached::Refresh;

use crate::sys;

/// Hands each request to `refresh`, until the future is dropped or the ring buffer fails.
///
/// # Errors
///
/// The ring buffer cannot be waited for.
pub async fn follow(
    requests: RingBuf<MapData>,
    mut refresh: impl FnMut(Refresh),
) -> io::Result<()> {
    let mut requests = sys::wait_on_ring_buffer(requests)?;
    loop {
        let mut ready = requests.readable_mut().await?;
        while let Some(request) = ready.get_inner_mut().next() {
            if let Some(request) = Refresh::from_bytes(&request) {
                refresh(request);
            }
        }
        ready.clear_ready();
    }
}
