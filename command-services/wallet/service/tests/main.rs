//! The wallet service, through gRPC, on real PostgreSQL.
