//! Who asks for something by hand, and why: what the subcommands that change a node send along.

use crate::model::value::{Map, Value};

/// Who asks, and why; both stand in the journal.
#[derive(Debug, Default, clap::Args)]
pub struct ByHand {
    /// Who asks for it
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

impl ByHand {
    /// The members of a request's body.
    pub fn members(&self) -> Map {
        let given = [("by", &self.by), ("why", &self.why)].into_iter();
        given.filter_map(|(name, text)| Some((name.into(), Value::string(text.as_deref()?)))).collect()
    }
}

#[cfg(test)]
impl ByHand {
    pub fn of_test() -> Self {
        ByHand { by: Some("ann".to_owned()), why: Some("a test".to_owned()) }
    }
}
