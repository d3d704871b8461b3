//! Attacks: one tenant, or nobody, uses up what all share, while another tenant's calls are measured. The small forms take
//! seconds; `make attacks` runs the full ones.

mod upstream;
