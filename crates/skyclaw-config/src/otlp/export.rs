//! Where spans go, from our own settings and the standard variables of OpenTelemetry. Ours come first.

use std::collections::BTreeSet;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Error, Ratio};
use crate::{Environment, HttpUrl, Secret};

/// The variable of our own for headers.
pub const OWN_HEADERS: &str = "SKYCLAW_OTLP_HEADERS";
/// The standard variables for headers, which hold keys of collectors: the first that is set counts.
pub const STANDARD_HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];

const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// What the library writes into a request that it has made; all else is ours to say.
const OF_THE_LIBRARY: [HeaderName; 3] =
    [reqwest::header::CONTENT_TYPE, reqwest::header::CONTENT_ENCODING, reqwest::header::USER_AGENT];

/// What our own settings say of it.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The base URL of the collector; spans go to `/v1/traces` below it.
    pub endpoint: Option<&'a HttpUrl>,
    /// Headers of each request there, as `name=value,name=value`.
    pub headers: Option<&'a Secret>,
    /// Which part of the traces is sent.
    pub sample: Ratio,
    /// The name of the program.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Where spans go, and whose they are.
pub struct Export {
    pub(super) url: String,
    pub(super) headers: Headers,
    pub(super) sample: Ratio,
    pub(super) program: &'static str,
    version: &'static str,
    /// What they are told to be of.
    service: String,
    /// What else the environment says of it; the library reads that itself.
    told: BTreeSet<String>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a key as well.
        f.debug_struct("Export").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Export {
    /// Finds out whether spans are sent, and where. What the environment says counts where our own settings say
    /// nothing. `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` turn off what the environment alone asks for.
    ///
    /// # Errors
    /// When a URL or a list of headers is none; the error names the variable, and not what it holds.
    pub fn find(own: &Own<'_>, env: &Environment) -> Result<Option<Self>, Error> {
        let is_off = env.get(DISABLED).is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || env.get(EXPORTER).is_some_and(|it| it.eq_ignore_ascii_case("none"));
        let url = match (own.endpoint, env.get(TRACES_ENDPOINT), env.get(ENDPOINT)) {
            (Some(base), ..) => below(base.as_str()),
            (None, ..) if is_off => return Ok(None),
            (None, Some(whole), _) => plain(whole, TRACES_ENDPOINT)?,
            (None, None, Some(base)) => below(&plain(base, ENDPOINT)?),
            (None, None, None) => return Ok(None),
        };
        let standard = || STANDARD_HEADERS.iter().find_map(|name| Some((*name, env.get(name)?)));
        let headers = match own.headers.map(|own| (OWN_HEADERS, own.expose())).or_else(standard) {
            Some((name, list)) => Headers::read(list).ok_or(Error::Headers(name))?,
            None => Headers::default(),
        };
        let pairs = env.get(ATTRIBUTES).unwrap_or_default().split(',');
        let told: Vec<_> = pairs.filter_map(|pair| pair.split_once('=')).collect();
        let named = told.iter().find(|(key, _)| key.trim() == "service.name").map(|(_, name)| name.trim());
        let service = env.get(SERVICE_NAME).or(named).unwrap_or(own.service).to_owned();
        let told = told.iter().map(|(key, _)| key.trim().to_owned()).collect();
        let (sample, program, version) = (own.sample, own.service, own.version);
        Ok(Some(Self { url, headers, sample, program, version, service, told }))
    }

    /// Whose spans these are.
    pub(super) fn resource(&self) -> Resource {
        let resource = Resource::builder().with_service_name(self.service.clone());
        if self.told.contains("service.version") {
            return resource.build();
        }
        resource.with_attribute(KeyValue::new("service.version", self.version)).build()
    }
}

/// Where spans go below the base URL of a collector.
fn below(base: &str) -> String {
    format!("{}/v1/traces", base.trim_end_matches('/'))
}

/// A URL that a variable names. It may hold a key, so an error does not show it.
fn plain(text: &str, variable: &'static str) -> Result<String, Error> {
    Ok(crate::url::plain(text).ok_or(Error::Endpoint(variable))?.into())
}

/// What each request to the collector carries. Secret: keys of collectors are in it.
#[derive(Clone, Default)]
pub(super) struct Headers(HeaderMap);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Headers {
    /// Reads `name=value,name=value`, values with `%` escapes.
    fn read(list: &str) -> Option<Self> {
        let mut headers = HeaderMap::new();
        for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let name = HeaderName::try_from(name.trim()).ok()?;
            let decoded: Vec<u8> = percent_decode_str(value.trim()).collect();
            let mut value = HeaderValue::from_bytes(&decoded).ok()?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Some(Self(headers))
    }

    /// Puts them onto a request in the place of what the library found by itself.
    pub(super) fn put(&self, on: &mut HeaderMap) {
        let made: HeaderMap = OF_THE_LIBRARY
            .into_iter()
            .filter_map(|name| on.remove(&name).map(|value| (name, value)))
            .collect();
        *on = made;
        on.extend(self.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own<'a>(endpoint: Option<&'a HttpUrl>, headers: Option<&'a Secret>) -> Own<'a> {
        Own { endpoint, headers, sample: Ratio(1.0), service: "skyclawd", version: "1.2.3" }
    }

    fn found(
        endpoint: Option<&str>,
        headers: Option<&str>,
        env: &[(&str, &str)],
    ) -> Result<Option<Export>, Error> {
        let endpoint = endpoint.map(|url| url.parse::<HttpUrl>().expect("a URL"));
        let headers = headers.map(|list| Secret::new(list.to_owned()));
        Export::find(&own(endpoint.as_ref(), headers.as_ref()), &env.iter().copied().collect())
    }

    fn url(endpoint: Option<&str>, env: &[(&str, &str)]) -> Option<String> {
        found(endpoint, None, env).expect("settings").map(|export| export.url)
    }

    #[test]
    fn our_own_endpoint_comes_before_that_of_traces_which_comes_before_that_of_all() {
        let (all, traces) = ((ENDPOINT, "http://all:4318/x/"), (TRACES_ENDPOINT, "http://traces/in?k=v"));
        assert_eq!(url(None, &[]), None);
        assert_eq!(url(None, &[all]).as_deref(), Some("http://all:4318/x/v1/traces"));
        assert_eq!(url(None, &[all, traces]).as_deref(), Some("http://traces/in?k=v"));
        assert_eq!(url(Some("http://own"), &[all, traces]).as_deref(), Some("http://own/v1/traces"));
    }

    #[test]
    fn what_is_turned_off_in_the_environment_is_off_unless_our_own_settings_ask_for_it() {
        for off in [(DISABLED, "true"), (DISABLED, "TRUE"), (EXPORTER, "none")] {
            assert_eq!(url(None, &[(ENDPOINT, "http://all"), off]), None, "{off:?}");
            assert!(url(Some("http://own"), &[off]).is_some(), "{off:?}");
        }
        assert!(url(None, &[(ENDPOINT, "http://all"), (DISABLED, "false")]).is_some());
    }

    #[test]
    fn headers_are_read_and_our_own_take_the_place_of_all_others() {
        let sent = |own: Option<&str>, env: &[(&str, &str)]| {
            let export = found(Some("http://own"), own, env).expect("settings").expect("an export");
            let mut on = HeaderMap::new();
            on.insert("content-type", HeaderValue::from_static("application/x-protobuf"));
            // As the library puts in what it finds in the environment.
            on.insert("api-key", HeaderValue::from_static("of the library"));
            export.headers.put(&mut on);
            let text = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", value.to_str().expect("text"))
            };
            let mut all: Vec<String> = on.iter().map(text).collect();
            all.sort();
            all
        };
        let (all, traces) =
            ((STANDARD_HEADERS[1], "api-key=all"), (STANDARD_HEADERS[0], " api-key = a%20b , x=y=z,"));
        let kind = "content-type: application/x-protobuf";
        assert_eq!(sent(None, &[]), [kind]);
        assert_eq!(sent(None, &[all]), ["api-key: all", kind]);
        assert_eq!(sent(None, &[all, traces]), ["api-key: a b", kind, "x: y=z"]);
        assert_eq!(sent(Some("own=1"), &[all, traces]), [kind, "own: 1"]);
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        let wrong = [
            (found(None, None, &[(ENDPOINT, "s3cret")]), ENDPOINT),
            (found(None, None, &[(TRACES_ENDPOINT, "http://u:s3cret@h")]), TRACES_ENDPOINT),
            (found(Some("http://h"), None, &[(STANDARD_HEADERS[1], "s3cret")]), STANDARD_HEADERS[1]),
            (found(Some("http://h"), Some("a b=s3cret"), &[]), OWN_HEADERS),
            (found(Some("http://h"), Some("a=s3cret%0A"), &[]), OWN_HEADERS),
        ];
        for (found, name) in wrong {
            let error = found.expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        let export = found(Some("http://h"), Some("a=s3cret"), &[]).expect("settings").expect("an export");
        assert!(!format!("{export:?} {:?}", export.headers).contains("s3cret"));
    }

    #[test]
    fn spans_are_of_whom_the_environment_says_and_of_the_program_otherwise() {
        let service = |env: &[(&str, &str)]| {
            found(Some("http://h"), None, env).expect("settings").expect("an export").service
        };
        let attributes = (ATTRIBUTES, "deployment.environment=prod, service.name = of-attributes");
        assert_eq!(service(&[]), "skyclawd");
        assert_eq!(service(&[attributes]), "of-attributes");
        assert_eq!(service(&[attributes, (SERVICE_NAME, "named")]), "named");
    }
}
