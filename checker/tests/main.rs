//! The checker's tests: runs that are right, and runs that are wrong on purpose.
