//! Calls that deal with the switch that stops everything.

use skyclaw_proto::record::Freeze;
use skyclaw_proto::request::{FreezeBody, ThawBody};
use skyclaw_proto::{FreezeId, response, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

impl Client {
    /// `POST /v1/freezes`. Freezing again what is frozen is the same freeze.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn freeze(&self, freeze: &FreezeBody, key: Option<&str>) -> Result<Freeze, Error> {
        let call = Call::post(route::FREEZES, freeze)?.keyed(key)?;
        self.fetch(&call).await.map(|response::FreezeBody { freeze }| freeze)
    }

    /// `POST /v1/freezes/:id/thaw`. Thawing twice is the same as once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn thaw(&self, id: &FreezeId, thaw: &ThawBody) -> Result<Freeze, Error> {
        let call = Call::post(route::thaw(id), thaw)?.keyed(None)?;
        self.fetch(&call).await.map(|response::FreezeBody { freeze }| freeze)
    }

    /// `GET /v1/freezes`: those in force, oldest first; with `all` also the newest of those that are over.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn freezes(&self, all: bool) -> Result<Vec<Freeze>, Error> {
        let mut call = Call::get(route::FREEZES);
        // What everybody acknowledged before is seen: a freeze that is overlooked is a danger.
        call.query = vec![("all", all.to_string()), ("consistent", "true".to_owned())];
        self.fetch(&call).await.map(|response::FreezesBody { freezes }| freezes)
    }
}
