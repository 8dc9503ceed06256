//! How commands speak to the running instance: HTTP at `http.listen`, with the bearer token if one is set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};
use rollcall_runtime::topology::HttpConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::ApiError;
use crate::failure::Failure;
use crate::settings::Settings;

/// On the same machine or network an answer to a connect comes at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The running instance.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    config: HttpConfig,
    run_command: String,
}

impl Client {
    /// A client of the instance that the topology names.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let config = settings.http()?;
        let base = format!("http://{}/api/v1/", reachable(config.listen));
        let base =
            Url::parse(&base).map_err(|error| Failure::job(format!("{base} is not a URL: {error}")))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // What it shows is personal data: it goes to the instance and to nobody between.
            .no_proxy()
            .build()
            .map_err(|error| Failure::job(format!("can't make an HTTP client: {error}")))?;
        Ok(Self { http, base, config, run_command: settings.run_command() })
    }

    /// Asks; `None` leaves a query out.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<T, Failure> {
        let response = self.stream(path, query).await?;
        self.decode(response).await
    }

    /// Asks for an answer that comes in pieces.
    pub(crate) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<Response, Failure> {
        let mut url = self.url(path)?;
        let given = query.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value)));
        for (name, value) in given {
            url.query_pairs_mut().append_pair(name, value);
        }
        self.send(self.http.request(Method::GET, url)).await
    }

    /// Has something done.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let response = self.send(self.http.request(Method::POST, self.url(path)?).json(body)).await?;
        self.decode(response).await
    }

    /// The same, where nothing is answered but that it was done.
    pub(crate) async fn order(&self, path: &[&str]) -> Result<(), Failure> {
        self.send(self.http.request(Method::POST, self.url(path)?)).await.map(drop)
    }

    /// Each part becomes one segment of the path, whatever signs a name has.
    fn url(&self, path: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::job(format!("{} can't have a path", self.base)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = match &self.config.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Err(match serde_json::from_str::<ApiError>(&text) {
            Ok(ApiError { error, repair }) => Failure::Job { what: error, repair },
            Err(_) if status == reqwest::StatusCode::UNAUTHORIZED => Failure::repairable(
                format!("{} refused the token", self.base),
                "set http.token as the instance has it",
            ),
            Err(_) => Failure::job(format!("{} answered {status}", self.base)),
        })
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let url = response.url().clone();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::repairable(
                format!("{url} answered what this version does not read: {error}"),
                "run the command with the same version of rollcall as the instance",
            )
        })
    }

    /// The connection could not be made, or broke.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() || error.is_timeout() {
            let what = format!("no rollcall answers at {}", self.config.listen);
            return Failure::repairable(what, format!("start it: {}", self.run_command));
        }
        Failure::job(format!("the connection to {} broke: {}", self.config.listen, root_cause(error)))
    }
}

/// An instance that listens everywhere is asked on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listen.port())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
