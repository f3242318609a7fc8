//! The one boot path of every binary: settings, telemetry, supervised tasks, readiness, and an end in order.
//!
//! A binary is a [`Role`] and a `main` of one line. [`run`] reads flags and settings synchronously, before there is an async runtime; then sets up
//! signals, the runtime and telemetry, opens the admin listener, starts the role, and waits for a reason to stop. The dev stack and tests start roles
//! inside a process that is already up, by [`launch`].
//!
//! # Settings
//! Built-in defaults ← a TOML file (`--config`, `IDEMPO_CONFIG`) ← environment variables ← flags. `IDEMPO_GRPC__LISTEN` is the key `grpc.listen`;
//! `IDEMPO_DATABASE__PASSWORD_FILE` names a file that holds `database.password`. Unknown keys are refused, with the key and who set it. `--dump-config`
//! prints what is in effect, secrets as `***`. Secrets are refused as flags, and as built-in defaults.
//!
//! # Tasks
//! What the end of a task means is declared where it is spawned ([`Task`]), and so is when it is stopped ([`Stage`]): what takes in work first, then what
//! work in flight still needs.
//!
//! # Admin listener
//! `/livez` answers while the process' runtime does; `/readyz` lists what is missing with status 503, or answers 200; `/metrics` is Prometheus' text
//! format.
//!
//! # The end
//! SIGTERM or SIGINT: not ready → the edge stops and drains → the core stops and drains → spans are sent → exit. A second signal ends the process from
//! the signal handler, whatever its threads are doing.
//!
//! | exit code | |
//! |---|---|
//! | 0 | stopped in order when asked to; `--help`, `--version`, `--dump-config` |
//! | 1 | the role could not start, or a task failed |
//! | 2 | the command line or the settings were refused |
//! | 124 | tasks were still running at the end of the grace period (`platform.grace_ms`) |
//! | 130, 143 | a second signal came: SIGINT, SIGTERM |
//!
//! # Invariants
//! * A process that says it is ready has met every condition, and stops saying so before its first task is stopped.
//! * No task ends unnoticed: it was asked to stop, or its declaration says what follows. A panic is an error like any other.
//! * The first failure ends the process, in order, with exit code 1.
//!
//! # Failpoints
//! With the feature `failpoints`, which no default turns on, the points that crates name in their modules `failpoint` are live: `FAILPOINTS` gives
//! them actions (`fail`'s own syntax), and `IDEMPO_KILL_AT=<point>[:<n>]` kills the process with SIGKILL when it reaches the point for the n-th time.
//! Without the feature the points are no code at all, and the variable is refused like any unknown setting.
//!
//! Not here: retries of single calls, connection pools, gRPC servers. The runtime knows tasks, not what they do.
//!
//! # A whole role
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use idempo_runtime::{Invalid, Platform, Role, Running, Stage, Task};
//! use serde::{Deserialize, Serialize};
//! use tokio::net::TcpListener;
//!
//! fn main() -> ExitCode {
//!     idempo_runtime::run::<Greeter>()
//! }
//!
//! struct Greeter;
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     greeting: String,
//!     grpc: Server,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Server {
//!     listen: std::net::SocketAddr,
//! }
//!
//! # impl Default for Server { fn default() -> Self { Self { listen: ([127, 0, 0, 1], 50051).into() } } }
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { greeting: "hello".to_owned(), grpc: Server::default() }
//!     }
//! }
//!
//! impl Role for Greeter {
//!     const NAME: &'static str = "greeter";
//!     const ABOUT: &'static str = "Greets whoever connects";
//!     type Config = Config;
//!
//!     fn validate(config: &Config) -> Result<(), Invalid> {
//!         if config.greeting.is_empty() {
//!             return Err(Invalid::new("greeting", "must not be empty"));
//!         }
//!         Ok(())
//!     }
//!
//!     async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
//!         let listener = TcpListener::bind(config.grpc.listen).await?;
//!         let address = listener.local_addr()?;
//!         // Takes in work: stopped first.
//!         platform.tasks.spawn(Task::critical("server").stage(Stage::Edge), move |cancel| async move {
//!             while let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await {
//!                 let (stream, _) = accepted?;
//!                 stream.try_write(config.greeting.as_bytes())?;
//!             }
//!             Ok(())
//!         });
//!         // Ready only once this is met.
//!         let warm = platform.readiness.condition("warm");
//!         platform.tasks.spawn(Task::finite("warm-up"), |cancel| async move {
//!             cancel.run_until_cancelled(tokio::time::sleep(Duration::from_millis(10))).await;
//!             warm.met();
//!             cancel.cancelled().await;
//!             Ok(())
//!         });
//!         Ok(Running::new().with_address("grpc", address))
//!     }
//! }
//! ```

mod admin;
mod boot;
mod cli;
mod config;
mod exit;
#[cfg(feature = "failpoints")]
mod failpoint;
mod launch;
mod platform;
mod readiness;
mod role;
mod signals;
mod tasks;
mod watch;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature failpoints is for tests: a release build must not have it");

pub use boot::run;
pub use config::PlatformConfig;
pub use launch::{Launched, launch};
pub use platform::Platform;
pub use readiness::{Condition, Missing, Readiness};
pub use role::{Invalid, Role, Running};
pub use tasks::{Failure, OnEnd, Overrun, Restart, Stage, Task, Tasks};
