//! The way into a route: who may enter, when, and how many at once.

use axum::http::{HeaderMap, Uri};

use super::{auth, index};
use crate::admission::Permit;
use crate::app::App;
use crate::error::ApiError;

/// What a request must show and wait for before its route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing.
    Open,
    /// The token, also where Prometheus puts one.
    Scrape,
    /// The token, and a permit: for core routes that answer as soon as they can.
    Working,
    /// The token: for core routes that hold their permits themselves.
    Parking,
    /// A permit. (The keys are checked by the routes, which need to know whose.)
    Public,
}

/// A request that was let in.
#[derive(Debug)]
pub(crate) struct Entered {
    /// Which index its answer reflects at least, where it waited for one.
    pub(crate) reflects: Option<u64>,
    /// Held until it is answered.
    pub(crate) _permit: Option<Permit>,
}

impl Entry {
    /// Lets a request in.
    ///
    /// # Errors
    /// 401 without the token; 503 when too many are in, or what the request waits for does not come.
    pub(crate) async fn enter(self, app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Entered, ApiError> {
        let reflects = match self {
            Self::Open | Self::Public => None,
            Self::Scrape => {
                auth::check_scrape(app, headers)?;
                None
            }
            Self::Working | Self::Parking => {
                // Strangers learn nothing and hold nothing.
                auth::check(app, headers)?;
                // Waits for what the client has seen elsewhere, or for all there is.
                Some(index::wait(app, headers, uri).await?)
            }
        };
        let admits = matches!(self, Self::Working | Self::Public);
        Ok(Entered { reflects, _permit: admits.then(|| app.admission.admit()).transpose()? })
    }
}
