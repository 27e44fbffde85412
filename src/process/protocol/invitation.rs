//! The invitation to a worker to connect to its program: one line of text, which is a secret.
//!
//! ```text
//! progress-executor-invitation <version> <build> <tasks> <pool> <attempt> <key> <host>:<port>,<host>:<port>
//! ```
//!
//! All but the version and the addresses is hexadecimal. It is the first line of the worker's standard input, or of a file.

use std::fmt::{self, Write};

use crate::process::protocol::noise::{Key, Terms};
use crate::process::protocol::wire::{Fingerprint, VERSION};

const MAGIC: &str = "progress-executor-invitation";

/// The longest line: enough for a hundred addresses.
pub(crate) const LONGEST: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) terms: Terms,
    /// Where the program may be reached, each with a port. All are tried.
    pub(crate) addresses: Vec<String>,
}

/// Why a line is not an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoInvitation {
    /// It is empty.
    Nothing,
    /// It is something else.
    Other,
    Malformed(&'static str),
    Version(u32),
}

impl fmt::Display for NoInvitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to say"),
            Self::Other => f.write_str("something else to say"),
            Self::Malformed(what) => write!(f, "an invitation with a malformed {what}"),
            Self::Version(version) => {
                write!(f, "an invitation of version {version} of the protocol, where this is version {VERSION}")
            }
        }
    }
}

impl std::error::Error for NoInvitation {}

impl Invitation {
    /// The line, with its end.
    pub(crate) fn to_line(&self) -> String {
        let Self { terms: Terms { fingerprint, pool, attempt, key }, addresses } = self;
        let Fingerprint { binary, tasks } = fingerprint;
        let mut line = format!("{MAGIC} {VERSION} {binary:x} {tasks:x} {pool:x} {attempt:x} ");
        for byte in key.as_bytes() {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push(' ');
        line.push_str(&addresses.join(","));
        line.push('\n');
        line
    }

    /// Reads a line, with its end or without.
    pub(crate) fn parse(line: &str) -> Result<Self, NoInvitation> {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(MAGIC) => {}
            Some(_) => return Err(NoInvitation::Other),
            None => return Err(NoInvitation::Nothing),
        }
        let mut next = |what| words.next().ok_or(NoInvitation::Malformed(what));
        let version = next("version")?.parse().map_err(|_| NoInvitation::Malformed("version"))?;
        if version != VERSION {
            return Err(NoInvitation::Version(version));
        }
        let binary = number(next("build")?, "build")?;
        let tasks = number(next("list of tasks")?, "list of tasks")?;
        let pool = number(next("pool")?, "pool")?;
        let attempt = number(next("attempt")?, "attempt")?;
        let key = key(next("key")?).ok_or(NoInvitation::Malformed("key"))?;
        let addresses = next("list of addresses")?.split(',').map(str::to_owned).collect();
        let terms = Terms { fingerprint: Fingerprint { binary, tasks }, pool, attempt, key };
        Ok(Self { terms, addresses })
    }
}

fn number(word: &str, what: &'static str) -> Result<u64, NoInvitation> {
    u64::from_str_radix(word, 16).map_err(|_| NoInvitation::Malformed(what))
}

fn key(word: &str) -> Option<Key> {
    let mut key = [0; 32];
    // `from_str_radix` accepts a sign.
    if word.len() != 2 * key.len() || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(Key::from_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::{Invitation, LONGEST, NoInvitation};
    use crate::process::protocol::noise::{Key, Terms};
    use crate::process::protocol::wire::Fingerprint;

    fn invitation(addresses: &[&str]) -> Invitation {
        let mut key = [0x5a; 32];
        (key[0], key[31]) = (0, 0xff);
        let fingerprint = Fingerprint { binary: u64::MAX, tasks: 0 };
        let terms = Terms { fingerprint, pool: 7, attempt: 0x10, key: Key::from_bytes(key) };
        Invitation { terms, addresses: addresses.iter().map(|&address| address.into()).collect() }
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written() {
        for addresses in [&["127.0.0.1:80"][..], &["[::1]:65535", "login-1.cluster:9"]] {
            let invitation = invitation(addresses);
            let line = invitation.to_line();
            assert!(line.ends_with('\n') && line.len() <= LONGEST, "{line}");
            assert_eq!(Invitation::parse(&line), Ok(invitation.clone()));
            assert_eq!(Invitation::parse(line.trim_end()), Ok(invitation));
        }
    }

    #[test]
    fn what_is_no_invitation_is_told_from_a_broken_one() {
        let line = invitation(&["127.0.0.1:80"]).to_line();
        let words: Vec<&str> = line.split_whitespace().collect();
        let with = |at: usize, word: &str| {
            let with = |(i, other)| if i == at { word } else { other };
            let words: Vec<&str> = words.iter().copied().enumerate().map(with).collect();
            Invitation::parse(&words.join(" "))
        };
        assert_eq!(Invitation::parse("\n"), Err(NoInvitation::Nothing));
        assert_eq!(with(0, "Welcome"), Err(NoInvitation::Other));
        assert_eq!(with(1, "99"), Err(NoInvitation::Version(99)));
        assert_eq!(with(1, "x"), Err(NoInvitation::Malformed("version")));
        assert_eq!(with(4, "10000000000000000"), Err(NoInvitation::Malformed("pool")));
        assert_eq!(with(6, &words[6][1..]), Err(NoInvitation::Malformed("key")));
        assert_eq!(with(6, &words[6].replace('5', "+")), Err(NoInvitation::Malformed("key")));
        assert_eq!(with(6, &"é".repeat(32)), Err(NoInvitation::Malformed("key")));
        assert_eq!(Invitation::parse(&words[..7].join(" ")), Err(NoInvitation::Malformed("list of addresses")));
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", invitation(&["127.0.0.1:80"]));
        assert!(shown.contains("key: Key(..)") && !shown.contains("5a5a"), "{shown}");
    }
}
