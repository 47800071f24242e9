//! One value for each vCPU, each in its own cache line, so that a vCPU's writes don't slow the others down.

use super::{MAX_VCPUS, this_vcpu};

/// One value for each vCPU. `per_vcpu!` creates it with the same value for each.
#[derive(Debug)]
pub struct PerVcpu<T>([CachePadded<T>; MAX_VCPUS]);

/// A value in its own cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct CachePadded<T>(pub T);

impl<T> PerVcpu<T> {
    /// Creates it from these values, in the vCPUs' order.
    pub const fn new(values: [CachePadded<T>; MAX_VCPUS]) -> Self {
        Self(values)
    }

    /// Returns a vCPU's value; `None` for a number that no vCPU can have.
    #[inline]
    pub fn get(&self, vcpu: usize) -> Option<&T> {
        self.0.get(vcpu).map(|CachePadded(value)| value)
    }

    /// Returns the value of the caller's vCPU, in handlers too.
    #[inline]
    pub fn own(&self) -> Option<&T> {
        self.get(this_vcpu::number())
    }

    /// Returns all values, in the vCPUs' order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|CachePadded(value)| value)
    }
}

/// Creates a [`PerVcpu`] with the same value for each vCPU.
macro_rules! per_vcpu {
    ($value:expr) => {
        $crate::sync::PerVcpu::new([const { $crate::sync::CachePadded($value) }; $crate::sync::MAX_VCPUS])
    };
}
pub(crate) use per_vcpu;

#[cfg(test)]
mod tests {
    use super::{MAX_VCPUS, PerVcpu, this_vcpu};
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn each_has_its_own_and_no_line_of_anothers() {
        static COUNTS: PerVcpu<AtomicU32> = per_vcpu!(AtomicU32::new(7));
        let own = COUNTS.own().unwrap();
        own.store(1, Ordering::Relaxed);
        assert!(COUNTS.get(this_vcpu::number()).is_some_and(|count| core::ptr::eq(count, own)));
        assert_eq!(COUNTS.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u32>(), 7 * 127 + 1);
        assert!(COUNTS.get(MAX_VCPUS).is_none());
        let at = |vcpu| COUNTS.get(vcpu).map(|count| core::ptr::from_ref(count).addr() / 64);
        assert_ne!(at(0), at(1));
    }
}
