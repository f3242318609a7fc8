//! What every command has at hand: the profile, who asks and why, and what was said about asking back.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use idempo_clock::{Clock as _, SystemClock};
use idempo_rpc::CALLER_METADATA;
use idempo_rpc::operators::Token;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::arguments::Global;
use crate::course::Course;
use crate::exit::Exit;
use crate::failure::{Failure, is_unreached};
use crate::print::{Color, Style, tell};
use crate::question;
use crate::settings::{Profile, Settings};

/// The longest name of a caller, in characters.
const CALLER_CHARS_MAX: usize = 64;
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one call may take where nothing was said about the command.
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
    no_input: bool,
    pub(crate) course: Course,
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
        let (yes, dry_run, no_input, reason) = (global.yes, global.dry_run, global.no_input, global.reason.clone());
        Ok(Self { settings, style, timeout, caller, token, yes, dry_run, reason, no_input, course: Course::default() })
    }

    /// How things are printed.
    #[must_use]
    pub fn style(global: &Global, profile: &Profile) -> Style {
        Style {
            form: global.output.or(profile.output).unwrap_or_default(),
            colored: Style::is_colored(if global.no_color { Color::Never } else { global.color.or(profile.color).unwrap_or_default() }),
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
        self.course.goes_on(Some(stops.into()));
    }

    /// Notes that what the command waited for has come to an end.
    pub fn has_ended(&self) {
        self.course.goes_on(None);
    }

    /// Asks for a change, of one process and once: a change that is not answered may have been made. `look_at` says where that is seen, as in
    /// "`idempo dlq jobs`". `None` where the process was never reached, so that the next one may be asked.
    ///
    /// # Errors
    /// What the process answered; [`Exit::TimedOut`] where it has not, and the outcome is not known.
    pub async fn change<A>(&self, look_at: &str, call: impl Future<Output = Result<Response<A>, Status>>) -> Result<Option<A>, Failure> {
        self.course.changing(Some(look_at));
        let answer = call.await;
        self.course.changing(None);
        match answer {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if is_unreached(&status) => Ok(None),
            Err(status) => Err(Failure::of_change(&status, look_at)),
        }
    }

    /// Asks whether `what` is to be done. `false` where it is not: then nothing more is to be said.
    ///
    /// # Errors
    /// [`Exit::Usage`] where there is no terminal to ask at; [`Exit::Failed`] where the answer is no; [`Exit::Interrupted`] by Ctrl-C.
    pub fn confirm(&self, what: &str) -> Result<bool, Failure> {
        self.asked(None, what)
    }

    /// As [`Context::confirm`], of a change to `target`, which is named by itself in the JSON of a dry run.
    ///
    /// # Errors
    /// As [`Context::confirm`].
    pub fn confirm_on(&self, target: &str, what: &str) -> Result<bool, Failure> {
        self.asked(Some(target), what)
    }

    fn asked(&self, target: Option<&str>, what: &str) -> Result<bool, Failure> {
        if self.dry_run {
            tell(&format!("dry run: would {what}"));
            self.course.would(target, what);
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if self.no_input {
            return Err(Failure::usage(format!("this would {what}, and --no-input forbids to ask: --yes says yes")));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!("this would {what}, and there is no terminal to ask at: --yes says yes")));
        }
        let began = Instant::now();
        let answer = question::ask(&format!("This will {what}. Go on? [y/N] "));
        self.course.asked(began.elapsed());
        if question::is_yes(&answer?) {
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
        request.set_timeout(call_limit(self.timeout));
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

/// How long one call may take. The command's own limit ends it first, and says so; the server learns when nobody waits any more.
fn call_limit(of_command: Option<Duration>) -> Duration {
    of_command.map_or(CALL_TIMEOUT, |limit| limit.saturating_add(CALL_TIMEOUT_LATER))
}

/// A length of time such as `500ms`, `30s`, `5m`, `9d 4h` or `2w`. A day has 24 hours.
///
/// # Errors
/// [`Exit::Usage`] where it is none, or none that lies ahead.
pub fn parse_timeout(text: &str) -> Result<Duration, Failure> {
    let days = || text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let parsed = text.parse::<SignedDuration>().or_else(|_| days()).ok().and_then(|length| Duration::try_from(length).ok());
    parsed
        .filter(|length| !length.is_zero())
        .ok_or_else(|| Failure::usage(format!("`{text}` is no length of time, such as 500ms, 30s, 5m or 7d")))
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
        assert_eq!(parse_timeout("7d").ok(), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_timeout("9d 4h").ok(), Some(Duration::from_secs(9 * 86_400 + 4 * 3_600)));
        assert_eq!(parse_timeout("2w").ok(), Some(Duration::from_secs(14 * 86_400)));
        for text in ["", "5", "-3s", "0s", "soon", "-1d", "1mo"] {
            assert_eq!(parse_timeout(text).map_err(|failure| failure.exit), Err(Exit::Usage), "{text}");
        }
    }

    #[test]
    fn a_call_ends_by_itself_only_after_the_command_that_makes_it() {
        assert_eq!(call_limit(None), CALL_TIMEOUT);
        for limit in [Duration::from_millis(200), Duration::from_secs(60)] {
            assert!(call_limit(Some(limit)) > limit, "{limit:?}");
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
