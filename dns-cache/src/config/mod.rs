//! Configuration: the YAML file, its checks, and the checked form.

mod model;

pub use model::*;
