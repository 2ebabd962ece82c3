//! The coordinators this one knows of: those it was configured with and those that announced themselves.

use std::collections::BTreeSet;

use skyclaw_config::HttpUrl;
use skyclaw_proto::limits::MAX_PEERS;
use tokio::sync::watch;

/// Base URLs of other coordinators, never its own, at most [`MAX_PEERS`].
#[derive(Debug)]
pub struct Peers {
    own: Option<HttpUrl>,
    known: watch::Sender<BTreeSet<HttpUrl>>,
}

/// No more coordinators are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_PEERS} peers are known already")]
pub struct Full;

impl Peers {
    /// Starts with the configured ones; `own` is left out.
    #[must_use]
    pub fn new(own: Option<HttpUrl>, configured: impl IntoIterator<Item = HttpUrl>) -> Self {
        let others = configured.into_iter().filter(|url| Some(url) != own.as_ref());
        let known = others.take(MAX_PEERS).collect();
        Self { own, known: watch::Sender::new(known) }
    }

    /// Its own base URL, if it was told one.
    #[must_use]
    pub fn own(&self) -> Option<&HttpUrl> {
        self.own.as_ref()
    }

    /// The others, in order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.known.borrow().iter().map(ToString::to_string).collect()
    }

    /// How many others there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.known.borrow().len()).unwrap_or(u32::MAX)
    }

    /// Remembers one; its own URL is no peer.
    ///
    /// # Errors
    /// When it is new and there is no room.
    pub fn add(&self, url: HttpUrl) -> Result<(), Full> {
        if self.own.as_ref() == Some(&url) {
            return Ok(());
        }
        let mut full = false;
        self.known.send_if_modified(|known| {
            full = known.len() >= MAX_PEERS && !known.contains(&url);
            !full && known.insert(url)
        });
        if full { Err(Full) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HttpUrl {
        text.parse().expect("a URL")
    }

    #[test]
    fn a_coordinator_is_no_peer_of_itself_and_a_peer_counts_once() {
        let peers = Peers::new(Some(url("http://a:1/")), [url("http://a:1"), url("http://b:1")]);
        assert_eq!(peers.add(url("http://a:1")), Ok(()));
        assert_eq!(peers.add(url("http://b:1/")), Ok(()));
        assert_eq!(peers.list(), ["http://b:1"]);
        assert_eq!(peers.count(), 1);
    }

    #[test]
    fn a_new_peer_past_the_bound_is_refused_and_a_known_one_is_not() {
        let peers = Peers::new(None, (0..MAX_PEERS).map(|i| url(&format!("http://h{i}:1"))));
        assert_eq!(peers.add(url("http://one-more:1")), Err(Full));
        assert_eq!(peers.add(url("http://h3:1")), Ok(()));
    }
}
