//! The dev stack on this machine, as a process.

mod leftovers;
mod rights;
mod servers;
