//! Between records and rows. A row's body is the record as JSON; its other columns are taken from the
//! record and must agree with it when it is read.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use skyclaw_core::model::{Host, Job, Service};
use skyclaw_core::{Counters, Freeze, Restore, Schedule, StagedPart, StoredReply};
use skyclaw_proto::Timestamp;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, Row as _};

use crate::batch::{Position, ReplyId};
use crate::damage::Damage;
use crate::read::Error;
use crate::schema::status_code;

/// One row to be written.
pub(crate) trait Insert {
    /// The table and its columns.
    const HEAD: &'static str;
    /// A place for each of its values.
    const ROW: &'static str;
    /// What happens to a row that is there already.
    const CONFLICT: &'static str;
    /// About how many bytes were put together for it.
    fn bytes(&self) -> usize;
    /// Its values, in the order of the columns.
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError>;
}

/// What most records fit into: a buffer that grows while it is written is copied each time.
const TEXT_BYTES: usize = 1024;

/// A record as JSON, with the checksum of that.
pub(crate) struct Body {
    text: String,
    crc: u32,
}

impl Body {
    pub(crate) fn of(record: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        serde_json::to_writer(&mut text, record)?;
        let text = String::from_utf8(text).map_err(serde_json::Error::custom)?;
        let crc = crc32fast::hash(text.as_bytes());
        Ok(Self { text, crc })
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The text and its checksum, as two values of a row.
    pub(crate) fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.text)?;
        values.add(i64::from(self.crc))
    }
}

pub(crate) struct HostRow {
    pub(crate) id: String,
    pub(crate) body: Body,
}

impl Insert for HostRow {
    const HEAD: &'static str = "INSERT INTO hosts (id, body, crc) ";
    const ROW: &'static str = "(?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (id) DO UPDATE SET body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.id)?;
        self.body.bind(values)
    }
}

pub(crate) struct JobRow {
    pub(crate) seq: i64,
    pub(crate) id: Arc<str>,
    pub(crate) status: i64,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) submitter: Option<String>,
    /// When it ended, if it may be forgotten, and until when it asks to be kept, if it does.
    pub(crate) prunable: Option<(Timestamp, Option<Timestamp>)>,
    pub(crate) body: Body,
}

impl Insert for JobRow {
    const HEAD: &'static str =
        "INSERT INTO jobs (seq, id, status, host, submitter, body, crc, ended_at, keep_until) ";
    const ROW: &'static str = "(?, ?, ?, ?, ?, ?, ?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (seq) DO UPDATE SET status = excluded.status, \
        host = excluded.host, submitter = excluded.submitter, body = excluded.body, crc = excluded.crc, \
        ended_at = excluded.ended_at, keep_until = excluded.keep_until";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.seq)?;
        values.add(self.id)?;
        values.add(self.status)?;
        values.add(self.host)?;
        values.add(self.submitter)?;
        self.body.bind(values)?;
        values.add(self.prunable.map(|(at, _)| at.as_millis()))?;
        values.add(self.prunable.and_then(|(_, until)| until).map(Timestamp::as_millis))
    }
}

pub(crate) struct LabelRow {
    pub(crate) label: String,
    pub(crate) seq: i64,
}

impl Insert for LabelRow {
    const HEAD: &'static str = "INSERT INTO labels (label, seq) ";
    const ROW: &'static str = "(?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT DO NOTHING";
    fn bytes(&self) -> usize {
        self.label.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.label)?;
        values.add(self.seq)
    }
}

pub(crate) struct ServiceRow {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) body: Body,
}

impl Insert for ServiceRow {
    const HEAD: &'static str = "INSERT INTO services (seq, id, body, crc) ";
    const ROW: &'static str = "(?, ?, ?, ?)";
    const CONFLICT: &'static str =
        " ON CONFLICT (seq) DO UPDATE SET body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.seq)?;
        values.add(self.id)?;
        self.body.bind(values)
    }
}

pub(crate) struct ScheduleRow {
    pub(crate) id: String,
    pub(crate) body: Body,
}

impl Insert for ScheduleRow {
    const HEAD: &'static str = "INSERT INTO schedules (id, body, crc) ";
    const ROW: &'static str = "(?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (id) DO UPDATE SET body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.id)?;
        self.body.bind(values)
    }
}

pub(crate) struct ReplyRow {
    pub(crate) id: ReplyId,
    pub(crate) expires_at: i64,
    pub(crate) body: Body,
}

impl Insert for ReplyRow {
    const HEAD: &'static str = "INSERT INTO replies (id, expires_at, body, crc) ";
    const ROW: &'static str = "(?, ?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, \
        body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.id.as_bytes().to_vec())?;
        values.add(self.expires_at)?;
        self.body.bind(values)
    }
}

pub(crate) struct StagedRow {
    pub(crate) part: Arc<StagedPart>,
}

impl Insert for StagedRow {
    const HEAD: &'static str = "INSERT INTO staged (part, restore, bytes, crc) ";
    const ROW: &'static str = "(?, ?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (part) DO UPDATE SET restore = excluded.restore, \
        bytes = excluded.bytes, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.part.bytes.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(i64::from(self.part.part))?;
        values.add(self.part.restore.as_str().to_owned())?;
        bind_sound(self.part.bytes.clone(), values)
    }
}

/// A record that is kept by its number, in a table of `number, body, crc`.
pub(crate) trait Numbered: Serialize + DeserializeOwned {
    /// What one is called.
    const NAME: &'static str;
    /// The table and its columns.
    const HEAD: &'static str;
    /// Its number.
    fn number(&self) -> u64;
}

impl Numbered for Restore {
    const NAME: &'static str = "restore";
    const HEAD: &'static str = "INSERT INTO restores (number, body, crc) ";
    fn number(&self) -> u64 {
        self.number
    }
}

impl Numbered for Freeze {
    const NAME: &'static str = "freeze";
    const HEAD: &'static str = "INSERT INTO freezes (number, body, crc) ";
    fn number(&self) -> u64 {
        self.number
    }
}

pub(crate) struct NumberedRow<T> {
    number: i64,
    body: Body,
    record: PhantomData<T>,
}

impl<T: Numbered> NumberedRow<T> {
    pub(crate) fn of(number: i64, record: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { number, body: Body::of(record)?, record: PhantomData })
    }
}

impl<T: Numbered> Insert for NumberedRow<T> {
    const HEAD: &'static str = T::HEAD;
    const ROW: &'static str = "(?, ?, ?)";
    const CONFLICT: &'static str =
        " ON CONFLICT (number) DO UPDATE SET body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.body.len()
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(self.number)?;
        self.body.bind(values)
    }
}

/// The label of a job as one text. A key holds no `=`, so no two labels look alike.
pub(crate) fn label(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// Reads `id, body, crc`.
pub(crate) fn host(row: &SqliteRow) -> Result<Host, Error> {
    let id: &str = row.try_get(0)?;
    let host: Host = body(row, 1, || format!("host {id}"))?;
    agree(host.id.as_str() == id, || format!("host {id}"))?;
    Ok(host)
}

/// Reads `seq, id, status, body, crc`.
pub(crate) fn job(row: &SqliteRow) -> Result<Job, Error> {
    let (seq, id): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    let job: Job = body(row, 3, || format!("job {id}"))?;
    let same = i64::try_from(job.seq) == Ok(seq)
        && job.id.as_str() == id
        && status_code(job.status()) == row.try_get::<i64, _>(2)?;
    agree(same, || format!("job {id}"))?;
    Ok(job)
}

/// Reads `seq, id, body, crc`.
pub(crate) fn service(row: &SqliteRow) -> Result<Service, Error> {
    let (seq, id): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    let service: Service = body(row, 2, || format!("service {id}"))?;
    agree(i64::try_from(service.seq) == Ok(seq) && service.id.as_str() == id, || format!("service {id}"))?;
    Ok(service)
}

/// Reads `id, body, crc`.
pub(crate) fn schedule(row: &SqliteRow) -> Result<Schedule, Error> {
    let id: &str = row.try_get(0)?;
    let schedule: Schedule = body(row, 1, || format!("schedule {id}"))?;
    agree(schedule.id.as_str() == id, || format!("schedule {id}"))?;
    Ok(schedule)
}

/// Reads `id, body, crc`.
pub(crate) fn reply(row: &SqliteRow) -> Result<(ReplyId, StoredReply), Error> {
    let stored: &[u8] = row.try_get(0)?;
    let reply: StoredReply = body(row, 1, || "an idempotency record".into())?;
    let id = ReplyId::of(&reply.key);
    agree(id.as_bytes() == stored, || "an idempotency record".into())?;
    Ok((id, reply))
}

/// Reads `number, body, crc`.
pub(crate) fn numbered<T: Numbered>(row: &SqliteRow) -> Result<T, Error> {
    let number: i64 = row.try_get(0)?;
    let name = || format!("{} {number}", T::NAME);
    let record: T = body(row, 1, name)?;
    agree(i64::try_from(record.number()) == Ok(number), name)?;
    Ok(record)
}

/// Reads `log_index, position, counters, crc`.
pub(crate) fn applied(row: &SqliteRow) -> Result<(Position, Counters), Error> {
    let (index, bytes, counters): (i64, &[u8], &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let record = || "the place in the log".into();
    agree(i64::from(applied_crc(index, bytes, counters)) == row.try_get::<i64, _>(3)?, record)?;
    let parsed = parse(counters.as_bytes(), record)?;
    let index = u64::try_from(index).map_err(|_| Error::Damaged(Damage(format!("log index {index}"))))?;
    Ok((Position { index, bytes: bytes.to_vec() }, parsed))
}

/// Reads `bytes, crc` of the part with this number.
pub(crate) fn staged(row: &SqliteRow, part: u32) -> Result<&[u8], Error> {
    sound(row, 0, || format!("part {part} of what is staged"))
}

/// The checksum of the row that tells the place in the log.
pub(crate) fn applied_crc(index: i64, position: &[u8], counters: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_be_bytes());
    hasher.update(position);
    hasher.update(counters.as_bytes());
    hasher.finalize()
}

/// Reads a body and, in the column after it, its checksum.
pub(crate) fn body<T: DeserializeOwned>(
    row: &SqliteRow,
    column: usize,
    record: impl Fn() -> String,
) -> Result<T, Error> {
    parse(sound(row, column, &record)?, record)
}

/// Bytes and their checksum, as two values of a row.
pub(crate) fn bind_sound(bytes: Vec<u8>, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
    let crc = crc32fast::hash(&bytes);
    values.add(bytes)?;
    values.add(i64::from(crc))
}

/// Reads what has its checksum in the column after it.
pub(crate) fn sound(row: &SqliteRow, column: usize, record: impl Fn() -> String) -> Result<&[u8], Error> {
    let (bytes, crc): (&[u8], i64) = (row.try_get(column)?, row.try_get(column + 1)?);
    if i64::from(crc32fast::hash(bytes)) != crc {
        return Err(Error::Damaged(Damage(format!("{}: its checksum is wrong", record()))));
    }
    Ok(bytes)
}

pub(crate) fn parse<T: DeserializeOwned>(json: &[u8], record: impl Fn() -> String) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| unreadable(&record(), &error))
}

pub(crate) fn unreadable(record: &str, error: &dyn fmt::Display) -> Error {
    Error::Damaged(Damage(format!("{record}: it cannot be read: {error}")))
}

pub(crate) fn agree(same: bool, record: impl Fn() -> String) -> Result<(), Error> {
    if same {
        return Ok(());
    }
    Err(Error::Damaged(Damage(format!("{}: its columns do not agree with it", record()))))
}
