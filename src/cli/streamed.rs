//! Answers that are read while they come, however long they are and however long they take.

use super::client::{Client, problem};
use super::failure::Failure;

/// So much of a problem is read.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

impl Client<'_> {
    /// Asks for `/v1/` + `path`; `part` gets the answer as it comes. No time limits it.
    ///
    /// # Errors
    /// As those of [`Client::get`], and what `part` says.
    pub fn get_streamed(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        part: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.http.get(self.address(path, query)?);
        self.runtime.block_on(self.read_streamed(request, part))
    }

    /// Sends a JSON document to `/v1/` + `path`; the rest as [`Client::get_streamed`].
    ///
    /// # Errors
    /// As those of [`Client::get_streamed`].
    pub fn post_streamed(
        &self,
        path: &[&str],
        document: &str,
        part: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.http.post(self.address(path, &[])?).header("content-type", "application/json");
        self.runtime.block_on(self.read_streamed(request.body(document.to_owned()), part))
    }

    async fn read_streamed(
        &self,
        request: reqwest::RequestBuilder,
        mut part: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut response = self.send(request).await?;
        let status = response.status();
        let mut told = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if status.is_success() {
                part(&chunk)?;
            } else if told.len() < PROBLEM_BYTES_MAX {
                told.extend_from_slice(&chunk);
            }
        }
        if status.is_success() { Ok(()) } else { Err(problem(status.as_u16(), &told)) }
    }
}
