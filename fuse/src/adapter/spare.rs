//! Memory that reads are answered from.

use parking_lot::Mutex;

/// Buffers that are kept: more than are likely to be in use at once.
const BUFFERS: usize = 16;
/// Of longer ones memory is given back.
const LONGEST: usize = 1 << 20;

/// Buffers that were used before. The one used last is given out first, because it is still in the processor's cache: the kernel has each thread answer
/// in turn, so that a buffer for each thread would always be the one that was not used for longest.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// Hands a buffer of `length` bytes, which hold anything, to `job`.
    pub(super) fn with<T>(&self, length: usize, job: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.0.lock().pop().unwrap_or_default();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let result = job(buffer.get_mut(..length).unwrap_or_default());
        let mut spare = self.0.lock();
        if spare.len() < BUFFERS && buffer.len() <= LONGEST {
            spare.push(buffer);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_last_is_used_again() {
        let spare = Spare::default();
        spare.with(100, |one| {
            spare.with(10, |two| two.fill(2));
            one.fill(1);
        });
        spare.with(20, |first| {
            assert_eq!(*first, [1; 20]);
            spare.with(10, |second| assert_eq!(*second, [2; 10]));
        });
    }

    #[test]
    fn no_more_is_kept_than_a_few_of_the_usual_length() {
        let spare = Spare::default();
        spare.with(LONGEST + 1, |_| ());
        assert_eq!(spare.0.lock().len(), 0);
        fn nested(spare: &Spare, depth: usize) {
            if depth > 0 {
                spare.with(1, |_| nested(spare, depth - 1));
            }
        }
        nested(&spare, BUFFERS + 5);
        assert_eq!(spare.0.lock().len(), BUFFERS);
    }
}
