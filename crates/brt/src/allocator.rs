//! The allocator of `brt`, and of libtorch in it: jemalloc, whose free memory joins to what is asked for next.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Options of jemalloc: large blocks share their memory with all others, and free pages are kept, so that a step finds those
/// of the step before.
#[used]
#[unsafe(export_name = "malloc_conf")]
static OPTIONS: Options = Options(c"oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1".as_ptr());

/// A pointer that jemalloc reads before `main`.
#[repr(transparent)]
struct Options(*const std::ffi::c_char);

// SAFETY: the text is a constant.
unsafe impl Sync for Options {}
