//! One test binary.

#[cfg(test)]
mod metrics;
#[cfg(test)]
mod trace_context;
