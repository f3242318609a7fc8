//! What somebody tried who may not.

use std::net::SocketAddr;

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::{Request, Status};

use super::audit::NAMES_NOTED_MAX;
use super::{Refusal, rules};
use crate::caller::Caller;
use crate::{REASON_CHARS_MAX, descriptor};

/// What stands for somebody whose token is nobody's. It is no name that an operator can have.
const STRANGER: &str = "(unknown)";
/// The longest text of the caller's that an entry has, in characters, but for its reason.
const TEXT_CHARS_MAX: usize = 200;

/// A change that somebody tried who may not, as it goes into an audit. All texts are bounded, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    /// Who: the operator's name, or `(unknown)`.
    pub(super) caller: String,
    /// What, as audits call it.
    pub(super) action: &'static str,
    /// On what, as the request names it: its `parent` or `name`; empty where it names nothing.
    pub(super) resource: String,
    /// To what: its `names`, or else the resource.
    pub(super) target: String,
    /// Why, as it says.
    pub(super) reason: String,
    /// Why it was refused, such as `OPERATOR_UNKNOWN`.
    pub(super) outcome: &'static str,
    /// From where, as whom, and how many were refused since the last entry.
    pub(super) detail: String,
    /// How many tries this entry stands for beside itself.
    pub(super) others: u64,
    /// Whether an operator tried it, or a stranger.
    pub(super) is_known: bool,
}

/// A call that was refused to its caller.
#[derive(Debug)]
pub(super) struct Denied {
    /// The answer.
    pub(super) status: Status,
    /// What is to be noted in the audit; `None` where it only wanted to see something, and where too many were noted lately.
    pub(super) tried: Option<Box<Tried>>,
}

impl Tried {
    /// What a request is after. `others` went without an entry since the last one.
    pub(super) fn of<M: Message>(request: &Request<M>, method: &str, refusal: &Refusal<'_>, others: u64) -> Self {
        let action = match rules::operation(method) {
            Some(rules::Operation::Change(action)) => action,
            _ => "",
        };
        let encoded = request.get_ref().encode_to_vec();
        let texts = |field: &str, most: usize| {
            let number = descriptor::request_of(method).and_then(|message| descriptor::field_number(message, field));
            number.map(|number| texts(&encoded, number, most)).unwrap_or_default()
        };
        let first = |field: &str| texts(field, 1).0.into_iter().next().unwrap_or_default();
        let resource = Some(first("parent")).filter(|parent| !parent.is_empty()).unwrap_or_else(|| first("name"));
        let resource = printable(&resource, TEXT_CHARS_MAX);
        let (names, count) = texts("names", NAMES_NOTED_MAX);
        let listed = names.iter().map(|name| printable(name, TEXT_CHARS_MAX)).collect::<Vec<_>>().join(" ");
        let target = match count.saturating_sub(names.len()) {
            _ if names.is_empty() => resource.clone(),
            0 => listed,
            more => format!("{listed} and {more} more"),
        };
        Self {
            caller: refusal.operator.map_or(STRANGER, |operator| &operator.name).to_owned(),
            action,
            resource,
            target,
            reason: printable(&first("reason"), REASON_CHARS_MAX),
            outcome: refusal.reason,
            detail: detail(refusal, request.remote_addr(), Caller::of(request.metadata()), others),
            others,
            is_known: refusal.operator.is_some(),
        }
    }
}

fn detail(refusal: &Refusal<'_>, from: Option<SocketAddr>, says: Option<Caller>, others: u64) -> String {
    let mut detail = refusal.message.clone();
    if let Some(from) = from {
        detail.push_str(&format!("; from {from}"));
    }
    match says {
        Some(says) if !says.is_anonymous() => detail.push_str(&format!("; says it is {}", says.as_str())),
        _ => {}
    }
    if others > 0 {
        detail.push_str(&format!("; {others} more were refused since the last entry"));
    }
    detail
}

fn printable(text: &str, chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars).collect()
}

/// The first texts in the field `number` of an encoded message, and how many there are in all.
fn texts(encoded: &[u8], number: u32, most: usize) -> (Vec<String>, usize) {
    let (mut found, mut count) = (Vec::new(), 0);
    let mut left = encoded;
    while let Ok((field, kind)) = decode_key(&mut left) {
        if field != number || kind != WireType::LengthDelimited {
            if skip_field(kind, field, &mut left, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut left).ok().and_then(|length| usize::try_from(length).ok());
        let Some((text, rest)) = length.and_then(|length| left.split_at_checked(length)) else { break };
        left = rest;
        count += 1;
        if found.len() < most {
            found.push(String::from_utf8_lossy(text).into_owned());
        }
    }
    (found, count)
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::{RequeueRowsRequest, SwitchGenerationRequest};

    use super::*;

    #[test]
    fn texts_are_read_by_their_fields() {
        let names: Vec<String> = (0..13).map(|n| format!("outboxes/wallet/quarantinedRows/{n}")).collect();
        let request = RequeueRowsRequest { parent: "outboxes/wallet".to_owned(), names: names.clone(), ..Default::default() };
        let encoded = request.encode_to_vec();
        let number = |field| descriptor::field_number("idempo.ops.v1.RequeueRowsRequest", field).expect("a field");
        assert_eq!(texts(&encoded, number("names"), 3), (names.into_iter().take(3).collect(), 13));
        assert_eq!(texts(&encoded, number("parent"), 1), (vec!["outboxes/wallet".to_owned()], 1));
        assert_eq!(texts(&encoded, number("reason"), 1), (Vec::new(), 0));
        for end in 0..encoded.len() {
            let _ = texts(encoded.get(..end).unwrap_or_default(), 2, 100);
        }
    }

    #[test]
    fn what_was_tried_is_told_in_bounds() {
        let refusal = Refusal::no_token();
        let switch = SwitchGenerationRequest {
            name: format!("projections/inventory/generations/{}", "9".repeat(5_000)),
            reason: "a\nb".repeat(500),
            force: true,
            ..Default::default()
        };
        let tried = Tried::of(&Request::new(switch), "idempo.ops.v1.ProjectionService/SwitchGeneration", &refusal, 7);
        assert_eq!((tried.caller.as_str(), tried.action, tried.outcome), ("(unknown)", "switch", "OPERATOR_UNKNOWN"));
        assert_eq!((tried.resource.len(), tried.target.len(), tried.reason.len()), (200, 200, 128));
        assert!(!tried.reason.contains('\n') && tried.detail.ends_with("; 7 more were refused since the last entry"), "{tried:?}");
    }
}
