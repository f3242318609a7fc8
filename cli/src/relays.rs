//! Any relay answers for every outbox: the first one that is reached is asked.

use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use idempo_proto::ops::v1::{GetRelayStatusRequest, GetRelayStatusResponse, Outbox};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::context::{Context, channel};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::tell;

/// A client of one relay.
pub type Client = RelayServiceClient<Channel>;

/// Processes that say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// What they are.
    what: &'static str,
    /// Where they should be.
    pub addresses: Vec<String>,
}

impl Away {
    /// Nobody yet.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what, addresses: Vec::new() }
    }

    /// Warns of each on stderr.
    pub fn tell(&self) {
        for address in &self.addresses {
            tell(&format!("warning: the {} at {address} is away", self.what));
        }
    }
}

/// The relays of the profile.
pub struct Relays<'a> {
    context: &'a Context,
    clients: Vec<(String, Client)>,
}

impl<'a> Relays<'a> {
    /// The profile's relays.
    ///
    /// # Errors
    /// [`Exit::Usage`] where it has none, or an address is none.
    pub fn new(context: &'a Context) -> Result<Self, Failure> {
        let addresses = &context.profile().relays;
        if addresses.is_empty() {
            return Err(missing("relays"));
        }
        let clients = addresses.iter().map(|address| Ok((address.clone(), Client::new(channel(address)?))));
        Ok(Self { context, clients: clients.collect::<Result<_, Failure>>()? })
    }

    /// Asks the first relay that answers. Nothing is changed by it, so one that may have heard it is no hindrance to ask another.
    ///
    /// # Errors
    /// What the relay answered; [`Exit::Unavailable`] where none is reached.
    pub async fn ask<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        for (address, client) in &self.clients {
            match call(client.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_away(&status) => tell(&format!("warning: the relay at {address} is away")),
                Err(status) => return Err(status.into()),
            }
        }
        Err(self.none_reached())
    }

    /// Asks the first relay that is reached for a change, and no second one that a first may have heard of. `look_at` as in [`Context::change`].
    ///
    /// # Errors
    /// As [`Context::change`]; [`Exit::Unavailable`] where none is reached.
    pub async fn change<T, F>(&self, look_at: &str, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        for (address, client) in &self.clients {
            match self.context.change(look_at, call(client.clone())).await? {
                Some(answer) => return Ok(answer),
                None => tell(&format!("warning: the relay at {address} is away")),
            }
        }
        Err(self.none_reached())
    }

    fn none_reached(&self) -> Failure {
        let at: Vec<&str> = self.clients.iter().map(|(address, _)| address.as_str()).collect();
        Failure::new(Exit::Unavailable, format!("no relay is reached at {}", at.join(", "))).hint("`idempo doctor` looks at everything")
    }

    /// What every relay says.
    ///
    /// # Errors
    /// What a relay answered, where it is another thing than that it is away; [`Exit::Unavailable`] where none is reached.
    async fn statuses(&self) -> Result<(Vec<GetRelayStatusResponse>, Away), Failure> {
        let calls = self.clients.iter().map(|(address, client)| async move {
            let answer = client.clone().get_relay_status(self.context.request(GetRelayStatusRequest::default())).await;
            (address, answer)
        });
        let (mut found, mut away) = (Vec::new(), Away::new("relay"));
        for (address, answer) in futures_util::future::join_all(calls).await {
            match answer {
                Ok(response) => found.push(response.into_inner()),
                Err(status) if is_away(&status) => away.addresses.push(address.clone()),
                Err(status) => return Err(status.into()),
            }
        }
        if found.is_empty() {
            away.tell();
            return Err(Failure::new(Exit::Unavailable, "no relay is reached").hint("`idempo doctor` looks at everything"));
        }
        Ok((found, away))
    }

    /// Each outbox once, as its holder sees it; as anybody sees it where none has it. And which relays say nothing.
    ///
    /// # Errors
    /// What a relay answered, where it is another thing than that it is away; [`Exit::Unavailable`] where none is reached.
    pub async fn look(&self) -> Result<(Vec<Outbox>, Away), Failure> {
        let (answers, away) = self.statuses().await?;
        let mut outboxes: Vec<Outbox> = Vec::new();
        for outbox in answers.into_iter().flat_map(|answer| answer.outboxes) {
            match outboxes.iter_mut().find(|known| known.name == outbox.name) {
                None => outboxes.push(outbox),
                Some(known) if outbox.held_here && !known.held_here => *known = outbox,
                Some(_) => {}
            }
        }
        outboxes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((outboxes, away))
    }

    /// As [`Relays::look`], with a warning for each relay that says nothing.
    ///
    /// # Errors
    /// As [`Relays::look`].
    pub async fn outboxes(&self) -> Result<Vec<Outbox>, Failure> {
        let (outboxes, away) = self.look().await?;
        away.tell();
        Ok(outboxes)
    }

    /// The outbox with this name, `wallet` or `outboxes/wallet`.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the nearest names; as [`Relays::look`].
    pub async fn outbox(&self, name: &str) -> Result<Outbox, Failure> {
        let outboxes = self.outboxes().await?;
        let wanted = short(name);
        match outboxes.iter().find(|outbox| short(&outbox.name) == wanted) {
            Some(outbox) => Ok(outbox.clone()),
            None => Err(Failure::unknown("outbox", wanted, outboxes.iter().map(|outbox| short(&outbox.name)))),
        }
    }
}

/// An outbox's name without the collection before it.
#[must_use]
pub fn short(name: &str) -> &str {
    name.strip_prefix("outboxes/").unwrap_or(name)
}

/// The profile lacks what a command needs.
#[must_use]
pub fn missing(key: &str) -> Failure {
    Failure::usage(format!("the profile has no `{key}`"))
        .hint("`idempo config show` shows what is in force; beside `cargo xtask up`, .idempo/cli.toml has everything")
}

/// Whether the process itself is not there, or says nothing: an answer of its own would have details. It may have heard what it was asked, so this
/// is for what changes nothing; for changes there is [`Context::change`].
#[must_use]
pub fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled) && status.details().is_empty()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use clap::Parser as _;
    use tonic::Request;

    use super::*;
    use crate::arguments::Arguments;
    use crate::failure::is_unreached;

    /// What comes of a call to `address`.
    fn called(address: &str, limit: Duration) -> Status {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut request = Request::new(GetRelayStatusRequest::default());
            request.set_timeout(limit);
            Client::new(channel(address).expect("an address")).get_relay_status(request).await.expect_err("nobody answers")
        })
    }

    /// A context whose profile has these relays.
    fn context(name: &str, relays: &[String]) -> Context {
        let file = std::env::temp_dir().join(format!("idempo-cli-relays-{name}-{}.toml", std::process::id()));
        std::fs::write(&file, format!("[profiles.default]\nrelays = {relays:?}\n")).expect("a file");
        let path = file.to_string_lossy().into_owned();
        let arguments =
            Arguments::try_parse_from(["idempo", "relay", "status", "--timeout", "300ms", "--config", &path]).expect("a command");
        let context = Context::new(&arguments.global).expect("a context");
        std::fs::remove_file(&file).expect("removed");
        context
    }

    #[test]
    fn a_change_that_one_may_have_heard_of_is_sent_to_no_other() {
        let (mute, other) = (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
        other.set_nonblocking(true).expect("set");
        let address = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let context = context("change", &["127.0.0.1:1".to_owned(), address(&mute), address(&other)]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let failure = runtime.block_on(async {
            let relays = Relays::new(&context).expect("relays");
            let call = |mut relay: Client| {
                let request = context.request(GetRelayStatusRequest::default());
                async move { relay.get_relay_status(request).await }
            };
            relays.change("`idempo relay status`", call).await.expect_err("nobody answers")
        });
        assert_eq!(failure.exit, Exit::TimedOut, "{failure:?}");
        assert!(failure.message.contains("the outcome is not known: look at `idempo relay status`"), "{failure:?}");
        assert!(mute.accept().is_ok(), "the first one that listens is asked");
        assert!(other.accept().is_err(), "and no other");
    }

    #[test]
    fn where_nobody_listens_nobody_has_heard_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let status = called(&address, Duration::from_secs(5));
        assert!(is_away(&status) && is_unreached(&status), "{status:?}");
    }

    #[test]
    fn who_listens_and_says_nothing_may_have_heard_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let status = called(&address, Duration::from_millis(300));
        assert!(is_away(&status) && !is_unreached(&status), "{status:?}");
        assert_eq!(Failure::of_change(&status, "`idempo relay status`").exit, Exit::TimedOut);
    }
}
