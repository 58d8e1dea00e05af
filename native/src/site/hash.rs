//! SHA-256 in hexadecimal digits.

use sha2::{Digest, Sha256};

/// Hash of a content, 64 lower-case digits.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
