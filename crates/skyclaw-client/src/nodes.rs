//! Calls that deal with hosts and with the coordinators themselves.

use std::time::Duration;

use skyclaw_proto::record::Host;
use skyclaw_proto::request::{DrainHostBody, HeartbeatBody, RegisterHostBody, RemoveHostBody};
use skyclaw_proto::response::{Health, Heartbeat, HostBody, HostsBody, Peers};
use skyclaw_proto::{HostId, route};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Client;
use crate::call::Call;
use crate::error::Error;
use crate::tries::Tries;

/// Makes ring the process's provider of cryptography for TLS, unless one was chosen already.
pub fn install_crypto() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Client {
    /// `POST /v1/hosts/register`. With no key of the caller's it gets one of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn register_host(&self, host: &RegisterHostBody, key: Option<&str>) -> Result<Host, Error> {
        let call = Call::post(route::REGISTER_HOST, host)?.keyed(key)?;
        self.fetch(&call).await.map(|HostBody { host }| host)
    }

    /// `POST /v1/hosts/:id/heartbeat`. The answer may take as long as the body's `wait_ms`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn heartbeat(&self, id: &HostId, beat: &HeartbeatBody) -> Result<Heartbeat, Error> {
        let poll = Duration::from_millis(beat.wait_ms.unwrap_or(0));
        self.fetch(&Call::post(route::heartbeat(id), beat)?.polling(poll)).await
    }

    /// `POST /v1/hosts/:id/drain`: the host takes no more work.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain_host(&self, id: &HostId, drain: &DrainHostBody) -> Result<Host, Error> {
        let call = Call::post(route::drain(id), drain)?.keyed(None)?;
        self.fetch(&call).await.map(|HostBody { host }| host)
    }

    /// `POST /v1/hosts/:id/undrain`: a drained host takes work again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn undrain_host(&self, id: &HostId) -> Result<Host, Error> {
        let call = Call::post(route::undrain(id), &serde_json::json!({}))?.keyed(None)?;
        self.fetch(&call).await.map(|HostBody { host }| host)
    }

    /// `POST /v1/hosts/:id/remove`: forgets a host that is down or drained; any, by force. The answer is the
    /// host as it was.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_host(&self, id: &HostId, force: bool) -> Result<Host, Error> {
        let body = RemoveHostBody { force: force.then_some(true) };
        let call = Call::post(route::remove_host(id), &body)?.keyed(None)?;
        self.fetch(&call).await.map(|HostBody { host }| host)
    }

    /// `GET /v1/hosts`, by id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hosts(&self) -> Result<Vec<Host>, Error> {
        self.fetch(&Call::get(route::HOSTS)).await.map(|HostsBody { hosts }| hosts)
    }

    /// All hosts, by whatever way the coordinator has to tell of them: `GET /v1/hosts`, or `GET /v1/state` of a
    /// reference coordinator, of which [`Config::max_answer_bytes`](crate::Config::max_answer_bytes) are read.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hosts_of_any(&self) -> Result<Vec<Host>, Error> {
        match self.hosts().await {
            Err(error) if error.is_not_found() => {
                self.fetch(&Call::get(route::STATE)).await.map(|HostsBody { hosts }| hosts)
            }
            hosts => hosts,
        }
    }

    /// `GET /v1/hosts/:id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn host(&self, id: &HostId) -> Result<Host, Error> {
        self.fetch(&Call::get(route::host(id))).await.map(|HostBody { host }| host)
    }

    /// `GET /v1/network/peers`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn peers(&self) -> Result<Peers, Error> {
        self.fetch(&Call::get(route::NETWORK_PEERS)).await
    }

    /// `GET /health`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn health(&self) -> Result<Health, Error> {
        self.fetch(&Call::get("/health")).await
    }

    /// `GET /livez`: whether a coordinator is alive.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn livez(&self) -> Result<(), Error> {
        self.answer(&Call::get("/livez")).await.map(drop)
    }

    /// `GET /readyz`: whether a coordinator can take work.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn readyz(&self) -> Result<(), Error> {
        self.answer(&Call::get("/readyz")).await.map(drop)
    }

    /// `GET /v1/state`: copies the whole state, however large, to `out` and says how many bytes it
    /// had. It is asked for again only while nothing of it was written yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn state<W: AsyncWrite + Unpin>(&self, out: &mut W) -> Result<u64, Error> {
        self.download(&Call::get(route::STATE), out, |_| ()).await
    }

    /// Copies an answer, however large, to `out`. It is asked for again only while nothing of it was written.
    pub(crate) async fn download<W: AsyncWrite + Unpin>(
        &self,
        call: &Call,
        out: &mut W,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        let mut tries = Tries::new(self, call);
        let (mut response, turn) = loop {
            let turn = tries.next().await?;
            match self.open(call, tries.coordinator(turn), turn.limit).await {
                Ok(response) => break (response, turn),
                Err(miss) => tries.missed(turn, miss)?,
            }
        };
        tries.succeeded(turn);
        let url = &tries.coordinator(turn).0;
        let copy_error = |source| Error::Copy { url: url.clone(), source };
        let mut copied = 0;
        loop {
            let chunk = timeout(self.shared.config.attempt_timeout, response.chunk())
                .await
                .map_err(|_| copy_error(std::io::ErrorKind::TimedOut.into()))?
                .map_err(|error| copy_error(std::io::Error::other(error.without_url())))?;
            let Some(chunk) = chunk else { break };
            out.write_all(&chunk).await.map_err(copy_error)?;
            copied += chunk.len() as u64;
            progress(copied);
        }
        out.flush().await.map_err(copy_error)?;
        Ok(copied)
    }
}
