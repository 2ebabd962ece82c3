//! What a coordinator is told at its start, and what follows from it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::http::HeaderValue;
use skyclaw_config::logging::{Filter, Format};
use skyclaw_config::otlp::Ratio;
use skyclaw_config::{HttpUrl, KeepAtMost, KeepFor, Millis, Secret};
use skyclaw_proto::NodeId;

use crate::public_keys::{self, PublicKeys};
use crate::token::Token;

skyclaw_config::settings! {
    /// The settings of a coordinator.
    pub struct Settings {
        /// The port to listen on; 0 takes any that is free.
        port: u16 = "8787", env "SKYCLAW_COORDINATOR_PORT";
        /// The address to listen on. Without a token only a loopback address is allowed.
        host: IpAddr = "0.0.0.0", env "SKYCLAW_COORDINATOR_HOST";
        /// The name of this coordinator; made at the first start and kept when it is not set.
        node_id: Option<NodeId>, env "SKYCLAW_COORDINATOR_NODE_ID";
        /// The base URL under which others reach this coordinator.
        public_url: Option<HttpUrl>, env "SKYCLAW_COORDINATOR_PUBLIC_URL";
        /// The shared token of coordinators, hosts, gateways and operators.
        token: Option<Secret>, env "SKYCLAW_TOKEN";
        /// Base URLs of other coordinators, separated by commas.
        peer_urls: Vec<HttpUrl>, env "SKYCLAW_PEER_URLS";
        /// On how many coordinators a write must be, this one included; 1 for a single node.
        min_replications: u32 = "2", env "SKYCLAW_MIN_REPLICATIONS";
        /// How many blank coordinators must see each other before one founds a cluster; the number of
        /// peer URLs and one more when it is not set.
        bootstrap_expect: Option<usize>, env "SKYCLAW_BOOTSTRAP_EXPECT";
        /// How many members of a cluster vote at most; further ones only follow.
        max_voters: usize = "5", env "SKYCLAW_MAX_VOTERS";
        /// Whether coordinators tell each other of further ones.
        peer_discovery: bool = "1", env "SKYCLAW_PEER_DISCOVERY";
        /// How often coordinators tell each other how they do, in milliseconds.
        peer_sync_ms: Millis = "3000", env "SKYCLAW_PEER_SYNC_MS";
        /// The database. What else is kept lies beside it.
        db_path: PathBuf = ".skyclaw/coordinator.db", env "SKYCLAW_DB_PATH";
        /// How long a host holds a job without being heard of, in milliseconds.
        lease_ms: Millis = "60000", env "SKYCLAW_LEASE_MS";
        /// How long the answer to an idempotency key is kept, in milliseconds.
        idempotency_ttl_ms: Millis = "86400000", env "SKYCLAW_IDEMPOTENCY_TTL_MS";
        /// Keys of the public API, separated by commas: key:label:cap1|cap2[:shell]. None turn it off.
        public_api_keys: Option<Secret>, env "SKYCLAW_PUBLIC_API_KEYS";
        /// The origin whose pages may call the public API; any when it is not set.
        public_cors_origin: Option<String>, env "SKYCLAW_PUBLIC_CORS_ORIGIN";
        /// What is logged: error, warn, info, debug, trace, or directives like info,skyclawd=debug.
        log: Filter = "info,openraft=error,openraft::replication=off", env "SKYCLAW_LOG";
        /// The shape of log lines: text or json.
        log_format: Format = "text", env "SKYCLAW_LOG_FORMAT";
        /// The base URL of an OpenTelemetry collector (OTLP over HTTP) that spans are sent to; none when not set.
        otlp_endpoint: Option<HttpUrl>, env "SKYCLAW_OTLP_ENDPOINT";
        /// Headers for the collector, such as its key: name=value, separated by commas.
        otlp_headers: Option<Secret>, env "SKYCLAW_OTLP_HEADERS";
        /// Which part of the traces is sent there, from 0 to 1.
        otlp_sample: Ratio = "1", env "SKYCLAW_OTLP_SAMPLE";
        /// Most connections at once. Further ones are answered 503 and closed.
        max_connections: usize = "16384", env "SKYCLAW_MAX_CONNECTIONS";
        /// Most requests that are worked on at once. Further ones are answered 503.
        max_in_flight: usize = "4096", env "SKYCLAW_MAX_IN_FLIGHT";
        /// Most requests that wait for something to happen. Further ones are answered 503.
        max_parked: usize = "16384", env "SKYCLAW_MAX_PARKED";
        /// Most streams of events at once. Further ones are answered 503.
        max_streams: usize = "256", env "SKYCLAW_MAX_STREAMS";
        /// How many of the newest events are kept for who comes back to the stream of them.
        event_retention_max: u64 = "1000000", env "SKYCLAW_EVENT_RETENTION_MAX";
        /// How long events are kept, in milliseconds, if they are not too many before.
        event_retention_ms: Millis = "86400000", env "SKYCLAW_EVENT_RETENTION_MS";
        /// How long the record of a job is kept after its end, in milliseconds, unless the job says otherwise
        /// (retainMs); or never, to keep it whatever its age.
        job_retention_ms: KeepFor = "604800000", env "SKYCLAW_JOB_RETENTION_MS";
        /// How many jobs that have ended are kept at most, the newest; or never, to keep them however many.
        job_retention_max: KeepAtMost = "1000000", env "SKYCLAW_JOB_RETENTION_MAX";
        /// How long a connection may take to send the head of a request, in milliseconds. Being idle
        /// counts.
        idle_timeout_ms: Millis = "60000", env "SKYCLAW_IDLE_TIMEOUT_MS";
        /// How long a body may take to arrive, in milliseconds.
        body_timeout_ms: Millis = "30000", env "SKYCLAW_BODY_TIMEOUT_MS";
        /// How long requests may take to end when the coordinator is stopped, in milliseconds.
        shutdown_grace_ms: Millis = "10000", env "SKYCLAW_SHUTDOWN_GRACE_MS";
    }
}

/// Settings that do not go together, or that no coordinator can work with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The core routes would be open to the network.
    #[error(
        "without a token, anyone who reaches {0} could run commands on every host: set SKYCLAW_TOKEN \
         (or SKYCLAW_TOKEN_FILE), or set SKYCLAW_COORDINATOR_HOST to a loopback address such as 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The same through a socket that was handed over.
    #[error(
        "without a token, anyone who reaches the socket at {0} that was handed over could run commands on every host: set \
         SKYCLAW_TOKEN (or SKYCLAW_TOKEN_FILE, or the credential skyclaw_token), or have the socket unit listen on a \
         loopback address (ListenStream=127.0.0.1:8787)"
    )]
    OpenSocket(SocketAddr),
    /// The public API's keys are malformed.
    #[error(transparent)]
    PublicKeys(#[from] public_keys::Error),
    /// The origin cannot stand in a header.
    #[error("SKYCLAW_PUBLIC_CORS_ORIGIN must be an origin such as https://app.example, or *")]
    CorsOrigin,
    /// The others have no way back.
    #[error(
        "SKYCLAW_PEER_URLS is set, but the others cannot reach this coordinator at {0}: \
         set SKYCLAW_COORDINATOR_PUBLIC_URL to the base URL under which they can"
    )]
    NoPublicUrl(IpAddr),
    /// A number that must not be 0.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

/// What follows from the settings.
#[derive(Debug)]
pub struct Checked {
    /// Where to listen.
    pub address: SocketAddr,
    /// What opens the core routes.
    pub token: Option<Token>,
    /// What opens the public routes.
    pub public_keys: PublicKeys,
    /// From which pages browsers may call the public routes.
    pub cors_origin: HeaderValue,
}

impl Settings {
    /// Checks what goes together.
    ///
    /// # Errors
    /// The first thing that no coordinator should start with.
    pub fn check(&self) -> Result<Checked, Error> {
        let address = SocketAddr::new(self.host, self.port);
        if !self.may_serve(address) {
            return Err(Error::Open(address));
        }
        self.check_at(address)
    }

    /// The same for a coordinator that is handed a socket, which listens at `address`.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn check_handed_over(&self, address: SocketAddr) -> Result<Checked, Error> {
        if !self.may_serve(address) {
            return Err(Error::OpenSocket(address));
        }
        self.check_at(address)
    }

    fn may_serve(&self, address: SocketAddr) -> bool {
        self.token.is_some() || address.ip().to_canonical().is_loopback()
    }

    fn check_at(&self, address: SocketAddr) -> Result<Checked, Error> {
        if !self.peer_urls.is_empty() && self.public_url.is_none() && address.ip().is_unspecified() {
            return Err(Error::NoPublicUrl(address.ip()));
        }
        let counts = [
            (self.min_replications as usize, "SKYCLAW_MIN_REPLICATIONS"),
            (self.bootstrap_expect.unwrap_or(1), "SKYCLAW_BOOTSTRAP_EXPECT"),
            (self.max_voters, "SKYCLAW_MAX_VOTERS"),
            (self.max_connections, "SKYCLAW_MAX_CONNECTIONS"),
            (self.max_in_flight, "SKYCLAW_MAX_IN_FLIGHT"),
            (self.max_parked, "SKYCLAW_MAX_PARKED"),
            (self.max_streams, "SKYCLAW_MAX_STREAMS"),
        ];
        let spans = [
            (self.lease_ms, "SKYCLAW_LEASE_MS"),
            (self.idle_timeout_ms, "SKYCLAW_IDLE_TIMEOUT_MS"),
            (self.body_timeout_ms, "SKYCLAW_BODY_TIMEOUT_MS"),
        ];
        let zero_count = counts.iter().find(|(n, _)| *n == 0).map(|(_, name)| *name);
        let zero_span = spans.iter().find(|(span, _)| span.0.is_zero()).map(|(_, name)| *name);
        if let Some(name) = zero_count.or(zero_span) {
            return Err(Error::Zero(name));
        }
        let keys = self.public_api_keys.as_ref().map_or("", Secret::expose);
        let origin = self.public_cors_origin.as_deref().unwrap_or("*");
        Ok(Checked {
            address,
            token: self.token.as_ref().map(|token| Token::new(token.expose().as_bytes())),
            public_keys: PublicKeys::parse(keys)?,
            cors_origin: HeaderValue::from_str(origin).map_err(|_| Error::CorsOrigin)?,
        })
    }
}

impl Settings {
    /// Where other coordinators reach this one, which listens at `address`; `None` for one that has no
    /// peers and need not be reached.
    #[must_use]
    pub fn own_url(&self, address: SocketAddr) -> Option<String> {
        let told = self.public_url.as_ref().map(ToString::to_string);
        let bound = || (!address.ip().is_unspecified()).then(|| format!("http://{address}"));
        told.or_else(bound)
    }

    /// How many blank coordinators must see each other before one founds a cluster.
    #[must_use]
    pub fn bootstrap_expect(&self) -> usize {
        self.bootstrap_expect.unwrap_or(self.peer_urls.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_config::Environment;

    fn settings(env: &[(&str, &str)]) -> Settings {
        let matches = skyclaw_config::command::<Settings>("skyclawd-test", "0", "").get_matches_from(["x"]);
        let env = env.iter().copied().collect::<Environment>();
        skyclaw_config::load::<Settings>("skyclawd-test", &matches, &env).expect("settings").settings
    }

    #[test]
    fn without_a_token_only_loopback_is_listened_on() {
        let refused = |host: &str| settings(&[("SKYCLAW_COORDINATOR_HOST", host)]).check().err();
        for open in ["0.0.0.0", "10.0.0.1", "::", "::ffff:10.0.0.1"] {
            assert!(matches!(refused(open), Some(Error::Open(_))), "{open}");
        }
        for closed in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(refused(closed), None, "{closed}");
        }
        assert!(settings(&[("SKYCLAW_TOKEN", "t")]).check().is_ok());
    }

    #[test]
    fn without_a_token_only_a_socket_on_loopback_is_taken_over() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        // What it would listen on by itself does not count.
        let without = settings(&[("SKYCLAW_COORDINATOR_HOST", "127.0.0.1")]);
        for open in ["0.0.0.0:8787", "[::]:8787", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let error = without.check_handed_over(at(open)).expect_err(open);
            assert!(matches!(error, Error::OpenSocket(_)), "{error}");
            assert!(error.to_string().contains("ListenStream="), "{error}");
        }
        for closed in ["127.0.0.1:8787", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let checked = settings(&[]).check_handed_over(at(closed)).expect(closed);
            assert_eq!(checked.address, at(closed));
        }
        assert!(settings(&[("SKYCLAW_TOKEN", "t")]).check_handed_over(at("[::]:8787")).is_ok());
    }

    #[test]
    fn the_refusal_to_be_open_says_what_to_do() {
        let error = settings(&[]).check().expect_err("open").to_string();
        for part in ["0.0.0.0:8787", "SKYCLAW_TOKEN", "SKYCLAW_COORDINATOR_HOST", "127.0.0.1"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }

    #[test]
    fn a_number_that_makes_no_sense_is_named() {
        for name in ["SKYCLAW_MIN_REPLICATIONS", "SKYCLAW_LEASE_MS", "SKYCLAW_MAX_IN_FLIGHT"] {
            let error = settings(&[("SKYCLAW_TOKEN", "t"), (name, "0")]).check().expect_err(name);
            assert_eq!(error, Error::Zero(name));
        }
    }

    #[test]
    fn secrets_are_not_in_what_is_printed() {
        let env = [("SKYCLAW_TOKEN", "s3cret"), ("SKYCLAW_PUBLIC_API_KEYS", "s3cret:a")];
        let settings = settings(&env);
        assert!(!format!("{settings:?} {:?}", settings.check()).contains("s3cret"));
    }
}
