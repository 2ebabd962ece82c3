//! Looks for the seeds: turns their names into addresses, again each interval, since a name may point
//! elsewhere tomorrow, and who was not there may have come.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Longest that a name is waited for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Hands over the addresses of all seeds, over and over, until nobody wants them.
pub(super) async fn seek(
    mut seeds: watch::Receiver<Vec<String>>,
    interval: Duration,
    found: mpsc::Sender<SocketAddr>,
) {
    loop {
        let places = seeds.borrow_and_update().clone();
        for place in &places {
            for addr in resolve(place).await {
                if found.send(addr).await.is_err() {
                    return;
                }
            }
        }
        // The interval is over, or there are other seeds, or none ever again.
        if let Ok(Err(_)) = timeout(interval, seeds.changed()).await {
            return;
        }
    }
}

async fn resolve(place: &str) -> Vec<SocketAddr> {
    match timeout(LOOKUP_TIMEOUT, lookup_host(place)).await {
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
        Ok(Err(error)) => {
            tracing::debug!(place, %error, "a seed has no address");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(place, "the address of a seed is not told in time");
            Vec::new()
        }
    }
}
