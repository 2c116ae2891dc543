// SPDX-License-Identifier: MIT
//! crossbeam's SegQueue, the in-process model of libshmq, and Mutex<VecDeque>, for
//! contender_rust.c: items of 64 bytes, one lane. A SegQueue has no capacity; a producer
//! asks for its length before every 32nd item, so that it stays near the wanted one.
use crossbeam_queue::SegQueue;
use std::cell::Cell as Own;
use std::collections::VecDeque;
use std::sync::Mutex;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Item([u8; 64]);

pub struct Seg {
    queue: SegQueue<Item>,
    capacity: usize,
}

pub struct Deque {
    queue: Mutex<VecDeque<Item>>,
    capacity: usize,
}

const LOOK: u32 = 32;

thread_local! {
    static UNTIL_LOOK: Own<u32> = const { Own::new(0) };
}

#[no_mangle]
pub extern "C" fn segqueue_new(capacity: usize) -> *mut Seg {
    Box::into_raw(Box::new(Seg { queue: SegQueue::new(), capacity }))
}

/// # Safety
/// `q` comes from segqueue_new() and is not used again.
#[no_mangle]
pub unsafe extern "C" fn segqueue_free(q: *mut Seg) {
    drop(Box::from_raw(q));
}

/// # Safety
/// `q` comes from segqueue_new(), `item` points to an item.
#[no_mangle]
pub unsafe extern "C" fn segqueue_push(q: *const Seg, item: *const Item) -> i32 {
    let q = &*q;
    let left = UNTIL_LOOK.with(Own::get);
    if left == 0 && q.queue.len() >= q.capacity {
        return 0;
    }
    UNTIL_LOOK.with(|u| u.set(if left == 0 { LOOK } else { left - 1 }));
    q.queue.push(*item);
    1
}

/// # Safety
/// `q` comes from segqueue_new(), `item` points to room for an item.
#[no_mangle]
pub unsafe extern "C" fn segqueue_pop(q: *const Seg, item: *mut Item) -> i32 {
    match (*q).queue.pop() {
        Some(got) => {
            *item = got;
            1
        }
        None => 0,
    }
}

#[no_mangle]
pub extern "C" fn vecdeque_new(capacity: usize) -> *mut Deque {
    let queue = Mutex::new(VecDeque::with_capacity(capacity));
    Box::into_raw(Box::new(Deque { queue, capacity }))
}

/// # Safety
/// `q` comes from vecdeque_new() and is not used again.
#[no_mangle]
pub unsafe extern "C" fn vecdeque_free(q: *mut Deque) {
    drop(Box::from_raw(q));
}

/// # Safety
/// `q` comes from vecdeque_new(), `item` points to an item.
#[no_mangle]
pub unsafe extern "C" fn vecdeque_push(q: *const Deque, item: *const Item) -> i32 {
    let q = &*q;
    let mut queue = q.queue.lock().unwrap();
    if queue.len() >= q.capacity {
        return 0;
    }
    queue.push_back(*item);
    1
}

/// # Safety
/// `q` comes from vecdeque_new(), `item` points to room for an item.
#[no_mangle]
pub unsafe extern "C" fn vecdeque_pop(q: *const Deque, item: *mut Item) -> i32 {
    match (*q).queue.lock().unwrap().pop_front() {
        Some(got) => {
            *item = got;
            1
        }
        None => 0,
    }
}
