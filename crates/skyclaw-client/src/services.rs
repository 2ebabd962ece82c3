//! Calls that deal with services.

use skyclaw_proto::record::Service;
use skyclaw_proto::request::{ClaimServiceBody, DeployServiceBody, ReportServiceBody};
use skyclaw_proto::response::{ClaimedService, ServiceBody, ServicesBody};
use skyclaw_proto::{HostId, ServiceId, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

impl Client {
    /// `POST /v1/services`. With no key of the caller's it gets one of its own.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deploy_service(
        &self,
        service: &DeployServiceBody,
        key: Option<&str>,
    ) -> Result<Service, Error> {
        let call = Call::post(route::SERVICES, service)?.keyed(key)?;
        self.fetch(&call).await.map(|ServiceBody { service }| service)
    }

    /// `GET /v1/services`, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(&self) -> Result<Vec<Service>, Error> {
        self.fetch(&Call::get(route::SERVICES)).await.map(|ServicesBody { services }| services)
    }

    /// `GET /v1/services/:id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn service(&self, id: &ServiceId) -> Result<Service, Error> {
        self.fetch(&Call::get(route::service(id))).await.map(|ServiceBody { service }| service)
    }

    /// `POST /v1/hosts/:id/services/claim`: what the host should run besides what it runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claim_service(
        &self,
        host: &HostId,
        claim: &ClaimServiceBody,
        key: Option<&str>,
    ) -> Result<Option<Service>, Error> {
        let call = Call::post(route::claim_service(host), claim)?.keyed(key)?;
        self.fetch(&call).await.map(|ClaimedService { service }| service)
    }

    /// `POST /v1/services/:id/report`: how a replica does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn report_service(
        &self,
        id: &ServiceId,
        report: &ReportServiceBody,
        key: Option<&str>,
    ) -> Result<Service, Error> {
        let call = Call::post(route::report(id), report)?.keyed(key)?;
        self.fetch(&call).await.map(|ServiceBody { service }| service)
    }
}
