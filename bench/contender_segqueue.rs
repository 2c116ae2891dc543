// SPDX-License-Identifier: MIT
//! Two queues between threads, as Rust programs use them: crossbeam's `SegQueue`
//! ("segqueue") and a `VecDeque` behind a `Mutex` ("vecdeque"), which moves a batch under
//! one lock. Items of 64 bytes, for a type is fixed when it is compiled.
//!
//! `SegQueue` has no bound and no batches; its bound is that of bound.h.

use crossbeam_queue::SegQueue;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::raw::{c_char, c_int};
use std::sync::Mutex;

// As in bench.h.

#[repr(C)]
pub struct IoVec {
    base: *mut c_void,
    len: usize,
}

#[repr(C)]
pub struct Shape {
    producers: c_int,
    consumers: c_int,
    lanes: c_int,
    batch: c_int,
    size: usize,
    capacity: u64,
    // and more, that is of no interest here
}

#[repr(C)]
pub struct Contender {
    name: *const c_char,
    threads: c_int,
    waits: c_int,
    setup: unsafe extern "C" fn(*mut *mut c_void, *const Shape, *mut *const c_char) -> c_int,
    teardown: unsafe extern "C" fn(*mut c_void),
    attach: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    detach: unsafe extern "C" fn(*mut c_void),
    push_n: unsafe extern "C" fn(*mut c_void, c_int, *const IoVec, c_int) -> c_int,
    pop_n: unsafe extern "C" fn(*mut c_void, *mut IoVec, c_int) -> c_int,
}

// Nothing in it is ever written.
unsafe impl Sync for Contender {}

const ENOTSUP: c_int = 95;
const SIZE: usize = 64;

type Item = [u8; SIZE];

/// What differs between the two; the items of a call are a slice.
trait Queue: Sized {
    fn new(shape: &Shape) -> Self;
    /// `credit` is the end's own, and begins with 0.
    fn push(&self, items: &[Item], credit: &mut u64) -> usize;
    fn pop(&self, items: &mut [Item]) -> usize;
}

struct Segments {
    queue: SegQueue<Item>,
    capacity: u64,
    producers: u64,
}

impl Queue for Segments {
    fn new(shape: &Shape) -> Self {
        Segments {
            queue: SegQueue::new(),
            capacity: shape.capacity,
            producers: shape.producers as u64,
        }
    }

    fn push(&self, items: &[Item], credit: &mut u64) -> usize {
        if *credit == 0 {
            let room = self.capacity.saturating_sub(self.queue.len() as u64);
            *credit = (room + self.producers - 1) / self.producers;
        }
        let some = items.len().min(*credit as usize);
        for item in &items[..some] {
            self.queue.push(*item);
        }
        *credit -= some as u64;
        some
    }

    fn pop(&self, items: &mut [Item]) -> usize {
        for i in 0..items.len() {
            match self.queue.pop() {
                Some(item) => items[i] = item,
                None => return i,
            }
        }
        items.len()
    }
}

struct Locked {
    queue: Mutex<VecDeque<Item>>,
    capacity: usize,
}

impl Queue for Locked {
    fn new(shape: &Shape) -> Self {
        let capacity = shape.capacity as usize;
        Locked {
            queue: Mutex::new(VecDeque::with_capacity(capacity)),
            capacity,
        }
    }

    fn push(&self, items: &[Item], _credit: &mut u64) -> usize {
        let mut queue = self.queue.lock().unwrap();
        let some = items.len().min(self.capacity - queue.len());
        queue.extend(&items[..some]);
        some
    }

    fn pop(&self, items: &mut [Item]) -> usize {
        let mut queue = self.queue.lock().unwrap();
        let some = items.len().min(queue.len());
        for (to, from) in items.iter_mut().zip(queue.drain(..some)) {
            *to = from;
        }
        some
    }
}

struct End<Q> {
    queue: *const Q,
    credit: u64,
}

unsafe extern "C" fn setup<Q: Queue>(
    queue: *mut *mut c_void,
    shape: *const Shape,
    why: *mut *const c_char,
) -> c_int {
    let shape = &*shape;
    if shape.size != SIZE || shape.lanes > 1 {
        const WHY: &[u8] = b"only items of 64 bytes in one lane\0";
        *why = WHY.as_ptr() as *const c_char;
        return -ENOTSUP;
    }
    *queue = Box::into_raw(Box::new(Q::new(shape))) as *mut c_void;
    0
}

unsafe extern "C" fn teardown<Q: Queue>(queue: *mut c_void) {
    drop(Box::from_raw(queue as *mut Q));
}

unsafe extern "C" fn attach<Q: Queue>(queue: *mut c_void) -> *mut c_void {
    let queue = queue as *const Q;
    Box::into_raw(Box::new(End { queue, credit: 0 })) as *mut c_void
}

unsafe extern "C" fn detach<Q: Queue>(end: *mut c_void) {
    drop(Box::from_raw(end as *mut End<Q>));
}

unsafe extern "C" fn push_n<Q: Queue>(
    end: *mut c_void,
    _lane: c_int,
    items: *const IoVec,
    n: c_int,
) -> c_int {
    let end = &mut *(end as *mut End<Q>);
    let items = std::slice::from_raw_parts((*items).base as *const Item, n as usize);
    (*end.queue).push(items, &mut end.credit) as c_int
}

unsafe extern "C" fn pop_n<Q: Queue>(end: *mut c_void, items: *mut IoVec, n: c_int) -> c_int {
    let end = &mut *(end as *mut End<Q>);
    let items = std::slice::from_raw_parts_mut((*items).base as *mut Item, n as usize);
    (*end.queue).pop(items) as c_int
}

macro_rules! contender {
    ($symbol:ident, $queue:ty, $name:literal) => {
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        pub static $symbol: Contender = Contender {
            name: $name.as_ptr() as *const c_char,
            threads: 1,
            waits: 0,
            setup: setup::<$queue>,
            teardown: teardown::<$queue>,
            attach: attach::<$queue>,
            detach: detach::<$queue>,
            push_n: push_n::<$queue>,
            pop_n: pop_n::<$queue>,
        };
    };
}

contender!(bench_segqueue, Segments, b"segqueue\0");
contender!(bench_vecdeque, Locked, b"vecdeque\0");
