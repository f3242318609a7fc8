//! Resource names: `wallets/{player}/holds/{hold}` and the like.

use idempo_ids::{Uuid, parse_hyphenated};

/// The longest slug, in characters.
const SLUG_CHARS_MAX: usize = 64;

/// The variable segments of `text`, where it has the form of `pattern`: segments in braces are variable and take anything but nothing, the
/// others stand for themselves. `None` where it has another form, or the pattern has another number of variable segments than `N`.
#[must_use]
pub fn parse<'a, const N: usize>(pattern: &str, text: &'a str) -> Option<[&'a str; N]> {
    let mut variables = [""; N];
    let mut free = variables.iter_mut();
    let mut given = text.split('/');
    for wanted in pattern.split('/') {
        let segment = given.next()?;
        if is_variable(wanted) {
            *free.next()? = segment;
            if segment.is_empty() {
                return None;
            }
        } else if segment != wanted {
            return None;
        }
    }
    (given.next().is_none() && free.next().is_none()).then_some(variables)
}

/// The ids in `text`, where it has the form of `pattern` and every variable segment is a hyphenated UUID.
#[must_use]
pub fn uuids<const N: usize>(pattern: &str, text: &str) -> Option<[Uuid; N]> {
    let segments: [&str; N] = parse(pattern, text)?;
    let mut ids = [Uuid::nil(); N];
    for (id, segment) in ids.iter_mut().zip(segments) {
        *id = parse_hyphenated(segment).ok()?;
    }
    Some(ids)
}

/// The number from 1 on that a variable segment says, in the one form in which numbers are given out: `+7` and `007` are none.
#[must_use]
pub fn number(segment: &str) -> Option<i64> {
    segment.parse::<i64>().ok().filter(|number| *number > 0 && number.to_string() == segment)
}

/// Whether `text` is a slug: 1 to 64 lower-case letters, digits and `_`.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    (1..=SLUG_CHARS_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

fn is_variable(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn a_name_of_the_pattern_gives_its_variable_segments() {
        assert_eq!(parse("wallets/{player}/holds/{hold}", "wallets/a/holds/b"), Some(["a", "b"]));
        assert_eq!(parse("systemAccounts/{account}", "systemAccounts/mint"), Some(["mint"]));
        assert_eq!(parse("wallets/{}", "wallets/a"), Some(["a"]));
    }

    #[test]
    fn a_name_of_another_form_is_none() {
        for text in ["", "wallets", "wallets/", "wallets/a/", "/wallets/a", "players/a", "wallets/a/b", "Wallets/a"] {
            assert_eq!(parse::<1>("wallets/{player}", text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_with_another_number_of_variables_is_none() {
        assert_eq!(parse::<2>("wallets/{player}", "wallets/a"), None);
        assert_eq!(parse::<0>("wallets/{player}", "wallets/a"), None);
    }

    #[test]
    fn only_hyphenated_ids_name_anything() {
        let [player] = uuids("wallets/{player}", &format!("wallets/{ID}")).expect("a name");
        assert_eq!(player.to_string(), ID);
        assert_eq!(uuids::<1>("wallets/{player}", &format!("wallets/{}", ID.replace('-', ""))), None);
        assert_eq!(uuids::<1>("wallets/{player}", "wallets/mine"), None);
    }

    #[test]
    fn a_number_has_one_form() {
        assert_eq!((number("1"), number("9223372036854775807")), (Some(1), Some(i64::MAX)));
        for text in ["", "0", "-1", "+7", "007", "7 ", "9223372036854775808", "seven"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn slugs_are_lower_case_and_bounded() {
        assert!(is_slug("iron_sword_2"));
        assert!(is_slug(&"x".repeat(64)));
        for text in ["", "Iron", "iron-sword", "iron sword", "schön", &"x".repeat(65)] {
            assert!(!is_slug(text), "{text}");
        }
    }
}
