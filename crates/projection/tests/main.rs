//! What the runtime promises: each event once, in a read model whose position moves with it, whatever is delivered, taken over or cut off.

#[cfg(test)]
mod broken_topics;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod effect_log;
#[cfg(test)]
mod group;
#[cfg(test)]
mod partition;
#[cfg(test)]
mod reaction;
#[cfg(test)]
mod reactor;
#[cfg(test)]
mod reactor_support;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod support;
#[cfg(test)]
mod view;
