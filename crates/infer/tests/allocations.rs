//! What a look takes from the allocator: nothing that grows with the picture.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::{bright, frame, picture, runtime, square};
use flow::Frame;
use infer::Model;

/// The system's allocator, which counts for each thread what it hands out.
struct Counting;

thread_local! {
    static TAKEN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: everything is passed on to the system's allocator as it came; the count is this thread's own and needs no
// memory of the allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Not there any more while a thread ends.
        let _ = TAKEN.try_with(|taken| {
            let (times, bytes) = taken.get();
            taken.set((times + 1, bytes + layout.size()));
        });
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often and how much `work` allocates.
fn taken(work: impl FnOnce()) -> (usize, usize) {
    let before = TAKEN.get();
    work();
    let after = TAKEN.get();
    (after.0 - before.0, after.1 - before.1)
}

/// The Rust side of one run: the looks and the tables of the batch, and what the binding of ONNX Runtime needs for
/// its handles. ONNX Runtime's own memory comes from its arena and is not seen here.
const RUN: (usize, usize) = (20, 2560);
/// Per thing seen, one place in the list of detections, which grows by doubling.
const SEEN: usize = 256;

#[test]
fn a_look_allocates_nothing_that_grows_with_the_picture() {
    let mut model = Model::open(&runtime(), Arc::new(bright())).unwrap();
    let sizes = [(64, 64), (640, 360), (704, 576), (1920, 1080)];
    let empty: Vec<Frame> =
        sizes.iter().map(|(w, h)| frame("a", 0, picture(*w, *h, |_, _| [20; 3]))).collect();
    let busy = frame("a", 0, square([255, 60, 60], 16, 32));
    // Buffers grow to what the sizes need, once.
    for frame in empty.iter().chain([&busy]) {
        model.look(&[frame]).unwrap();
    }
    for (frame, size) in empty.iter().zip(sizes) {
        let (times, bytes) = taken(|| drop(model.look(&[frame]).unwrap()));
        println!("{size:?}: {times} allocations, {bytes} bytes");
        assert!(times <= RUN.0 && bytes <= RUN.1, "{size:?}: {times} allocations, {bytes} bytes");
    }
    let mut seen = 0;
    let (times, bytes) = taken(|| seen = model.look(&[&busy]).unwrap()[0].list.len());
    assert!(seen > 0 && times <= RUN.0 + 4 && bytes <= RUN.1 + SEEN * seen, "{seen}: {times}, {bytes} bytes");
}

#[test]
fn the_allocator_is_counted() {
    let (times, bytes) = taken(|| drop(std::hint::black_box(vec![0u8; 1000])));
    assert_eq!((times, bytes), (1, 1000));
}
