//! The allocator. libtorch frees and maps large tensors at every step; mimalloc keeps the pages.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells mimalloc to keep freed memory and to use large pages, so that a step finds the pages of the step before.
pub(crate) fn keep_pages() {
    const PURGE_DELAY: i32 = 15;
    const ALLOW_LARGE_OS_PAGES: i32 = 6;
    // SAFETY: plain setters of mimalloc; the indices are those of its `mi_option_t`.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        libmimalloc_sys::mi_option_set(ALLOW_LARGE_OS_PAGES, 1);
    }
}
