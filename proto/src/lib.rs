//! The wire formats: events, commands, queries, and the descriptor set that reflection and tools read.
//!
//! The source is in `proto/idempo/<context>/<version>/`. Names of packages are names of modules here.

#![allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// The encoded `google.protobuf.FileDescriptorSet` of every file here, imports included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

pub mod event {
    pub mod v1 {
        tonic::include_proto!("idempo.event.v1");
    }
}

pub mod wallet {
    pub mod v1 {
        tonic::include_proto!("idempo.wallet.v1");
    }
}

pub mod inventory {
    pub mod v1 {
        tonic::include_proto!("idempo.inventory.v1");
    }
}

pub mod ops {
    pub mod v1 {
        tonic::include_proto!("idempo.ops.v1");
    }
}

pub mod position {
    pub mod v1 {
        tonic::include_proto!("idempo.position.v1");
    }
}
