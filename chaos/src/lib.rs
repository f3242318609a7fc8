//! Chaos: real processes on real servers under load, a seeded schedule of faults, and then the question whether anything is off.
//!
//! Place in the flow: outside of it, as the showcase, whose clients it lets play. It breaks processes, servers and networks from outside; where
//! inside a process a kill would hurt, the failpoints of the tests know better.
//!
//! What it keeps: the same seed and options give the same schedule, though not the same run: what a fault meets is decided by the machine. What
//! it does not do: judge by itself what is right. That is the checker's, which knows nothing of the faults.

pub mod account;
pub mod chance;
mod desk;
pub mod faults;
pub mod logs;
pub mod run;
pub mod schedule;
mod scrape;
mod settle;
pub mod stage;
pub mod timeline;
mod verify;
