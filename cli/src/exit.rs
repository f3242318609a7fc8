//! What a command ends with: one of a few codes, which scripts may rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked.
    Done,
    /// It failed for another reason than those below.
    Failed,
    /// It was called wrongly, or its settings are wrong.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// Something is not in the state that this needs, or has changed meanwhile.
    Conflict,
    /// Some of what was asked was done, and some was not.
    Partial,
    /// Something that this needs is away.
    Unavailable,
    /// The caller may not do this.
    Denied,
    /// What was compared differs, or an invariant does not hold.
    Differences,
    /// It took longer than `--timeout`.
    TimedOut,
    /// It was interrupted by SIGINT.
    Interrupted,
}

/// The codes as `idempo --help` lists them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    called wrongly, or wrong settings
  3    what was named does not exist
  4    not in the state that this needs, or changed meanwhile
  5    partly done
  6    something that this needs is away
  7    denied
  8    what was compared differs, or an invariant does not hold
  124  took longer than --timeout
  130  interrupted";

impl Exit {
    /// Every way to end.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Partial,
        Self::Unavailable,
        Self::Denied,
        Self::Differences,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// The code that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Partial => 5,
            Self::Unavailable => 6,
            Self::Denied => 7,
            Self::Differences => 8,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help_and_none_means_two_things() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        for code in &codes {
            assert!(EXIT_CODES.lines().any(|line| line.split_whitespace().next() == Some(code.to_string().as_str())), "{code}");
        }
        codes.dedup();
        assert_eq!(codes.len(), EXIT_CODES.lines().count() - 1);
    }
}
