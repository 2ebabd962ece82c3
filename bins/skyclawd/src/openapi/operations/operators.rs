//! Schedules and freezes.

use serde_json::json;
use skyclaw_proto::request::{
    ActOnScheduleBody, CreateScheduleBody, FreezeBody as Freeze, PauseScheduleBody, ThawBody,
};
use skyclaw_proto::response::{FreezeBody, FreezesBody, ScheduleBody, SchedulesBody, TriggeredBody};
use skyclaw_proto::route;

use axum::http::Method;

use super::jobs::{id, limit};
use crate::middleware::entry::Entry::Working;
use crate::openapi::operation::Operation;

const NO_SCHEDULE: &str = "There is no such schedule.";

pub(super) fn schedules() -> Vec<Operation> {
    const TAG: &str = "schedules";
    vec![
        Operation::post(route::SCHEDULES, Working, TAG, "createSchedule", "Submit jobs at certain times")
            .takes::<CreateScheduleBody>()
            .stated()
            .gives::<ScheduleBody>()
            .once()
            .fault(409, "A schedule of that name is there, or there are as many as there may be.")
            .makes("/v1/schedules/{id}", "/schedule/id"),
        Operation::get(route::SCHEDULES, Working, TAG, "listSchedules", "List schedules, oldest first")
            .query("limit", limit(), "How many on a page.")
            .query("cursor", id(), "The `nextCursor` of the page before.")
            .gives::<SchedulesBody>(),
        Operation::get("/v1/schedules/{id}", Working, TAG, "getSchedule", "One schedule, by its id or name")
            .gives::<ScheduleBody>()
            .fault(404, NO_SCHEDULE),
        Operation::new(
            Method::DELETE,
            "/v1/schedules/{id}",
            Working,
            TAG,
            "deleteSchedule",
            "Have a schedule no more",
        )
        .about("The jobs it submitted go on. A body is passed over.")
        .takes_nothing()
        .stated()
        .gives::<ScheduleBody>()
        .once()
        .fault(404, NO_SCHEDULE),
        Operation::post(
            "/v1/schedules/{id}/pause",
            Working,
            TAG,
            "pauseSchedule",
            "Let a schedule submit nothing for the time being",
        )
        .takes::<PauseScheduleBody>()
        .stated()
        .gives::<ScheduleBody>()
        .once()
        .fault(404, NO_SCHEDULE),
        Operation::post(
            "/v1/schedules/{id}/resume",
            Working,
            TAG,
            "resumeSchedule",
            "Let a paused schedule go on",
        )
        .takes::<ActOnScheduleBody>()
        .stated()
        .gives::<ScheduleBody>()
        .once()
        .fault(404, NO_SCHEDULE),
        Operation::post(
            "/v1/schedules/{id}/trigger",
            Working,
            TAG,
            "triggerSchedule",
            "Submit the job of a schedule now, once",
        )
        .takes::<ActOnScheduleBody>()
        .stated()
        .gives::<TriggeredBody>()
        .once()
        .fault(404, NO_SCHEDULE)
        .fault(409, "The last job of the schedule has not ended, or its job cannot be submitted."),
    ]
}

pub(super) fn freezes() -> Vec<Operation> {
    const TAG: &str = "freezes";
    vec![
        Operation::post(route::FREEZES, Working, TAG, "freeze", "Stop everything, or what a scope covers")
            .about("Nothing that it covers is claimed any more, and what of it runs is stopped. Without a scope, everything is meant.")
            .takes::<Freeze>()
            .stated()
            .gives::<FreezeBody>()
            .once()
            .fault(409, "There are as many freezes as there may be.")
            .makes("/v1/freezes/{id}", "/freeze/id"),
        Operation::get(route::FREEZES, Working, TAG, "listFreezes", "What is frozen, oldest first")
            .query("all", json!({"type": "boolean"}), "Also the newest of what was.")
            .gives::<FreezesBody>(),
        Operation::post("/v1/freezes/{id}/thaw", Working, TAG, "thaw", "End a freeze")
            .takes::<ThawBody>()
            .stated()
            .gives::<FreezeBody>()
            .once()
            .fault(404, "There is no such freeze."),
    ]
}
