//! Records of another mesh, to be merged.

use proptest::prelude::*;
use skyclaw_proto::{Capabilities, JobStatus, ServiceStatus, record};

use super::super::foreign;
use super::super::kit::{host_id, node_id, service_id};
use super::{HOSTS, JOBS, NODES, SERVICES, assignment_status, capabilities, one_of, time};
use crate::command::Operation;

fn version() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0u64..40, 1 => Just(u64::MAX)]
}

fn host_record() -> impl Strategy<Value = record::Host> {
    (one_of(&HOSTS), capabilities(), 0u32..4, version(), one_of(&NODES), time()).prop_map(
        |(id, caps, n, version, node, at)| record::Host {
            capabilities: Capabilities::new(caps),
            max_parallel: n,
            active_leases: n,
            updated_by: node_id(node),
            version,
            ..foreign::host(id, at)
        },
    )
}

fn job_record() -> impl Strategy<Value = record::Job> {
    let who = (one_of(&JOBS), prop::option::of(one_of(&HOSTS)), one_of(&NODES), capabilities());
    let what = (prop::sample::select(JobStatus::ALL), prop_oneof![Just(0), Just(u32::MAX)], 0u64..9);
    let times = (prop::option::weighted(0.2, time()), prop::option::weighted(0.2, time()));
    (who, what, (version(), times), time(), time()).prop_map(
        |(
            (id, host, node, caps),
            (status, attempts, fence),
            (version, (claimable_at, expires_at)),
            created_at,
            updated_at,
        )| record::Job {
            updated_at,
            updated_by: node_id(node),
            version,
            status,
            attempts,
            assigned_host_id: host.map(host_id),
            requirement: record::Requirement { required_capabilities: Capabilities::new(caps) },
            fence: Some(fence),
            claimable_at,
            expires_at,
            ..foreign::job(id, created_at)
        },
    )
}

fn service_record() -> impl Strategy<Value = record::Service> {
    let assignments = prop::collection::vec((one_of(&HOSTS), assignment_status(), time()), 0..3);
    (one_of(&SERVICES), version(), one_of(&NODES), time(), assignments).prop_map(
        |(id, version, node, at, assignments)| record::Service {
            id: service_id(id),
            name: id.into(),
            command: "serve".into(),
            args: Vec::new(),
            cwd: None,
            env: None,
            replicas: 1,
            required_capabilities: Capabilities::default(),
            status: ServiceStatus::Pending,
            created_at: at,
            updated_at: at,
            updated_by: node_id(node),
            version,
            assignments: assignments
                .into_iter()
                .map(|(host, status, updated_at)| record::Assignment {
                    host_id: host_id(host),
                    status,
                    endpoint: None,
                    error: None,
                    started_at: None,
                    updated_at,
                })
                .collect(),
            labels: Default::default(),
            agent_id: None,
        },
    )
}

pub(super) fn merge() -> impl Strategy<Value = Operation> {
    let hosts = prop::collection::vec(host_record(), 0..3);
    let jobs = prop::collection::vec(job_record(), 0..4);
    let services = prop::collection::vec(service_record(), 0..3);
    (hosts, jobs, services).prop_map(|(hosts, jobs, services)| Operation::Merge { hosts, jobs, services })
}
