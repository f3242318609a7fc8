//! Checks of single fields. All are made, and all violations are told at once.

use std::ops::RangeInclusive;

use idempo_ids::{StreamId, Uuid, parse_hyphenated, v7_millis};
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::caller::{CALLER_METADATA, Caller};
use crate::page::{self, NumberedPage};
use crate::status::refusal;
use crate::{name, position, timestamp};

/// The largest amount of one request, in the asset's minor unit.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;
/// The longest reason of a command, in characters.
pub const REASON_CHARS_MAX: usize = 128;
/// How many entries a page has at most when the caller doesn't say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// How many entries a page has at most.
pub const PAGE_SIZE_MAX: u32 = 1000;
/// How far ahead of our clock the time in an idempotency key may be.
pub const KEY_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// How many violations are told: an answer's headers are bounded.
pub const VIOLATIONS_MAX: usize = 16;

/// The violations found in a request so far.
///
/// A check answers with the checked value, or with `None` and remembers a violation. [`Self::accept`] turns the answers into values, or the
/// violations into INVALID_ARGUMENT:
///
/// ```
/// # use idempo_rpc::Violations;
/// let mut violations = Violations::new();
/// let wallet = violations.name("wallet", "wallets/{player}", "wallets/01890a5d-ac96-774b-bcce-b302099a8057");
/// let amount = violations.amount("amount", 100);
/// let ([player], amount) = violations.accept("wallet.idempo", (wallet, amount))?;
/// # Ok::<(), tonic::Status>(())
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Violations {
    found: Vec<(String, String)>,
}

impl Violations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers that `field` violates a rule. The description completes "`field` …": such as "must be greater than 0". It holds no text
    /// of the caller's.
    pub fn add(&mut self, field: &str, description: impl Into<String>) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push((field.to_owned(), description.into()));
        }
    }

    /// Remembers a violation of `field` where not `ok`; answers `ok`.
    pub fn check(&mut self, ok: bool, field: &str, description: impl FnOnce() -> String) -> bool {
        if !ok {
            self.add(field, description());
        }
        ok
    }

    /// Whether no violation was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Checks the idempotency key: a hyphenated UUIDv7, at most [`KEY_AHEAD_MAX`] ahead of `now`. How old it may be depends on whether it
    /// was seen before, and is decided where keys are stored.
    pub fn request_id(&mut self, now: Timestamp, text: &str) -> Option<Uuid> {
        const FIELD: &str = "request_id";
        let key = parse_hyphenated(text).ok().and_then(|key| Some((key, v7_millis(key)?)));
        let Some((key, millis)) = key else {
            let problem = if text.is_empty() { "is required: a UUIDv7" } else { "must be a hyphenated UUIDv7" };
            self.add(FIELD, problem);
            return None;
        };
        let newest = now.saturating_add(KEY_AHEAD_MAX).map_or(i64::MAX, Timestamp::as_millisecond);
        let in_time = i64::try_from(millis).is_ok_and(|millis| millis <= newest);
        self.check(in_time, FIELD, || "is from the future: its time is more than 5 minutes ahead".to_owned()).then_some(key)
    }

    /// Checks the metadata `idempo-caller`.
    pub fn caller(&mut self, metadata: &MetadataMap) -> Option<Caller> {
        let caller = Caller::of(metadata);
        self.check(caller.is_some(), CALLER_METADATA, || "must be one value of 1 to 64 letters, digits, `.`, `_`, `:` or `-`".to_owned());
        caller
    }

    /// Checks an id: a hyphenated UUID.
    pub fn uuid(&mut self, field: &str, text: &str) -> Option<Uuid> {
        let id = parse_hyphenated(text).ok();
        self.check(id.is_some(), field, || "must be a hyphenated UUID".to_owned());
        id
    }

    /// Checks a resource name whose variable segments are UUIDs; `pattern` is such as `wallets/{player}/holds/{hold}`.
    pub fn name<const N: usize>(&mut self, field: &str, pattern: &'static str, text: &str) -> Option<[Uuid; N]> {
        let ids = name::uuids(pattern, text);
        self.check(ids.is_some(), field, || format!("must be `{pattern}` with hyphenated UUIDs"));
        ids
    }

    /// Checks a resource name with one variable segment, a slug; `pattern` is such as `itemTypes/{item_type}`.
    pub fn slug_name(&mut self, field: &str, pattern: &'static str, text: &str) -> Option<String> {
        let slug = name::parse(pattern, text).map(|[slug]| slug).filter(|slug| name::is_slug(slug));
        self.check(slug.is_some(), field, || format!("must be `{pattern}` with 1 to 64 lower-case letters, digits or `_`"));
        slug.map(str::to_owned)
    }

    /// Checks a whole number.
    pub fn int(&mut self, field: &str, value: i64, bounds: RangeInclusive<i64>) -> Option<i64> {
        self.check(bounds.contains(&value), field, || format!("must be from {} to {}", bounds.start(), bounds.end())).then_some(value)
    }

    /// Checks an amount: 1 to [`AMOUNT_MAX`].
    pub fn amount(&mut self, field: &str, value: i64) -> Option<i64> {
        self.int(field, value, 1..=AMOUNT_MAX)
    }

    /// Checks a text's length, in characters, and that it has no control characters.
    pub fn text<'a>(&mut self, field: &str, text: &'a str, chars: RangeInclusive<usize>) -> Option<&'a str> {
        // A character takes at most 4 bytes: what is longer needs no counting.
        let fits = text.len() <= chars.end().saturating_mul(4) && chars.contains(&text.chars().count());
        let fits = self.check(fits, field, || format!("must have {} to {} characters", chars.start(), chars.end()));
        (fits && self.check(!text.contains(char::is_control), field, || "must not have control characters".to_owned())).then_some(text)
    }

    /// Checks an enumeration that must be given: neither 0 nor a number without a name.
    pub fn enumeration<E: TryFrom<i32>>(&mut self, field: &str, value: i32) -> Option<E> {
        if !self.check(value != 0, field, || "is required".to_owned()) {
            return None;
        }
        self.optional_enumeration(field, value).flatten()
    }

    /// Checks an enumeration that need not be given: `Some(None)` for 0.
    pub fn optional_enumeration<E: TryFrom<i32>>(&mut self, field: &str, value: i32) -> Option<Option<E>> {
        if value == 0 {
            return Some(None);
        }
        let known = E::try_from(value).ok();
        self.check(known.is_some(), field, || "must be one of the enumeration's values".to_owned()).then_some(known)
    }

    /// Checks a time that must be given.
    pub fn timestamp(&mut self, field: &str, value: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
        if !self.check(value.is_some(), field, || "is required".to_owned()) {
            return None;
        }
        self.optional_timestamp(field, value).flatten()
    }

    /// Checks a time that need not be given: `Some(None)` where it is not.
    pub fn optional_timestamp(&mut self, field: &str, value: Option<&prost_types::Timestamp>) -> Option<Option<Timestamp>> {
        let Some(value) = value else { return Some(None) };
        let time = timestamp::from_proto(value);
        self.check(time.is_some(), field, || "must be a time in the years 1 to 9999".to_owned()).then_some(time)
    }

    /// Checks `page_size`: 0 for [`PAGE_SIZE_DEFAULT`], or 1 to [`PAGE_SIZE_MAX`].
    pub fn page_size(&mut self, value: i32) -> Option<u32> {
        let size = u32::try_from(value).ok().filter(|size| *size <= PAGE_SIZE_MAX);
        self.check(size.is_some(), "page_size", || format!("must be from 0 to {PAGE_SIZE_MAX}"));
        size.map(|size| if size == 0 { PAGE_SIZE_DEFAULT } else { size })
    }

    /// Checks `page_token`: `Some(None)` for the first page, else the last key of the page before. `message` is the full name of the request.
    pub fn page_token<M: Message>(&mut self, message: &str, request: &M, token: &str) -> Option<Option<Vec<u8>>> {
        if token.is_empty() {
            return Some(None);
        }
        let last_key = page::decode(message, request, token);
        let problem = || "must be the next_page_token of a request with the same other fields".to_owned();
        self.check(last_key.is_some(), "page_token", problem).then_some(last_key)
    }

    /// Checks `page_size` and `page_token` of a list that goes by a number. `message` is the full name of the request.
    pub fn numbered_page<M: Message>(&mut self, message: &str, request: &M, size: i32, token: &str) -> Option<NumberedPage> {
        let size = self.page_size(size);
        let last = match self.page_token(message, request, token)? {
            None => None,
            Some(key) => {
                let last = key.try_into().ok().map(i64::from_be_bytes);
                self.check(last.is_some(), "page_token", || "must be the next_page_token of this list".to_owned()).then_some(last)?
            }
        };
        Some(NumberedPage::new(last, size?))
    }

    /// Checks a position: no streams for the empty text.
    pub fn position(&mut self, field: &str, text: &str) -> Option<Vec<(StreamId, u64)>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        let streams = position::decode(text);
        self.check(streams.is_some(), field, || "must be a position as a response had it".to_owned());
        streams
    }

    /// Checks `etag`: `Some(None)` for the empty text, else the version that it stands for.
    pub fn etag(&mut self, text: &str) -> Option<Option<u64>> {
        if text.is_empty() {
            return Some(None);
        }
        // Only the form that we give out: `+7` and `007` parse too.
        let version = text.parse::<u64>().ok().filter(|version| *version <= i64::MAX.unsigned_abs() && version.to_string() == text);
        self.check(version.is_some(), "etag", || "must be an etag as a response had it".to_owned()).then_some(version)
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all violations, where there are any.
    pub fn finish(self, domain: &str) -> Result<(), Status> {
        if self.found.is_empty() { Ok(()) } else { Err(self.into_status(domain)) }
    }

    /// Ends the checks and gives the checked values: `let (key, amount) = violations.accept(DOMAIN, (key, amount))?`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all violations, where there are any.
    pub fn accept<A: Accept>(self, domain: &str, checked: A) -> Result<A::Output, Status> {
        if !self.found.is_empty() {
            return Err(self.into_status(domain));
        }
        // A check that fails remembers a violation, so nothing is missing here but what a caller made `None` itself.
        checked.accept().ok_or_else(|| self.into_status(domain))
    }

    fn into_status(self, domain: &str) -> Status {
        let all: Vec<String> = self.found.iter().map(|(field, description)| format!("{field} {description}")).collect();
        let message = if all.is_empty() { "a required value is missing".to_owned() } else { all.join("; ") };
        let status = refusal(Code::InvalidArgument, "INVALID_FIELD", domain, message);
        self.found.into_iter().fold(status, |status, (field, description)| status.violation(field, description)).into_status()
    }
}

/// Answers of checks that can be taken together: tuples of 1 to 8 options.
pub trait Accept {
    /// The values.
    type Output;

    /// The values, where all are there.
    fn accept(self) -> Option<Self::Output>;
}

macro_rules! accept_tuples {
    ($(($($name:ident)+))+) => {$(
        impl<$($name),+> Accept for ($(Option<$name>,)+) {
            type Output = ($($name,)+);

            #[expect(non_snake_case, reason = "one name stands for the type and for its value")]
            fn accept(self) -> Option<Self::Output> {
                let ($($name,)+) = self;
                Some(($($name?,)+))
            }
        }
    )+};
}

accept_tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }

#[cfg(test)]
mod tests;
