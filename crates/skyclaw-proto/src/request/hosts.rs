//! Requests about hosts: registering, heartbeats, claims.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::check::{
    between, bounded_text, capabilities, count, optional_id, optional_text, required_text, wait_ms,
};
use crate::limits;
use crate::logs::LogWant;
use crate::object;
use crate::record::HostFreeze;
use crate::{Capabilities, Enforces, HostId, JobId};

/// `POST /v1/hosts/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterHostBody {
    /// The id the host wants to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// How many jobs it takes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// What it can enforce of what jobs ask for. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub enforces: Option<Enforces>,
}

/// A checked [`RegisterHostBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterHost {
    /// The id the host wants to keep.
    pub host_id: Option<HostId>,
    /// For people.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many jobs it takes at once.
    pub max_parallel: u32,
    /// What it can enforce of what jobs ask for; `None` when it does not say.
    pub enforces: Option<Box<Enforces>>,
}

impl RegisterHostBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<RegisterHost, Invalid> {
        Ok(RegisterHost {
            name: required_text("name", self.name.as_deref(), limits::MAX_NAME_LEN)?,
            host_id: optional_id("hostId", self.host_id.as_deref(), HostId::parse)?,
            capabilities: capabilities("capabilities", self.capabilities)?,
            max_parallel: count("maxParallel", self.max_parallel, limits::MAX_PARALLEL)?,
            enforces: self.enforces.map(enforces).transpose()?.map(Box::new),
        })
    }
}

/// Words sorted and without doubles, so that a host that says the same says it in the same way.
fn enforces(given: Enforces) -> Result<Enforces, Invalid> {
    let words = |field: &str, all: Vec<String>| -> Result<Vec<String>, Invalid> {
        let mut all: Vec<String> = all.iter().map(|word| word.trim().to_owned()).collect();
        all.retain(|word| !word.is_empty());
        all.sort_unstable();
        all.dedup();
        if all.len() > limits::MAX_ENFORCES {
            return Err(Invalid::new(field, format!("must have at most {} entries", limits::MAX_ENFORCES)));
        }
        all.iter().try_for_each(|word| bounded_text(field, word, limits::MAX_CAPABILITY_LEN))?;
        Ok(all)
    };
    for (field, said) in [("enforces.unavailable", &given.unavailable), ("enforces.inForce", &given.in_force)]
    {
        if said.len() > limits::MAX_ENFORCES {
            let fault = format!("must have at most {} entries", limits::MAX_ENFORCES);
            return Err(Invalid::new(field, fault));
        }
        for (word, text) in said {
            bounded_text(field, word, limits::MAX_CAPABILITY_LEN)?;
            bounded_text(field, text, limits::MAX_REASON_LEN)?;
        }
    }
    Ok(Enforces {
        can: words("enforces.can", given.can)?,
        best_effort: words("enforces.bestEffort", given.best_effort)?,
        unavailable: given.unavailable,
        in_force: given.in_force,
    })
}

/// `POST /v1/hosts/:id/drain`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DrainHostBody {
    /// After how long what still runs is told to stop; never, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A checked [`DrainHostBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainHost {
    /// After how long what still runs is told to stop, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    pub by: Option<String>,
}

impl DrainHostBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<DrainHost, Invalid> {
        Ok(DrainHost {
            deadline_ms: between("deadlineMs", self.deadline_ms, 0, limits::MAX_DRAIN_MS)?,
            reason: optional_text("reason", self.reason, limits::MAX_REASON_LEN)?,
            by: optional_text("by", self.by, limits::MAX_NAME_LEN)?,
        })
    }
}

/// `POST /v1/hosts/:id/remove`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RemoveHostBody {
    /// Also a host that is up or holds work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// `POST /v1/hosts/:id/heartbeat`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatBody {
    /// What a reference host believes it holds. Read and not used: the coordinator knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_leases: Option<u32>,
    /// The runs whose leases this renews. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub running: Option<Vec<RunningJob>>,
    /// How long the answer may wait for something to stop, in milliseconds. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How the switch on the host's machine is. Absent, nothing is said of it. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub switch: Option<HostSwitch>,
    /// The output that the host brings as far as it knows that somebody follows it, and from where on. Absent from
    /// a host that brings none. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub logs: Option<Vec<LogWant>>,
}

/// How the switch on a host's machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostSwitch {
    /// That it is frozen; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<HostFreeze>,
    /// Who thawed it last, when it is not frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thawed_by: Option<String>,
}

impl HostSwitch {
    fn check(self) -> Result<Self, Invalid> {
        let frozen = self.frozen.map(|frozen| {
            Ok(HostFreeze {
                since: frozen.since,
                reason: optional_text("switch.frozen.reason", frozen.reason, limits::MAX_REASON_LEN)?,
                by: optional_text("switch.frozen.by", frozen.by, limits::MAX_NAME_LEN)?,
            })
        });
        let thawed_by = optional_text("switch.thawedBy", self.thawed_by, limits::MAX_NAME_LEN)?;
        Ok(Self { frozen: frozen.transpose()?, thawed_by })
    }
}

/// One run a host names as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunningJob {
    /// The job.
    pub job_id: JobId,
    /// The fencing token of the lease it runs under.
    pub fence: u64,
}

/// A checked [`HeartbeatBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The runs whose leases this renews.
    pub running: Vec<RunningJob>,
    /// How long the answer may wait, in milliseconds; 0 for not at all.
    pub wait_ms: u64,
    /// How the switch on the host's machine is.
    pub switch: Option<HostSwitch>,
    /// The output that the host brings; `None` when it brings none, whoever follows.
    pub logs: Option<Vec<LogWant>>,
}

impl HeartbeatBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Heartbeat, Invalid> {
        let running = self.running.unwrap_or_default();
        if running.len() > limits::MAX_PARALLEL as usize {
            return Err(Invalid::new(
                "running",
                format!("must have at most {} entries", limits::MAX_PARALLEL),
            ));
        }
        let switch = self.switch.map(HostSwitch::check).transpose()?;
        if self.logs.as_ref().is_some_and(|logs| logs.len() > 2 * limits::MAX_PARALLEL as usize) {
            let most = 2 * limits::MAX_PARALLEL;
            return Err(Invalid::new("logs", format!("must have at most {most} entries")));
        }
        Ok(Heartbeat { running, wait_ms: wait_ms(self.wait_ms)?, switch, logs: self.logs })
    }
}

/// `POST /v1/hosts/:id/claim`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimBody {
    /// How long the answer may wait for a job, in milliseconds. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How many jobs to take at most. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// A checked [`ClaimBody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// How long the answer may wait for a job, in milliseconds; 0 for not at all.
    pub wait_ms: u64,
    /// How many jobs to take at most; `None` from a client that takes one and expects no list.
    pub max: Option<u32>,
}

impl ClaimBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Claim, Invalid> {
        match self.max {
            Some(n) if n == 0 || n > limits::MAX_CLAIM => {
                Err(Invalid::new("max", format!("must be between 1 and {}", limits::MAX_CLAIM)))
            }
            max => Ok(Claim { wait_ms: wait_ms(self.wait_ms)?, max }),
        }
    }
}
