//! A command before it is sent: the request, what it should come to, and what to remember of its answer.

use bytes::Bytes;
use idempo_checker::history::Expected;
use idempo_checker::method::{Method, Request};
use idempo_ids::Uuid;
use prost::Message as _;

use super::world::World;

/// Takes an applied command's reply over into what the client knows.
pub(super) type Learn = Box<dyn FnOnce(&mut World, &Bytes) -> Result<(), prost::DecodeError> + Send>;

/// What to read after a command, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// The wallet of the player at this place.
    Wallet(usize),
    /// The unique item with this id, from what the client knows after the command.
    Item(String),
    /// The unique item that the client learned of last.
    NewestItem,
    /// The unique item with this id, which now belongs to a stranger: owner and hop.
    Given(String, String, u64),
}

/// A command ready to be sent.
pub(super) struct Planned {
    /// The method.
    pub(super) method: Method,
    /// The idempotency key; `None` where the request has none that is an id.
    pub(super) key: Option<Uuid>,
    /// The encoded request.
    pub(super) request: Bytes,
    /// What it should come to.
    pub(super) expected: Expected,
    /// Another valid request with the same key, and the field in which it differs.
    pub(super) change: Option<(Bytes, &'static str)>,
    /// What to remember of its reply.
    pub(super) learn: Option<Learn>,
    /// What to read afterwards.
    pub(super) look: Option<Look>,
}

/// A command being planned.
pub(super) struct Draft<R: Request> {
    request: R,
    planned: Planned,
}

impl<R: Request> Draft<R> {
    /// A command that should be applied. `request` carries `key` as its `request_id`.
    pub(super) fn new(key: Uuid, request: R) -> Self {
        let planned = Planned {
            method: R::METHOD,
            key: Some(key),
            request: request.encode_to_vec().into(),
            expected: Expected::Applied,
            change: None,
            learn: None,
            look: None,
        };
        Self { request, planned }
    }

    /// Says how the request can be changed so that it stays valid and differs in one field.
    #[must_use]
    pub(super) fn changed_by(mut self, field: &'static str, change: impl FnOnce(&mut R)) -> Self {
        let mut request = self.request.clone();
        change(&mut request);
        self.planned.change = Some((request.encode_to_vec().into(), field));
        self
    }

    /// Says what to remember of the reply.
    #[must_use]
    pub(super) fn learning(mut self, learn: impl FnOnce(&mut World, R::Reply) + Send + 'static) -> Self {
        self.planned.learn = Some(Box::new(move |world, reply| {
            learn(world, R::Reply::decode(reply.clone())?);
            Ok(())
        }));
        self
    }

    /// Says what to read afterwards.
    #[must_use]
    pub(super) fn then_look(mut self, look: Look) -> Self {
        self.planned.look = Some(look);
        self
    }

    /// A command that should be refused with this reason.
    #[must_use]
    pub(super) fn refused(mut self, reason: &'static str) -> Planned {
        self.planned.expected = Expected::Refused(reason.into());
        self.planned
    }

    /// A request that is malformed in this field. Its refusal binds its key: also the request that mends it comes too late.
    #[must_use]
    pub(super) fn invalid(mut self, field: &'static str) -> Planned {
        self.planned.expected = Expected::Invalid(field.into());
        self.planned
    }

    /// A request that carries no id as its key and is malformed in that.
    #[must_use]
    pub(super) fn without_key(mut self) -> Planned {
        self.planned.key = None;
        self.invalid("request_id")
    }

    /// The command, which should be applied.
    #[must_use]
    pub(super) fn applied(self) -> Planned {
        self.planned
    }
}
