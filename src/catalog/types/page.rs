//! Pages of lists.

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// Where the next page starts; empty on the last.
    pub next: String,
}

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// At most this many; 0 means 100.
    pub size: i32,
    /// [`Page::next`] of the page before; empty for the first.
    pub token: String,
}
