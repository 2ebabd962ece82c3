//! Why a job is not running, as a table.

use skyclaw_proto::Explanation;

use crate::output::Table;

pub(super) fn table(explanation: &Explanation) -> Table {
    let why: Vec<_> = explanation.reasons.iter().map(|reason| reason.message.as_str()).collect();
    let why = Some(why.join("\n")).filter(|why| !why.is_empty());
    Table::of_fields(vec![
        ("id", Some(explanation.job_id.to_string())),
        ("status", Some(explanation.status.to_string())),
        ("why", why),
    ])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use skyclaw_proto::explanation::{Reason, ReasonCode};
    use skyclaw_proto::{JobId, JobStatus};

    use super::*;
    use crate::output::Look;

    fn explained(status: JobStatus, reasons: Vec<Reason>) -> String {
        let job_id = JobId::parse("job_1").expect("an id");
        table(&Explanation { job_id, status, reasons }).render(Look::PLAIN)
    }

    #[test]
    fn every_reason_has_a_line() {
        let reasons = vec![
            Reason::new(ReasonCode::Dependencies, "it waits for job a"),
            Reason::new(ReasonCode::NoHost, "no host is registered"),
        ];
        expect![[r"
            id      job_1
            status  queued
            why     it waits for job a
                    no host is registered
        "]]
        .assert_eq(&explained(JobStatus::Queued, reasons));
    }

    #[test]
    fn of_a_job_that_is_not_queued_only_its_status_is_told() {
        expect![[r"
            id      job_1
            status  leased
        "]]
        .assert_eq(&explained(JobStatus::Leased, Vec::new()));
    }
}
