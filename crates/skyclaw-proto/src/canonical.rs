//! Canonical JSON: the form in which two bodies are compared, so that the order of keys does not matter.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The SHA-256 of a body's canonical form: object keys sorted by their bytes, no white space.
///
/// Numbers are compared as they are written by `serde_json`, so `1` and `1.0` differ.
#[must_use]
pub fn fingerprint(body: &Value) -> [u8; 32] {
    let mut hasher = Hasher(Sha256::new());
    write(body, &mut hasher);
    hasher.0.finalize().into()
}

struct Hasher(Sha256);

impl std::io::Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Hasher {
    /// Writes a scalar as JSON; hashing cannot fail.
    fn scalar(&mut self, value: &impl serde::Serialize) {
        let _ = serde_json::to_writer(self, value);
    }
}

fn write(value: &Value, out: &mut Hasher) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.0.update(b"{");
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.0.update(b",");
                }
                out.scalar(key);
                out.0.update(b":");
                write(item, out);
            }
            out.0.update(b"}");
        }
        Value::Array(items) => {
            out.0.update(b"[");
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.0.update(b",");
                }
                write(item, out);
            }
            out.0.update(b"]");
        }
        scalar => out.scalar(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_matter_and_the_order_of_items_does() {
        let a: Value = serde_json::from_str(r#"{"a":{"x":1,"y":[1,2]},"b":2}"#).expect("json");
        let b: Value = serde_json::from_str(r#"{"b":2,"a":{"y":[1,2],"x":1}}"#).expect("json");
        assert_eq!(fingerprint(&a), fingerprint(&b));
        assert_ne!(fingerprint(&json!([1, 2])), fingerprint(&json!([2, 1])));
    }

    proptest! {
        #[test]
        fn different_strings_never_look_alike(a in any::<(String, String)>(), b in any::<(String, String)>()) {
            let doc = |p: &(String, String)| json!({ "k": [p.0, p.1] });
            prop_assert_eq!(fingerprint(&doc(&a)) == fingerprint(&doc(&b)), a == b);
        }
    }
}
