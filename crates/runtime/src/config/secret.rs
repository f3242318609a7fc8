//! What in a configuration is secret, and how it is kept from view.

use toml::{Table, Value};

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

/// A key is secret when its last part is one of these, or ends in one after an underscore.
const SECRET_KEYS: [&str; 7] = ["password", "passphrase", "secret", "token", "api_key", "private_key", "credentials"];

/// Whether the value of the dotted `key` is secret.
pub(super) fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    SECRET_KEYS.iter().any(|name| last.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('_')))
}

/// Masks every secret in `table`.
pub(super) fn mask_table(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        if is_secret(key) {
            mask_whole(value);
        } else {
            mask_value(value);
        }
    }
}

/// Masks secrets within a value that is not secret as such.
fn mask_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_text(text),
        Value::Array(values) => values.iter_mut().for_each(mask_value),
        Value::Table(table) => mask_table(table),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// Masks a secret value, unless it is empty: that nothing is set is no secret.
fn mask_whole(value: &mut Value) {
    if value.as_str() != Some("") {
        *value = Value::String(MASK.to_owned());
    }
}

/// `text` with the passwords in it masked: the one of a URL's user, and any `password=` parameter.
pub(super) fn mask_text(text: &str) -> String {
    let text = mask_user(text);
    text.split_inclusive(['?', '&', ' ', '\t', '\n']).map(mask_parameter).collect()
}

fn mask_user(text: &str) -> String {
    let masked = text.split_once("://").and_then(|(scheme, rest)| {
        let (authority, query) = rest.split_once('?').map_or((rest, None), |(authority, query)| (authority, Some(query)));
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{scheme}://{name}:{MASK}@{host}{query}"))
    });
    masked.unwrap_or_else(|| text.to_owned())
}

/// One `key=value` with its delimiter.
fn mask_parameter(part: &str) -> String {
    match part.split_once('=') {
        Some((key, value)) if key.to_ascii_lowercase().ends_with("password") => {
            let delimiter = value.trim_start_matches(|c: char| !matches!(c, '?' | '&' | ' ' | '\t' | '\n'));
            format!("{key}={MASK}{delimiter}")
        }
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_secret, mask_text};

    #[test]
    fn keys_of_secrets_are_known_by_their_last_part() {
        assert!(["password", "database.password", "s3.secret", "api_token", "a.signing_private_key"].into_iter().all(is_secret));
        assert!(!["page_tokens", "password_file", "secretary", "password.length"].into_iter().any(is_secret));
    }

    #[test]
    fn passwords_within_text_are_masked_and_nothing_else() {
        let cases = [
            ("postgres://wallet:pa@ss@db:5432/wallet_db?a=b", "postgres://wallet:***@db:5432/wallet_db?a=b"),
            ("postgres://wallet@db/wallet_db", "postgres://wallet@db/wallet_db"),
            ("postgres://db/wallet_db?user=w&password=x&a=b", "postgres://db/wallet_db?user=w&password=***&a=b"),
            ("host=db password=x user=w", "host=db password=*** user=w"),
            ("127.0.0.1:9090", "127.0.0.1:9090"),
        ];
        for (text, masked) in cases {
            assert_eq!(mask_text(text), masked);
        }
    }
}
