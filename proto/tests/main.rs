//! Every event version that was ever shipped decodes for ever.
#![expect(clippy::unwrap_used, reason = "a test that meets something it does not expect ends there")]

mod golden;
