//! The bounds of everything a client may send. Past one, the answer is a 4xx that names it.

/// Longest id, in bytes.
pub const MAX_ID_LEN: usize = 128;
/// Longest name of a host or service, in bytes.
pub const MAX_NAME_LEN: usize = 256;
/// Most capabilities a host may have or a job may ask for.
pub const MAX_CAPABILITIES: usize = 256;
/// Longest capability, in bytes.
pub const MAX_CAPABILITY_LEN: usize = 128;
/// Most labels of a job.
pub const MAX_LABELS: usize = 64;
/// Longest key of a label, in bytes.
pub const MAX_LABEL_KEY_LEN: usize = 64;
/// Longest value of a label, in bytes.
pub const MAX_LABEL_VALUE_LEN: usize = 256;
/// Longest name that a client states for itself, in bytes.
pub const MAX_ACTOR_LEN: usize = 128;
/// Longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_LEN: usize = 256;
/// Longest text that is none of the others (submitter, URL, directory), in bytes.
pub const MAX_TEXT_LEN: usize = 4096;
/// Most jobs one host may run at once.
pub const MAX_PARALLEL: u32 = 100_000;
/// Most replicas of a service.
pub const MAX_REPLICAS: u32 = 10_000;
/// Most jobs one claim may take.
pub const MAX_CLAIM: u32 = 1_000;
/// Longest a claim or heartbeat may wait, in milliseconds.
pub const MAX_WAIT_MS: u64 = 30_000;
/// Longest timeout of a job, in milliseconds (a year).
pub const MAX_TIMEOUT_MS: u64 = 365 * 24 * 3600 * 1000;
/// Most jobs on one page of a list.
pub const MAX_PAGE: u32 = 1_000;
/// Jobs on one page of a list when the client names no number.
pub const DEFAULT_PAGE: u32 = 100;
/// Largest body of a core or public route, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest body of `/v1/replicate/snapshot`, in bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// Largest part of a snapshot that is restored, in bytes.
pub const MAX_RESTORE_PART_BYTES: usize = 512 * 1024;
/// Most parts of a snapshot that is restored.
pub const MAX_RESTORE_PARTS: u32 = 131_072;
/// Most peers a coordinator remembers.
pub const MAX_PEERS: usize = 256;
/// Most of a job's output that travels at once, in bytes.
pub const MAX_LOG_PIECE_BYTES: usize = 64 * 1024;
/// Where in a job's output a piece begins at most: the greatest number that all who read JSON have exactly.
pub const MAX_LOG_OFFSET: u64 = (1 << 53) - 1;
/// Most streams of its runs that a host is asked for at once.
pub const MAX_LOGS_WANTED: usize = 1024;
/// Highest priority of a job; 0 is the lowest.
pub const MAX_PRIORITY: u8 = 100;
/// Priority of a job whose client named none.
pub const DEFAULT_PRIORITY: u8 = 50;
/// Longest reference of a container image, in bytes.
pub const MAX_IMAGE_LEN: usize = 512;
/// Longest name of a network, in bytes.
pub const MAX_NETWORK_LEN: usize = 128;
/// Most mounts of a job.
pub const MAX_MOUNTS: usize = 32;
/// Longest a job may be asked to wait for a host, in milliseconds (a year).
pub const MAX_TTL_MS: u64 = MAX_TIMEOUT_MS;
/// Longest the record of a job may be asked to be kept after its end, in milliseconds (ten years).
pub const MAX_RETAIN_MS: u64 = 10 * MAX_TIMEOUT_MS;
/// Most attempts of a job.
pub const MAX_ATTEMPTS: u32 = 100;
/// Longest a job may be asked to wait between two attempts, in milliseconds (a year).
pub const MAX_BACKOFF_MS: u64 = MAX_TIMEOUT_MS;
/// How long a job waits after its first attempt that failed when its client named no time, in milliseconds.
pub const DEFAULT_BACKOFF_MS: u64 = 1000;
/// How long a job waits between two attempts at most when its client named no time, in milliseconds.
pub const DEFAULT_MAX_BACKOFF_MS: u64 = 300_000;
/// Most results of earlier attempts that are kept of a job: the newest.
pub const MAX_ATTEMPT_RESULTS: usize = 100;
/// How much is kept of what an earlier attempt wrote to each of its two outputs: the end, in bytes.
pub const MAX_ATTEMPT_OUTPUT_LEN: usize = 2048;
/// Most bytes the results of earlier attempts may take together: of the oldest ones the output is dropped first.
pub const MAX_ATTEMPTS_BYTES: usize = 64 * 1024;
/// Longest time a run may be given to stop by itself, in milliseconds.
pub const MAX_GRACE_MS: u64 = 10 * 60 * 1000;
/// Most of a processor a job may be bounded to, in thousandths of one.
pub const MAX_CPU_MILLIS: u32 = 1_024_000;
/// Least memory a job may be bounded to, in bytes: with less no process starts.
pub const MIN_MEMORY_BYTES: u64 = 1024 * 1024;
/// Most memory a job may be bounded to, in bytes.
pub const MAX_MEMORY_BYTES: u64 = 1 << 50;
/// Most processes a job may be bounded to.
pub const MAX_PIDS: u32 = 4_000_000;
/// Most words a host may say about what it can enforce.
pub const MAX_ENFORCES: usize = 256;
/// Longest reason for an operator's act, in bytes.
pub const MAX_REASON_LEN: usize = 1024;
/// Longest deadline of a drain, in milliseconds (a year).
pub const MAX_DRAIN_MS: u64 = MAX_TIMEOUT_MS;
/// Most freezes in force at once.
pub const MAX_FREEZES: usize = 256;
/// Most events one request may bring.
pub const MAX_EVENTS_AT_ONCE: usize = 64;
/// Longest kind of an event, in bytes.
pub const MAX_EVENT_KIND_LEN: usize = 64;
/// Longest detail of an event, in bytes.
pub const MAX_EVENT_DETAIL_LEN: usize = 1024;
/// Most events kept of a job: its first ones and its newest.
pub const MAX_JOB_EVENTS: usize = 64;
/// Most bytes the events of a job may take together.
pub const MAX_JOB_EVENT_BYTES: usize = 16 * 1024;
/// Most jobs a job may depend on: what is done of them is kept as the bits of one number.
pub const MAX_DEPENDENCIES: usize = 64;
/// Longest key of jobs that must not run beside each other, or of which there must be one, in bytes.
pub const MAX_KEY_LEN: usize = 256;
/// Most jobs with one key that may be asked to run at once.
pub const MAX_CONCURRENCY: u32 = 1_000_000;
/// Most schedules there may be.
pub const MAX_SCHEDULES: usize = 10_000;
/// Longest cron expression, in bytes.
pub const MAX_CRON_LEN: usize = 256;
/// Longest name of a time zone, in bytes.
pub const MAX_TIME_ZONE_LEN: usize = 64;
/// Most bytes of JSON the job of a schedule may take.
pub const MAX_SCHEDULE_JOB_BYTES: usize = 16 * 1024;
/// How late a schedule may make up for a time that was missed when it does not say, in milliseconds (an hour).
pub const DEFAULT_CATCH_UP_MS: u64 = 3600 * 1000;
/// The least of that, in milliseconds: what a change of leaders may take.
pub const MIN_CATCH_UP_MS: u64 = 1000;
/// The most of that, in milliseconds (a year).
pub const MAX_CATCH_UP_MS: u64 = MAX_TIMEOUT_MS;
/// Most events kept of a schedule: its newest.
pub const MAX_SCHEDULE_EVENTS: usize = 16;
