//! Process and end-to-end tests: the platform's real binaries on real servers, through the public API.
//!
//! Place in the flow: outside of it, as a client and an auditor. All tests share one stack with servers of its own, because some of them make servers
//! fail; it is started for the first test that needs it. So they run one after the other, in the order of [`Suite::trials`]: first what looks
//! at a platform at peace, then what breaks something, then the end.
//!
//! Not here: what one crate can prove by itself.

pub mod inventory;
pub mod log;
pub mod metrics;
pub mod probe;
mod session;
mod suite;
pub mod topic;
pub mod wallet;
mod world;

pub use suite::{Suite, Test};
pub use world::{Operated, World};
