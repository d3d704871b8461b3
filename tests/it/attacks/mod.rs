//! One tenant uses up something that is shared, while another one's calls are measured. Each attack has a small form here, and
//! a full one behind `make attacks`.

mod store;
mod catalog;
