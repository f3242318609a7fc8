//! The inventory projector: its fold in any order of streams, its tables, and its queries on real PostgreSQL and Kafka.

#[cfg(test)]
mod against_the_fold;
#[cfg(test)]
mod beside_readers;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod early_wishes;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod generations;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod notifier;
#[cfg(test)]
mod players;
#[cfg(test)]
mod process;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod reactors;
#[cfg(test)]
mod sampled;
#[cfg(test)]
mod sql;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod standings;
#[cfg(test)]
mod stopped;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod world;
