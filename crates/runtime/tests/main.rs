//! The task tree and readiness in this process, and whole processes.

#[cfg(test)]
mod collector;
#[cfg(test)]
mod launch;
#[cfg(test)]
mod process;
#[cfg(test)]
mod readiness;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tasks;
