//! Memory of a CPU for one packet's work: more than the stack has, and at offsets that vary.

use core::{
    arch::asm,
    mem::{self, MaybeUninit},
    ptr,
};

use dns_cache_common::{hash::NAME_WORDS, message::Message, question::Question};

use crate::{checksum::Form, maps::SCRATCH};

/// Offsets into a message are cut to this: the verifier sees that they lie within. No message or reply that
/// is worked on reaches so far.
const MASK: usize = 0x7ff;
/// From the highest offset, so many bytes more can be read.
const REACH: usize = MASK;

/// The message, first the query, then its reply; and its name in lower case.
#[repr(C)]
pub struct Scratch {
    /// Lets the question begin on a word.
    _offset: [u8; 4],
    message: [u8; MASK + REACH + 2],
    /// The name in lower case, filled up with zeros to a word.
    pub name: [u64; NAME_WORDS],
    /// See [`Self::forget`].
    forgotten: u64,
    /// See [`Query`].
    query_len: usize,
}

/// What was read of a query.
pub struct Asked {
    pub question: Question,
    pub form: Form,
}

/// All of it.
#[repr(C)]
pub struct Memory {
    pub scratch: Scratch,
    asked: MaybeUninit<Asked>,
}

/// This CPU's.
#[inline(always)]
pub fn memory() -> Option<&'static mut Memory> {
    // SAFETY: a tc program is not interrupted by another one on its CPU, so this is the only reference.
    SCRATCH.get_ptr_mut(0).map(|memory| unsafe { &mut *memory })
}

impl Memory {
    /// Keeps what was read off the stack. The compiler does not see that what is read there is what was written: nor
    /// does the verifier, which would otherwise follow the rest of the program once for each value.
    #[inline(always)]
    pub fn keep(&'static mut self, asked: Asked) -> (&'static Asked, &'static mut Scratch) {
        let mut place: *const Asked = self.asked.write(asked);
        // SAFETY: one instruction that changes nothing; the value was written just now.
        let asked = unsafe {
            asm!("{0} = {0}", inout(reg) place, options(nostack));
            &*place
        };
        (asked, &mut self.scratch)
    }
}

impl Scratch {
    /// The place of the message's byte `at`; [`REACH`] more bytes follow it.
    #[inline(always)]
    pub fn at(&mut self, at: usize) -> *mut u8 {
        // SAFETY: the offset is less than the array's length.
        unsafe { self.message.as_mut_ptr().add(cut::<MASK>(at)) }
    }

    /// `len`, which is not 0, so that the verifier sees that: more than nothing, and no more than follows every
    /// place.
    #[inline(always)]
    pub fn reach(len: usize) -> usize {
        cut::<MASK>(len.wrapping_sub(1)) + 1
    }

    /// Reads a number of the message in the machine's byte order.
    #[inline(always)]
    pub fn read<T: Copy>(&mut self, at: usize) -> T {
        // SAFETY: the bytes lie within the array; unaligned ones may be read, see `packet::header`.
        unsafe { *self.at(at).cast::<T>() }
    }

    /// Writes a number of the message in the machine's byte order.
    #[inline(always)]
    pub fn write<T: Copy>(&mut self, at: usize, value: T) {
        // SAFETY: as for `read`.
        unsafe { *self.at(at).cast::<T>() = value }
    }

    /// `value`, with nothing known about it: else the verifier would follow the rest of the program once
    /// for each value that it can have.
    #[inline(always)]
    pub fn forget<T: Copy>(&mut self, value: T) -> T {
        const { assert!(mem::size_of::<T>() <= mem::size_of::<u64>()) };
        // SAFETY: the field is large enough, and this value's own.
        unsafe {
            let place = (&raw mut self.forgotten).cast::<T>();
            ptr::write_volatile(place, value);
            ptr::read_volatile(place)
        }
    }
}

/// `number & LAST`, in a way that the compiler cannot leave out: it knows more of the number than it lets the
/// verifier see.
#[inline(always)]
fn cut<const LAST: usize>(number: usize) -> usize {
    let mut number = number;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= {1}", inout(reg) number, const LAST, options(pure, nomem, nostack)) };
    number
}

/// The query in the scratch. Its length is read anew each time: what the verifier learns of it by a comparison would make
/// each end of a loop a case of its own.
pub struct Query {
    scratch: *mut Scratch,
}

impl Query {
    #[inline(always)]
    pub fn new(scratch: &mut Scratch, len: usize) -> Self {
        scratch.query_len = len;
        Self { scratch }
    }
}

impl Message for Query {
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the only reference, see `scratch`.
        unsafe { ptr::read_volatile(&raw const (*self.scratch).query_len) }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: the only reference, see `scratch`.
        unsafe { (*self.scratch).read(at) }
    }

    #[inline(always)]
    fn number(&self, at: usize) -> u16 {
        // SAFETY: as above.
        u16::from_be(unsafe { (*self.scratch).read(at) })
    }

    #[inline(always)]
    fn settled(&self, number: usize) -> usize {
        // SAFETY: as above.
        unsafe { (*self.scratch).forget(number) & MASK }
    }
}

/// The name in the scratch, in lower case.
pub struct Name {
    scratch: *mut Scratch,
    len: usize,
}

impl Name {
    #[inline(always)]
    pub fn new(scratch: &mut Scratch, len: usize) -> Self {
        Self { scratch, len }
    }
}

impl Message for Name {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        const LAST: usize = NAME_WORDS * 8 - 1;
        // SAFETY: the only reference, see `scratch`; the offset is less than the array's length.
        unsafe {
            *(&raw const (*self.scratch).name)
                .cast::<u8>()
                .add(cut::<LAST>(at))
        }
    }

    #[inline(always)]
    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.byte(at), self.byte(at + 1)])
    }

    #[inline(always)]
    fn settled(&self, number: usize) -> usize {
        // SAFETY: as above.
        unsafe { (*self.scratch).forget(number) & MASK }
    }
}
