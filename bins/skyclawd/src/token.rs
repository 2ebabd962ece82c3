//! Secrets that clients present, compared in constant time: not even the length of a secret can be learned from
//! how long a comparison takes.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Longer than any secret should be.
const LONG: usize = 4096;

/// The one secret that every request is compared with. To hash what each presents is some thousand instructions
/// where the processor has none made for it.
#[derive(Clone)]
pub struct Token {
    /// With zeros behind it up to [`LONG`], so that what is beyond its end is compared like the rest.
    padded: Box<[u8]>,
    len: usize,
}

impl Token {
    /// As configured.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut padded = vec![0; secret.len().max(LONG)];
        padded[..secret.len()].copy_from_slice(secret);
        Self { padded: padded.into(), len: secret.len() }
    }

    /// Whether this is it. How long that takes follows from the length of what is presented alone.
    #[must_use]
    pub fn is(&self, presented: &[u8]) -> bool {
        let Some(beginning) = self.padded.get(..presented.len()) else { return false };
        (beginning.ct_eq(presented) & self.len.ct_eq(&presented.len())).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of a secret, as configured or as presented.
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether two secrets are the same. Takes the same time whatever they are.
    pub(crate) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// The first `bytes` bytes in hex: enough to tell keys apart, useless to find one.
    pub(crate) fn short(&self, bytes: usize) -> String {
        self.0.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_and_nothing_else() {
        let long = vec![b'x'; LONG + 3];
        for secret in [&b"token"[..], b"", &long[..LONG], &long] {
            let kept = Token::new(secret);
            assert!(kept.is(secret));
            let longer = [secret, b"n"].concat();
            // What it is padded with is no part of it.
            let padded = [secret, b"\0"].concat();
            assert!(!kept.is(&longer) && !kept.is(&padded) && !kept.is(b"Token"));
            assert!(secret.is_empty() || !kept.is(&secret[1..]) && !kept.is(&secret[..secret.len() - 1]));
        }
    }

    #[test]
    fn a_secret_is_not_told() {
        assert_eq!(format!("{:?}", Token::new(b"token")), "<redacted>");
    }
}
