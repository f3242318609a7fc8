use idempo_proto::event::v1::Asset;
use tonic_types::StatusExt as _;

use super::*;

const DOMAIN: &str = "wallet.idempo";
/// A UUIDv7 of 2023-06-29T23:36:09.750Z.
const KEY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn now() -> Timestamp {
    Timestamp::from_millisecond(0x0189_0a5d_ac96).expect("in range")
}

/// What a check says about a value: the value, or the violated field.
fn checked<T>(check: impl FnOnce(&mut Violations) -> Option<T>) -> Result<T, String> {
    let mut violations = Violations::new();
    let value = check(&mut violations);
    assert_eq!(value.is_none(), !violations.is_empty(), "no value and no violation, or both");
    value.ok_or_else(|| violations.found.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>().join(","))
}

#[test]
fn all_violations_are_told_at_once() {
    let mut violations = Violations::new();
    let wallet = violations.name::<1>("wallet", "wallets/{player}", "wallets/mine");
    let amount = violations.amount("amount", 0);
    let refused = violations.accept(DOMAIN, (wallet, amount)).expect_err("two violations");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().map(|info| (info.reason.as_str(), info.domain.as_str())), Some(("INVALID_FIELD", DOMAIN)));
    let fields: Vec<_> = details.bad_request().expect("one").field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["wallet", "amount"]);
}

#[test]
fn without_violations_the_values_come_out() {
    let mut violations = Violations::new();
    let wallet = violations.name("wallet", "wallets/{player}", &format!("wallets/{KEY}"));
    let amount = violations.amount("amount", 7);
    let ([player], amount) = violations.accept(DOMAIN, (wallet, amount)).expect("no violation");
    assert_eq!((player.to_string().as_str(), amount), (KEY, 7));
    assert!(Violations::new().finish(DOMAIN).is_ok());
}

#[test]
fn a_missing_value_without_a_violation_is_still_refused() {
    let refused = Violations::new().accept(DOMAIN, (None::<i64>,)).expect_err("nothing there");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn the_number_of_violations_told_is_bounded() {
    let mut violations = Violations::new();
    for _ in 0..1000 {
        violations.add("field", "is bad");
    }
    let refused = violations.finish(DOMAIN).expect_err("many violations");
    assert_eq!(refused.get_details_bad_request().expect("one").field_violations.len(), VIOLATIONS_MAX);
}

#[test]
fn a_request_id_is_a_hyphenated_uuid_v7() {
    assert_eq!(checked(|v| v.request_id(now(), KEY)).map(|key| key.to_string()), Ok(KEY.to_owned()));
    let v4 = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    for text in ["", "x", v4, &KEY.replace('-', ""), "00000000-0000-0000-0000-000000000000", &format!("{KEY} ")] {
        assert_eq!(checked(|v| v.request_id(now(), text)), Err("request_id".to_owned()), "{text}");
    }
}

#[test]
fn a_request_id_may_be_old_but_not_from_the_future() {
    let minute = SignedDuration::from_mins(1);
    assert!(checked(|v| v.request_id(now() + minute * 100_000, KEY)).is_ok());
    assert!(checked(|v| v.request_id(now() - minute * 5, KEY)).is_ok());
    assert!(checked(|v| v.request_id(now() - minute * 5 - SignedDuration::from_millis(1), KEY)).is_err());
    assert!(checked(|v| v.request_id(Timestamp::MAX, KEY)).is_ok());
}

#[test]
fn amounts_are_from_one_to_their_limit() {
    for amount in [1, AMOUNT_MAX] {
        assert_eq!(checked(|v| v.amount("amount", amount)), Ok(amount));
    }
    for amount in [0, -1, AMOUNT_MAX + 1, i64::MIN, i64::MAX] {
        assert_eq!(checked(|v| v.amount("amount", amount)), Err("amount".to_owned()));
    }
}

#[test]
fn texts_are_counted_in_characters_and_have_no_control_characters() {
    let reason = |text: &str| checked(|v| v.text("reason", text, 0..=REASON_CHARS_MAX).map(str::to_owned));
    for text in ["", "für Ärger", &"ä".repeat(128), &"🦀".repeat(128)] {
        assert_eq!(reason(text).as_deref(), Ok(text));
    }
    for text in [&"x".repeat(129), &"🦀".repeat(129), "a\nb", "a\0b", "\u{7f}"] {
        assert!(reason(text).is_err(), "{text:?}");
    }
    assert!(checked(|v| v.text("name", "", 1..=10).map(str::to_owned)).is_err());
}

#[test]
fn enumerations_have_only_their_own_values() {
    assert_eq!(checked(|v| v.enumeration::<Asset>("asset", 1)), Ok(Asset::Coin));
    for value in [0, 3, -1] {
        assert_eq!(checked(|v| v.enumeration::<Asset>("asset", value)), Err("asset".to_owned()));
    }
    assert_eq!(checked(|v| v.optional_enumeration::<Asset>("asset", 0)), Ok(None));
    assert_eq!(checked(|v| v.optional_enumeration::<Asset>("asset", 2)), Ok(Some(Asset::Stamp)));
    assert!(checked(|v| v.optional_enumeration::<Asset>("asset", 9)).is_err());
}

#[test]
fn times_are_those_of_protobuf() {
    let good = prost_types::Timestamp { seconds: 1, nanos: 5 };
    let bad = prost_types::Timestamp { seconds: 1, nanos: -5 };
    assert!(checked(|v| v.timestamp("as_of", Some(&good))).is_ok());
    assert!(checked(|v| v.timestamp("as_of", Some(&bad))).is_err());
    assert!(checked(|v| v.timestamp("as_of", None)).is_err());
    assert_eq!(checked(|v| v.optional_timestamp("as_of", None)), Ok(None));
    assert!(checked(|v| v.optional_timestamp("as_of", Some(&bad))).is_err());
}

#[test]
fn page_sizes_have_a_default_and_a_limit() {
    for (value, size) in [(0, PAGE_SIZE_DEFAULT), (1, 1), (1000, 1000)] {
        assert_eq!(checked(|v| v.page_size(value)), Ok(size));
    }
    for value in [-1, 1001, i32::MIN, i32::MAX] {
        assert_eq!(checked(|v| v.page_size(value)), Err("page_size".to_owned()));
    }
}

#[test]
fn page_tokens_and_positions_may_be_empty_but_not_made_up() {
    let list = idempo_proto::wallet::v1::ListEntriesRequest::default();
    let message = "idempo.wallet.v1.ListEntriesRequest";
    let token = page::encode(message, &list, b"key");
    assert_eq!(checked(|v| v.page_token(message, &list, "")), Ok(None));
    assert_eq!(checked(|v| v.page_token(message, &list, &token)), Ok(Some(b"key".to_vec())));
    assert_eq!(checked(|v| v.page_token(message, &list, "made up")), Err("page_token".to_owned()));
    assert_eq!(checked(|v| v.position("min_position", "")), Ok(Vec::new()));
    assert_eq!(checked(|v| v.position("min_position", "made up")), Err("min_position".to_owned()));
}

#[test]
fn an_etag_has_one_spelling() {
    assert_eq!(checked(|v| v.etag("")), Ok(None));
    assert_eq!(checked(|v| v.etag("7")), Ok(Some(7)));
    for text in ["007", "+7", "-7", " 7", "7.0", "x", "9223372036854775808"] {
        assert_eq!(checked(|v| v.etag(text)), Err("etag".to_owned()), "{text}");
    }
}

#[test]
fn item_types_are_slugs() {
    assert_eq!(checked(|v| v.slug_name("item_type", "itemTypes/{item_type}", "itemTypes/iron_sword")), Ok("iron_sword".to_owned()));
    for text in ["itemTypes/", "itemTypes/Iron", "itemTypes/a/b", "iron_sword"] {
        assert_eq!(checked(|v| v.slug_name("item_type", "itemTypes/{item_type}", text)), Err("item_type".to_owned()), "{text}");
    }
}

#[test]
fn ids_and_callers_are_checked() {
    assert!(checked(|v| v.uuid("player_id", KEY)).is_ok());
    assert_eq!(checked(|v| v.uuid("player_id", "me")), Err("player_id".to_owned()));
    assert!(checked(|v| v.caller(&MetadataMap::new())).is_ok());
    let mut metadata = MetadataMap::new();
    metadata.insert(CALLER_METADATA, "not ok".parse().expect("ASCII"));
    assert_eq!(checked(|v| v.caller(&metadata)), Err(CALLER_METADATA.to_owned()));
}
