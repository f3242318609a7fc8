//! The rules of items, as examples (given, when, then) and as properties of command sequences.

#[cfg(test)]
mod grants;
#[cfg(test)]
mod item_types;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reservations;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod transfers;
#[cfg(test)]
mod uses;
