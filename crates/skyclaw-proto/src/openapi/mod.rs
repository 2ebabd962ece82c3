//! What the document of the API needs beside what is derived on the types themselves: schemas of what is
//! written in a way of its own, and what the checks of requests ask for beyond types.
//!
//! Who adds a field to a type on the wire has nothing to do here: the derive on the type takes it in. Who adds a
//! *check* to a request adds its [`Rule`] beside it; a test tries every rule on the check it speaks of.
//!
//! A rule never refuses what the check takes. Where a check says more than a schema can (rules between fields,
//! bytes against characters), the schema says less, and the answer is a 400.

mod rules;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};

pub use self::rules::{Rule, rules};

/// What an id looks like in an answer. In a request, white space around it is passed over.
pub const ID: &str = "^[A-Za-z0-9._:-]{1,128}$";
/// What an id looks like in a request.
pub const SENT_ID: &str = r"^\s*[A-Za-z0-9._:-]{1,128}\s*$";
/// What an id looks like in a path: clients take `.` and `..` for ways through it, and send neither.
pub const PATH_ID: &str = r"^\s*(?!\.{1,2}\s*$)[A-Za-z0-9._:-]{1,128}\s*$";

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(description))
}

/// The schema of an id.
pub(crate) fn id(description: &str) -> RefOr<Schema> {
    text(description).pattern(Some(ID)).into()
}

/// The schema of a point in time.
pub(crate) fn time(description: &str) -> RefOr<Schema> {
    text(description).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
}

/// The schema of a list of words.
pub(crate) fn words(description: &str) -> RefOr<Schema> {
    let word = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    ArrayBuilder::new().items(word).description(Some(description)).into()
}

/// The schema of a place among all changes.
pub(crate) fn place(description: &str) -> RefOr<Schema> {
    text(description).pattern(Some("^[0-9]+(-[0-9]+)?$")).into()
}
