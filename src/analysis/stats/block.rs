//! Some rows of numbers, column by column, so that sums run along memory. Missing numbers are not-a-number.

/// Rows in a block, as many as fit the processor's cache with ten columns.
pub const BLOCK_ROWS: usize = 1024;

/// A block that is being filled.
#[derive(Debug)]
pub struct Block {
    columns: Vec<Vec<f64>>,
    rows: usize,
    capacity: usize,
}

impl Block {
    /// An empty block of so many columns that takes so many rows.
    pub fn new(columns: usize, capacity: usize) -> Self {
        Self { columns: vec![Vec::with_capacity(capacity); columns], rows: 0, capacity }
    }

    /// Adds a row, a number for each column.
    pub fn push(&mut self, row: &[f64]) {
        debug_assert_eq!(row.len(), self.columns.len());
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(*value);
        }
        self.rows += 1;
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.rows >= self.capacity
    }

    /// Rows in it.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The numbers of a column.
    pub fn column(&self, column: usize) -> &[f64] {
        &self.columns[column]
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.rows = 0;
    }
}
