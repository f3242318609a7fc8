//! The checker's tests: runs that are right, and runs that are wrong on purpose.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod effects;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod files;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod good;
#[cfg(test)]
mod items;
#[cfg(test)]
mod live;
#[cfg(test)]
mod money;
#[cfg(test)]
mod rest;
#[cfg(test)]
mod size;
#[cfg(test)]
mod world;
