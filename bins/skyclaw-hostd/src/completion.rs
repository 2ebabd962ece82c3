//! How a run ended, as a coordinator is told.

use serde::{Deserialize, Serialize};
use skyclaw_exec::{BootTime, Ending, MARKER, Outcome, cut};
use skyclaw_proto::record::Usage;
use skyclaw_proto::request::CompleteJobBody;
use skyclaw_proto::{HostId, JobId, Timestamp, limits};

use crate::ticket::JobTicket;
use crate::{history, stopping};

/// What a body may have, in bytes: less than a coordinator takes, for what a proxy may add.
const MAX_BODY: usize = limits::MAX_BODY_BYTES - 48 * 1024;
/// Below this a body is not the reason for a refusal, in bytes.
const MIN_SHRUNK: usize = 4096;
/// What an error text may have, in bytes as JSON.
const MAX_ERROR: usize = 64 * 1024;

/// The outcome of a run, ready to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Completion {
    pub(crate) job: JobId,
    /// The same at every try, so that it is done once.
    pub(crate) key: String,
    pub(crate) body: CompleteJobBody,
}

impl Completion {
    /// The outcome of a job's run. Output is cut where the whole would be more than a coordinator takes.
    pub(crate) fn new(host: &HostId, job: &JobTicket, outcome: Outcome, now: Timestamp) -> Self {
        let lease = job.fence.map_or_else(|| format!("attempt-{}", job.attempt), |fence| fence.to_string());
        let mut completion = Self {
            job: job.job.clone(),
            key: format!("complete:{}:{lease}", job.job),
            body: CompleteJobBody {
                host_id: Some(host.to_string()),
                success: Some(outcome.success),
                duration_ms: Some(u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX)),
                exit_code: Some(outcome.exit_code),
                stdout: Some(outcome.stdout),
                stderr: Some(outcome.stderr),
                error: outcome.error,
                fence: job.fence,
                stopped: stopping::told(&outcome.ending).map(|why| why.to_string()),
                usage: Some(Usage {
                    cpu_ms: Some(u64::try_from(outcome.usage.cpu.as_millis()).unwrap_or(u64::MAX)),
                    peak_memory_bytes: Some(outcome.usage.peak_memory_bytes),
                }),
                oom: (outcome.ending == Ending::OutOfMemory).then_some(true),
                events: Some(history::told(&outcome.events, now, BootTime::now())),
            },
        };
        completion.fit(MAX_BODY);
        completion
    }

    /// Cuts the output to a quarter of what it may be. `false`: there is hardly any left.
    pub(crate) fn shrink(&mut self) -> bool {
        let size = serde_json::to_vec(&self.body).map_or(0, |json| json.len());
        let smaller = size >= MIN_SHRUNK;
        if smaller {
            self.fit(size / 4);
        }
        smaller
    }

    /// Cuts the output until the body has at most `max` bytes as JSON; the shorter stream is spared.
    fn fit(&mut self, max: usize) {
        if let Some(error) = &mut self.body.error {
            cut_encoded(error, MAX_ERROR);
        }
        let (mut stdout, mut stderr) =
            (self.body.stdout.take().unwrap_or_default(), self.body.stderr.take().unwrap_or_default());
        let (out, err) = (encoded(&stdout), encoded(&stderr));
        // Names, quotes and commas of the two fields themselves included.
        let rest = serde_json::to_vec(&self.body).map_or(0, |json| json.len()) + 32;
        let room = max.saturating_sub(rest);
        if out + err > room {
            let half = room / 2;
            cut_encoded(&mut stdout, half.max(room.saturating_sub(err)));
            cut_encoded(&mut stderr, half.max(room.saturating_sub(out)));
        }
        self.body.stdout = Some(stdout);
        self.body.stderr = Some(stderr);
    }
}

/// How long a text is inside the quotes of JSON.
fn encoded(text: &str) -> usize {
    text.chars().map(encoded_char).sum()
}

fn encoded_char(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

/// Cuts a text so that it has at most `max` bytes as JSON, mark included.
fn cut_encoded(text: &mut String, max: usize) {
    if encoded(text) <= max {
        return;
    }
    let mut room = max.saturating_sub(encoded(MARKER));
    let fits = text.char_indices().find_map(|(at, c)| match room.checked_sub(encoded_char(c)) {
        Some(left) => {
            room = left;
            None
        }
        None => Some(at),
    });
    if let Some(at) = fits {
        // Never longer than it was, even where the mark is longer than what it stands for.
        cut(text, (at + MARKER.len()).min(text.len().saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn completion(stdout: String, stderr: String) -> Completion {
        let job = serde_json::from_value(serde_json::json!({ "job": "job_1", "attempt": 1, "fence": 7 }))
            .expect("a ticket");
        let outcome = Outcome {
            success: true,
            exit_code: 0,
            duration: Duration::from_millis(5),
            stdout,
            stderr,
            error: None,
            ending: Ending::Exited(0),
            usage: skyclaw_exec::Usage::default(),
            events: vec![],
        };
        let host = HostId::parse("host_1").expect("an id");
        Completion::new(&host, &job, outcome, Timestamp::from_millis(0))
    }

    fn size(completion: &Completion) -> usize {
        serde_json::to_vec(&completion.body).expect("json").len()
    }

    #[test]
    fn output_that_grows_sixfold_as_json_still_fits() {
        let big = completion("\0".repeat(500_000), "e".repeat(1000));
        assert!(size(&big) <= MAX_BODY && size(&big) > MAX_BODY - 100);
        let stdout = big.body.stdout.expect("stdout");
        assert!(stdout.ends_with(MARKER));
        assert_eq!(big.body.stderr, Some("e".repeat(1000)), "the shorter stream is spared");
        let both = completion("\u{1}".repeat(500_000), "\u{1}".repeat(500_000));
        assert!(size(&both) <= MAX_BODY);
    }

    #[test]
    fn shrinking_comes_to_an_end() {
        let mut big = completion("x".repeat(400_000), String::new());
        let mut sizes = vec![size(&big)];
        while big.shrink() {
            sizes.push(size(&big));
        }
        assert!(sizes.is_sorted_by(|a, b| a > b) && sizes.len() > 2, "{sizes:?}");
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let small = completion("out\n".into(), "err\n".into());
        assert_eq!(
            (small.body.stdout.as_deref(), small.body.stderr.as_deref()),
            (Some("out\n"), Some("err\n"))
        );
        assert_eq!(small.key, "complete:job_1:7");
        assert_eq!(small.body.fence, Some(7));
    }

    proptest! {
        #[test]
        fn the_length_as_json_is_known(text: String, control in "[\\x00-\\x7f]*") {
            for text in [text, control] {
                let json = serde_json::to_string(&text).expect("json");
                prop_assert_eq!(encoded(&text) + 2, json.len());
            }
        }

        #[test]
        fn a_body_fits_whatever_was_written(
            out in "[\\x00-\\x7fäé€]{0,400}", err in "[\\x00-\\x7fäé€]{0,400}", max in 300_usize..1500,
        ) {
            let mut completion = completion(out, err);
            completion.fit(max);
            prop_assert!(size(&completion) <= max, "{} > {max}", size(&completion));
        }
    }
}
