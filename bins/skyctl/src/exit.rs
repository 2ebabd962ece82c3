//! What the exit codes say.

use std::process::ExitCode;

use skyclaw_proto::JobStatus;
use skyclaw_proto::record::Job;

/// How a command ended. The numbers are promised in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Success,
    /// 1: an error with no number of its own.
    Failure,
    /// 2: the command line or a setting is wrong.
    Usage,
    /// 3: there is no such job, host or service.
    NotFound,
    /// 4: the coordinator refuses the token.
    NotAuthorized,
    /// 5: no coordinator answered.
    Unavailable,
    /// 125: the job that was waited for was called off, expired or was lost.
    NotRun,
    /// 130: interrupted while waiting; the job goes on.
    Interrupted,
    /// The exit code of the job that was waited for, 1 to 255.
    Job(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotAuthorized => 4,
            Self::Unavailable => 5,
            Self::NotRun => 125,
            Self::Interrupted => 130,
            Self::Job(code) => code,
        }
    }

    /// What to end with after waiting for a job.
    #[must_use]
    pub fn of_job(job: &Job) -> Self {
        match job.status {
            JobStatus::Completed => Self::Success,
            JobStatus::Cancelled | JobStatus::Expired | JobStatus::Lost => Self::NotRun,
            JobStatus::Queued | JobStatus::Leased | JobStatus::Failed => {
                // A failure must not look like success, whatever the code of the run was.
                let code = job.result.as_ref().map_or(1, |result| result.exit_code);
                Self::Job(u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1))
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_job_s_end_is_the_exit_code_and_a_failure_is_never_zero() {
        let exit = |status, code: Option<i32>| {
            let mut job = samples::job("job_1", status);
            job.result = code.map(samples::result);
            Exit::of_job(&job).code()
        };
        assert_eq!(exit(JobStatus::Completed, Some(0)), 0);
        assert_eq!(exit(JobStatus::Failed, Some(7)), 7);
        assert_eq!(exit(JobStatus::Failed, Some(126)), 126);
        assert_eq!(exit(JobStatus::Failed, Some(0)), 1);
        assert_eq!(exit(JobStatus::Failed, Some(-1)), 1);
        assert_eq!(exit(JobStatus::Failed, Some(256)), 1);
        assert_eq!(exit(JobStatus::Failed, None), 1);
        assert_eq!(exit(JobStatus::Cancelled, None), 125);
        assert_eq!(exit(JobStatus::Expired, None), 125);
        assert_eq!(exit(JobStatus::Lost, None), 125);
    }
}
