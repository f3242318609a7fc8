//! What every command has at hand: the profile, who asks and why, and what was said about asking back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use idempo_clock::{Clock as _, SystemClock};
use idempo_rpc::CALLER_METADATA;
use idempo_rpc::operators::Token;
use jiff::{SignedDuration, Timestamp};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::arguments::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{Style, tell};
use crate::settings::{Profile, Settings};

/// The longest name of a caller, in characters.
const CALLER_CHARS_MAX: usize = 64;
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one call may take where the command has no shorter limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later a call ends by itself than the command that makes it.
const CALL_TIMEOUT_LATER: Duration = Duration::from_secs(1);

/// What every command has at hand.
#[derive(Debug)]
pub struct Context {
    /// Where the platform is.
    pub settings: Settings,
    /// How things are printed.
    pub style: Style,
    /// How long the whole command may take, where something was said about it.
    pub timeout: Option<Duration>,
    /// Who is asking, where no token says so.
    pub caller: MetadataValue<Ascii>,
    /// What the platform knows whoever is asking by.
    pub token: Option<Token>,
    /// Whether every question is answered with yes.
    pub yes: bool,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    reason: Option<String>,
    /// What stops the thing that the command waits for, while it waits.
    goes_on: Mutex<Option<String>>,
}

impl Context {
    /// Puts flags, variables and files together.
    ///
    /// # Errors
    /// [`Exit::Usage`], [`Exit::NotFound`] where they are wrong.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let settings = Settings::read(global.config.as_deref(), global.profile.as_deref())?;
        let profile = &settings.profile;
        let style = Self::style(global, profile);
        let timeout = global.timeout.as_deref().or(profile.timeout.as_deref()).map(parse_timeout).transpose()?;
        let caller = caller_of(global.caller.as_deref().or(profile.caller.as_deref()))?;
        let token = profile.token(global.token_file.as_deref())?;
        let (yes, dry_run, reason) = (global.yes, global.dry_run, global.reason.clone());
        Ok(Self { settings, style, timeout, caller, token, yes, dry_run, reason, goes_on: Mutex::new(None) })
    }

    /// How things are printed.
    #[must_use]
    pub fn style(global: &Global, profile: &Profile) -> Style {
        Style {
            form: global.output.or(profile.output).unwrap_or_default(),
            colored: Style::is_colored(global.color.or(profile.color).unwrap_or_default()),
            time: global.time_format.or(profile.time_format).unwrap_or_default(),
            now: SystemClock.now(),
        }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.settings.profile
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Why something is to be changed.
    ///
    /// # Errors
    /// [`Exit::Usage`] where nobody said.
    pub fn reason(&self) -> Result<String, Failure> {
        self.reason.clone().ok_or_else(|| Failure::usage("this changes something, and needs a reason: --reason <TEXT>"))
    }

    /// Notes that the command waits from now on for something that goes on without it; `stops` says what would stop it, as in
    /// "`idempo dlq cancel 7` stops it". Whoever ends the command early is told so.
    pub fn goes_on(&self, stops: impl Into<String>) {
        *self.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(stops.into());
    }

    /// Notes that what the command waited for has come to an end.
    pub fn has_ended(&self) {
        *self.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What people are to be told of the thing that goes on though the command has ended in this way.
    #[must_use]
    pub fn left_behind(&self, exit: Exit) -> Option<String> {
        let is_early = matches!(exit, Exit::TimedOut | Exit::Interrupted | Exit::Unavailable);
        let stops = self.goes_on.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stops.filter(|_| is_early).map(|stops| format!("it goes on: {stops}"))
    }

    /// Asks whether `what` is to be done. `false` where it is not: then nothing more is to be said.
    ///
    /// # Errors
    /// [`Exit::Usage`] where there is no terminal to ask at.
    pub fn confirm(&self, what: &str) -> Result<bool, Failure> {
        if self.dry_run {
            tell(&format!("dry run: would {what}"));
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!("this would {what}, and there is no terminal to ask at: --yes says yes")));
        }
        let mut asked = std::io::stderr();
        write!(asked, "This will {what}. Go on? [y/N] ")?;
        asked.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(true);
        }
        Err(Failure::new(Exit::Failed, "not confirmed: nothing was done"))
    }

    /// A request, with the caller's name and token and a deadline.
    #[must_use]
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.request_of_nobody(message);
        request.metadata_mut().insert(CALLER_METADATA, self.caller.clone());
        if let Some(token) = &self.token {
            token.authorize(request.metadata_mut());
        }
        request
    }

    /// A request that does not say who is asking, with a deadline.
    #[must_use]
    pub fn request_of_nobody<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // The command's own limit ends it first, and says so; the server learns when nobody waits any more.
        request.set_timeout(self.timeout.map_or(CALL_TIMEOUT, |limit| limit.saturating_add(CALL_TIMEOUT_LATER).min(CALL_TIMEOUT)));
        request
    }
}

/// A connection to a process of the platform, made when it is first used.
///
/// # Errors
/// [`Exit::Usage`] where the address is none.
pub fn channel(address: &str) -> Result<Channel, Failure> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url).map_err(|_| Failure::usage(format!("`{address}` is no address: host:port")))?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
}

/// A length of time such as `500ms`, `30s`, `5m`.
///
/// # Errors
/// [`Exit::Usage`] where it is none, or none that lies ahead.
pub fn parse_timeout(text: &str) -> Result<Duration, Failure> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
    parsed
        .filter(|length| !length.is_zero())
        .ok_or_else(|| Failure::usage(format!("`{text}` is no length of time, such as 500ms, 30s or 5m")))
}

fn caller_of(given: Option<&str>) -> Result<MetadataValue<Ascii>, Failure> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    let name = match given {
        Some(name) => name.to_owned(),
        None => {
            let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
            let user: String = user.chars().map(|c| if is_part(c) { c } else { '-' }).collect();
            format!("cli:{}", if user.is_empty() { "unknown" } else { &user }).chars().take(CALLER_CHARS_MAX).collect()
        }
    };
    let fits = (1..=CALLER_CHARS_MAX).contains(&name.len()) && name.chars().all(is_part);
    let value = name.parse().ok().filter(|_| fits);
    value.ok_or_else(|| Failure::usage(format!("`{name}` is no caller: 1 to 64 letters, digits, `.`, `_`, `:` or `-` (--caller)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_with_their_unit() {
        assert_eq!(parse_timeout("500ms").ok(), Some(Duration::from_millis(500)));
        assert_eq!(parse_timeout("5m").ok(), Some(Duration::from_secs(300)));
        for text in ["", "5", "-3s", "0s", "soon"] {
            assert_eq!(parse_timeout(text).map_err(|failure| failure.exit), Err(Exit::Usage), "{text}");
        }
    }

    #[test]
    fn a_caller_is_a_short_name() {
        assert!(caller_of(Some("cli:red")).is_ok());
        assert!(caller_of(None).is_ok());
        for name in ["", "two words", &"x".repeat(65)] {
            assert!(caller_of(Some(name)).is_err(), "{name}");
        }
    }
}
