//! A complete Rollcall under test: the binary `rollcall` on real servers, started, asked, killed and started again; and
//! the platform's edge beside it: a table of identities with what writes to it.

pub mod edge;
pub mod lake;
pub mod sets;
pub mod table;
pub mod worker;

pub use edge::{Edge, EdgeLoad};
pub use lake::Lake;
pub use table::{TABLE, Table};
pub use worker::{Failure, Worker};
