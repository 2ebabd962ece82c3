//! What ties a job to others, as flags of a submission.

use clap::Args;
use skyclaw_proto::limits::MAX_CONCURRENCY;
use skyclaw_proto::request::EnqueueJobBody;
use skyclaw_proto::{JobId, OnDependencyFailure};

/// What ties a job to others.
#[derive(Debug, Args)]
pub(super) struct LinksArgs {
    /// A job that must be completed first, by its whole id; may be repeated
    #[arg(long, value_name = "ID")]
    depends_on: Vec<JobId>,
    /// What becomes of it when one of those ends otherwise: fail, or skip to have it cancelled [default: fail]
    #[arg(long, value_name = "WHAT", value_parser = on_failure, requires = "depends_on")]
    on_dependency_failure: Option<OnDependencyFailure>,
    /// Of the jobs with this key, only so many run at once
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// How many [default: 1]
    #[arg(long, value_name = "N", requires = "concurrency_key",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONCURRENCY)))]
    concurrency_limit: Option<u32>,
    /// While a job with this key has not ended, submitting another one gives that one
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
}

impl LinksArgs {
    /// The submission with what these say in its place.
    pub(super) fn put(self, body: EnqueueJobBody) -> EnqueueJobBody {
        let depends_on: Vec<_> = self.depends_on.iter().map(ToString::to_string).collect();
        EnqueueJobBody {
            depends_on: Some(depends_on).filter(|ids| !ids.is_empty()),
            on_dependency_failure: self.on_dependency_failure.map(|it| it.to_string()),
            concurrency_key: self.concurrency_key,
            concurrency_limit: self.concurrency_limit,
            unique_key: self.unique_key,
            ..body
        }
    }
}

fn on_failure(text: &str) -> Result<OnDependencyFailure, String> {
    OnDependencyFailure::parse(text).ok_or_else(|| "must be fail or skip".to_owned())
}
