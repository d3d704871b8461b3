//! The commands, and the process from its start to its end.

mod doctor;
mod footprint;
mod lifecycle;
mod supervision;
