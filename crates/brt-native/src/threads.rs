//! Work of the kernels on as many threads as libtorch's own operations use.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{IntoParallelIterator, ParallelIterator},
};

/// Values that one task of a kernel over rows computes; fixed, so that sums do not depend on the number of threads.
pub(crate) const TASK_VALUES: usize = 1 << 16;

/// The pool of the last number of threads that was asked for.
static POOL: Mutex<Option<(usize, Arc<ThreadPool>)>> = Mutex::new(None);

/// Runs of tasks for each thread, so that one that is late holds up nobody for long.
const RUNS_PER_THREAD: usize = 4;

/// Calls `work` for runs of numbers that together are those below `num_tasks`: those of a run share their scratch. One thread
/// gets one run; lengths differ by one at most.
pub(crate) fn each_run(num_tasks: usize, work: impl Fn(Range<usize>) + Sync) {
    let most = match tch::get_num_threads().max(1) as usize {
        1 => 1,
        num_threads => RUNS_PER_THREAD * num_threads,
    };
    let num_runs = num_tasks.min(most);
    each(num_runs, |run| work(run * num_tasks / num_runs..(run + 1) * num_tasks / num_runs));
}

/// Calls `work` for each number below `num_tasks`.
pub(crate) fn each(num_tasks: usize, work: impl Fn(usize) + Sync) {
    let num_threads = (tch::get_num_threads().max(1) as usize).min(num_tasks);
    match (num_threads, pool()) {
        (2.., Some(pool)) => pool.install(|| (0..num_tasks).into_par_iter().for_each(&work)),
        _ => (0..num_tasks).for_each(&work),
    }
}

/// Calls `work` once, inside of the pool, with the number of threads that it may use.
pub(crate) fn in_pool(work: impl FnOnce(usize) + Send) {
    match pool() {
        Some(pool) => pool.install(|| work(pool.current_num_threads())),
        None => work(1),
    }
}

/// Returns the pool, or nothing where there can be none: one thread then does all.
fn pool() -> Option<Arc<ThreadPool>> {
    let num_threads = tch::get_num_threads().max(1) as usize;
    if num_threads == 1 {
        return None;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.as_ref().is_none_or(|(num, _)| *num != num_threads) {
        let name = |idx| format!("brt-native-{idx}");
        let built = ThreadPoolBuilder::new().num_threads(num_threads).thread_name(name).build().ok()?;
        *pool = Some((num_threads, Arc::new(built)));
    }
    pool.as_ref().map(|(_, pool)| Arc::clone(pool))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn runs_are_all_tasks_once() {
        let _turn = crate::tests::take_turn();
        for (num_threads, num_tasks) in [1, 2, 3].into_iter().flat_map(|n| [0, 1, 7, 9, 40].map(|m| (n, m))) {
            let calls: Vec<AtomicUsize> = (0..num_tasks).map(|_| AtomicUsize::new(0)).collect();
            let lens = Mutex::new(vec![]);
            crate::tests::with_threads(num_threads, || {
                each_run(num_tasks, |run| {
                    lens.lock().expect("no thread has panicked").push(run.len());
                    run.for_each(|task| _ = calls[task].fetch_add(1, Ordering::Relaxed));
                });
            });
            let case = format!("{num_tasks} tasks on {num_threads}");
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1), "{case}");
            let lens = lens.into_inner().expect("no thread has panicked");
            let most = if num_threads == 1 { 1 } else { 4 * num_threads as usize };
            assert_eq!(lens.len(), num_tasks.min(most), "{case}");
            let shortest = lens.iter().min().copied().unwrap_or_default();
            assert!(lens.iter().all(|len| *len <= shortest + 1), "{case}: {lens:?}");
        }
    }
}
