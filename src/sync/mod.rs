//! Floor 0: locks.

mod irq_mutex;

pub use irq_mutex::IrqMutex;
