//! The checker's tests: runs that are right, and runs that are wrong on purpose.

mod answers;
mod effects;
mod files;
mod flow;
mod good;
mod items;
mod money;
mod rest;
mod size;
mod world;
