//! The file of operators.

use std::fmt;

use super::token::TokenDigest;
use crate::caller::is_caller;

/// The most operators of a file.
const OPERATORS_MAX: usize = 1_000;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See everything.
    Viewer,
    /// See and change everything.
    Operator,
    /// Ask for parked dead letters in the name of an operator who is known elsewhere: for services of the platform.
    Service,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Service];

    /// The role's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line: who holds a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) name: String,
    pub(super) role: Role,
    digest: TokenDigest,
}

/// All operators of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Roster {
    operators: Vec<Operator>,
}

/// What is wrong with a file: the number of the line, from 1, and why. Nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

impl Roster {
    /// Reads a file: a line each with name, role and digest; what stands behind a `#` is a comment. An operator may stand there twice, with two
    /// tokens of one role, while one takes the place of the other.
    pub(super) fn read(text: &[u8]) -> Result<Self, Flaw> {
        let mut roster = Self::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let flaw = |problem| Flaw { line: number, problem };
            let line = std::str::from_utf8(line).map_err(|_| flaw("it is not UTF-8"))?;
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let (Some(role), Some(digest), None) = (words.next(), words.next(), words.next()) else {
                return Err(flaw("it must have three words: name, role and digest"));
            };
            roster.add(name, role, digest).map_err(flaw)?;
        }
        Ok(roster)
    }

    fn add(&mut self, name: &str, role: &str, digest: &str) -> Result<(), &'static str> {
        if !is_caller(name) {
            return Err("the name must have 1 to 64 letters, digits, `.`, `_`, `:` or `-`");
        }
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or("the role must be viewer, operator or service")?;
        let digest = digest_of(digest).ok_or("the digest must have 64 hexadecimal digits")?;
        if self.operators.iter().any(|other| other.digest == digest) {
            return Err("another line has the same digest");
        }
        if self.operators.iter().any(|other| other.name == name && other.role != role) {
            return Err("another line has the same name with another role");
        }
        if self.operators.len() == OPERATORS_MAX {
            return Err("there are more than 1000 operators");
        }
        self.operators.push(Operator { name: name.to_owned(), role, digest });
        Ok(())
    }

    /// Who holds a token. Every digest is compared to its end, so the time it takes says nothing about them.
    pub(super) fn holder(&self, digest: &TokenDigest) -> Option<&Operator> {
        let mut holder = None;
        for operator in &self.operators {
            let difference = operator.digest.iter().zip(digest).fold(0_u8, |all, (a, b)| all | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                holder = Some(operator);
            }
        }
        holder
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.operators.len()
    }
}

fn digest_of(text: &str) -> Option<TokenDigest> {
    let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
    let mut digest = TokenDigest::default();
    for byte in &mut digest {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::super::token::{Token, digest};
    use super::*;

    fn flaw(text: &str) -> (usize, &'static str) {
        let flaw = Roster::read(text.as_bytes()).expect_err(text);
        (flaw.line, flaw.problem)
    }

    #[test]
    fn who_holds_a_token_is_found_whatever_stands_around() {
        let (ana, bo, other) = (Token::generate(), Token::generate(), Token::generate());
        let text = format!("# people\r\n\n  {}\t# on call\n{}\n", ana.line("ana", Role::Operator), bo.line("bo", Role::Viewer));
        let roster = Roster::read(text.as_bytes()).expect("a roster");
        let holder = |token: &Token| roster.holder(&digest(token.expose())).map(|found| (found.name.as_str(), found.role));
        assert_eq!(holder(&ana), Some(("ana", Role::Operator)));
        assert_eq!(holder(&bo), Some(("bo", Role::Viewer)));
        assert_eq!(holder(&other), None);
        assert_eq!(Roster::read(b"").expect("nobody").len(), 0);
    }

    #[test]
    fn a_token_takes_the_place_of_another_while_both_are_valid() {
        let (old, new) = (Token::generate(), Token::generate());
        let text = format!("{}\n{}\n", old.line("ana", Role::Operator), new.line("ana", Role::Operator));
        assert_eq!(Roster::read(text.as_bytes()).expect("a roster").len(), 2);
        let text = format!("{}\n{}\n", old.line("ana", Role::Operator), new.line("ana", Role::Viewer));
        assert_eq!(flaw(&text), (2, "another line has the same name with another role"));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_by_its_number() {
        let good = Token::generate().line("ana", Role::Operator);
        let digest = "ab".repeat(32);
        assert_eq!(flaw(&format!("{good}\n\nbo viewer")).0, 3);
        assert_eq!(flaw(&format!("bo viewer {digest} more")).0, 1);
        assert_eq!(flaw(&format!("(bo) viewer {digest}")).1, "the name must have 1 to 64 letters, digits, `.`, `_`, `:` or `-`");
        assert_eq!(flaw(&format!("bo admin {digest}")).1, "the role must be viewer, operator or service");
        for wrong in ["ab", &"zz".repeat(32), &"ab".repeat(33), "+a".repeat(32).as_str()] {
            assert_eq!(flaw(&format!("bo viewer {wrong}")).1, "the digest must have 64 hexadecimal digits", "{wrong}");
        }
        assert_eq!(flaw(&format!("bo viewer {digest}\nana viewer {}", digest.to_uppercase())), (2, "another line has the same digest"));
        assert_eq!(Roster::read(b"ok viewer\n\xff").expect_err("no UTF-8").line, 1);
    }
}
