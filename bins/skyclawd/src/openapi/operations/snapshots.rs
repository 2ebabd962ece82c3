//! Backups, and the way back to one.

use skyclaw_proto::request::CommitRestoreBody;
use skyclaw_proto::response::{RestoreBody, RestoresBody};
use skyclaw_proto::route;

use crate::middleware::entry::Entry::Working;
use crate::openapi::operation::Operation;

const TAG: &str = "snapshots";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::get(
            route::SNAPSHOT,
            Working,
            TAG,
            "saveSnapshot",
            "Everything that was acknowledged before, as one file",
        )
        .gives_text("application/octet-stream"),
        Operation::get(
            route::RESTORES,
            Working,
            TAG,
            "listRestores",
            "What the cluster went back to, oldest first",
        )
        .gives::<RestoresBody>(),
        Operation::post(
            "/v1/restores/{id}/parts/{part}",
            Working,
            TAG,
            "stageRestore",
            "Lay a part of a snapshot by",
        )
        .about("Sending a part again is harmless. At most 512 KiB.")
        .takes_octets()
        .gives::<RestoreBody>(),
        Operation::post(
            "/v1/restores/{id}/commit",
            Working,
            TAG,
            "commitRestore",
            "Go back to the snapshot that was laid by",
        )
        .about("Asked again with the same id, it says what came of it.")
        .takes::<CommitRestoreBody>()
        .stated()
        .gives::<RestoreBody>()
        .fault(409, "Jobs are leased, parts are missing, or the snapshot is damaged or of another cluster."),
        Operation::post("/v1/restores/{id}/cancel", Working, TAG, "cancelRestore", "Drop what was laid by")
            .gives::<RestoreBody>(),
    ]
}
