//! What one connection sends, whole, in memory: nothing is written down while the clock runs.

/// Requests back to back, and where each of them ends.
#[derive(Clone, Debug, Default)]
pub struct Load {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
}

impl Load {
    /// Adds a request, which `write` appends to the bytes.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many requests it is.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// The first line to a source with a token.
pub fn token_line(token: &str) -> Vec<u8> {
    let mut line = serde_json::json!({ "token": token }).to_string().into_bytes();
    line.push(b'\n');
    line
}
