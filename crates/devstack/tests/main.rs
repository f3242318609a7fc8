//! The dev stack on this machine, as a process.

mod leftovers;
mod proxies;
mod rights;
mod servers;
