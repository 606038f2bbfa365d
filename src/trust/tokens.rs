//! Tokens and what they are good for.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What a token lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Bring events.
    Send,
    /// Read entities, decisions, dead letters, status and metrics.
    Read,
    /// Whatever changes the node itself.
    Admin,
}

impl Scope {
    /// All of them, by the words of the configuration.
    pub const ALL: [(&str, Scope); 3] = [("send", Scope::Send), ("read", Scope::Read), ("admin", Scope::Admin)];

    /// The scope's word.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Send => "send",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// Some scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope there is.
    pub fn all() -> Self {
        Scope::ALL.into_iter().map(|(_, scope)| scope).collect()
    }

    /// Whether `scope` is among them.
    pub fn include(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// The words of those that are among them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Scope::ALL.into_iter().filter(move |(_, scope)| self.include(*scope)).map(|(name, _)| name)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Scopes(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

/// The tokens of a listener. Kept as digests, so that comparing them tells nothing of their lengths.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<([u8; blake3::OUT_LEN], Scopes)>);

impl Tokens {
    /// These tokens.
    pub fn new<'t>(tokens: impl IntoIterator<Item = (&'t str, Scopes)>) -> Self {
        Tokens(tokens.into_iter().map(|(token, scopes)| (digest(token.as_bytes()), scopes)).collect())
    }

    /// Whether there are none, so that everybody may do everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `shown` is good for; none if it is no token. Takes the same time whichever token it is, or almost is.
    pub fn scopes(&self, shown: &[u8]) -> Option<Scopes> {
        let shown = digest(shown);
        let (mut scopes, mut known) = (0, Choice::from(0));
        for (token, its) in &self.0 {
            let same = token.ct_eq(&shown);
            scopes.conditional_assign(&(scopes | its.0), same);
            known |= same;
        }
        bool::from(known).then_some(Scopes(scopes))
    }
}

fn digest(token: &[u8]) -> [u8; blake3::OUT_LEN] {
    blake3::hash(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a token would open more or less than it was made for, or something else would open the door.
    #[test]
    fn a_token_is_good_for_its_scopes() {
        let scopes = |wanted: &[Scope]| wanted.iter().copied().collect::<Scopes>();
        let tokens =
            Tokens::new([("all", Scopes::all()), ("s", scopes(&[Scope::Send])), ("r", scopes(&[Scope::Read]))]);
        for (shown, expected) in [
            ("all", Some([true, true, true])),
            ("s", Some([true, false, false])),
            ("r", Some([false, true, false])),
            ("", None),
            ("al", None),
            ("all ", None),
            ("sr", None),
        ] {
            let found = tokens.scopes(shown.as_bytes());
            let found = found.map(|found| Scope::ALL.map(|(_, scope)| found.include(scope)));
            assert_eq!(found, expected, "{shown:?}");
        }
        assert_eq!(Tokens::default().scopes(b""), None, "no token is none that is known");
    }
}
